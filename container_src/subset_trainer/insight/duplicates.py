"""Duplicates and near-duplicates: identical rows of a table, identical or nearly identical images.

A near-duplicate image was recompressed, brightened, or shifted by one pixel of 32. The features of a network's last
layer do not separate near-duplicates from other examples of the same class, because training makes a class's features
similar. Downscaled images do separate them.
"""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 8
"""Height and width in pixels to which images are downscaled for comparison."""
SIMILAR = 0.97
"""The minimum cosine similarity of near-duplicates; see benchmarks/flags.py."""
MOST_WITH_ALL = 50_000
"""The maximum number of distinct examples that are all compared with each other.

If there are more, each is compared only with those of its class.
"""
BLOCK = 2_048


def fingerprint(inputs: Tensor) -> Tensor:
    """Images uint8 [B, 3, H, W] → float16 [B, 192] of unit length; rows of a table [B, D] → a hash, int64 [B, 1]."""
    if inputs.ndim == 2:
        hashes = [blake2b(row.tobytes(), digest_size=8).digest() for row in inputs.cpu().numpy()]
        return torch.from_numpy(np.frombuffer(b"".join(hashes), np.int64).copy())[:, None]
    small = F.adaptive_avg_pool2d(inputs.float(), SIDE).flatten(1)
    contrast = small - small.mean(1, keepdim=True)
    length = contrast.norm(dim=1, keepdim=True)
    # An image without contrast can be compared by its colour only.
    return torch.where(
        length > 1, contrast / length.clamp(min=1), small / (255 * small.shape[1] ** 0.5)
    ).half()


def groups(fingerprints_NK: Tensor, labels_N: Tensor, device: torch.device) -> Tensor:
    """int32 [N]: the number of each example's group of (near-)duplicates; -1 if it has no duplicate.

    Groups are numbered from 0 in the order of their first examples. An example joins the group of the first earlier
    example that is similar to it. Each example thus has one link at most, and memory stays bounded.
    """
    first_N = _first_equal(fingerprints_NK.numpy())
    if fingerprints_NK.is_floating_point():
        distinct = torch.from_numpy(np.flatnonzero(first_N == np.arange(len(first_N))))
        for rows in _compared(distinct, labels_N):
            rows_to_first = _first_similar(fingerprints_NK[rows].to(device)).cpu()
            first_N[rows.numpy()] = rows[rows_to_first].numpy()
    # Each link leads to an earlier example, so in ascending order that example's group is already resolved.
    for row, first in enumerate(first_N.tolist()):
        if first != row:
            first_N[row] = first_N[first]
    sizes = np.bincount(first_N, minlength=len(first_N))
    number = np.cumsum(sizes > 1, dtype=np.int32) - 1
    return torch.from_numpy(np.where(sizes[first_N] > 1, number[first_N], np.int32(-1)))


def _first_equal(fingerprints_NK: np.ndarray) -> np.ndarray:
    """[N]: the first row that is bitwise identical to each row."""
    # Hashes are sorted, because sorting the rows themselves would copy them several times.
    blocks = range(0, len(fingerprints_NK), BLOCK)
    hashes = np.concatenate([_hashes(fingerprints_NK[start : start + BLOCK]) for start in blocks])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    first_N = first[inverse]
    for start in blocks:
        rows, firsts = fingerprints_NK[start : start + BLOCK], first_N[start : start + BLOCK]
        # Rows are compared by their bits, as the hash uses the bits.
        same = (_words(rows) == _words(fingerprints_NK[firsts])).all(1)
        firsts[~same] = start + np.flatnonzero(~same)
    return first_N


def _hashes(rows_BK: np.ndarray) -> np.ndarray:
    """[B] uint64: the sum of each row's words modulo 2⁶⁴, each word multiplied by an odd factor of its position."""
    words = _words(rows_BK)
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return (words * factors).sum(1, dtype=np.uint64)


def _words(rows_BK: np.ndarray) -> np.ndarray:
    """[B, …] uint64: the rows' bits, with the last word padded with zeros."""
    octets = np.ascontiguousarray(rows_BK).view(np.uint8)
    return np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8))).view(np.uint64)


def _compared(distinct: Tensor, labels_N: Tensor) -> Iterator[Tensor]:
    """Sets of rows, ascending, within which all rows are compared with each other."""
    if len(distinct) <= MOST_WITH_ALL:
        yield distinct
        return
    for label in labels_N.unique():
        yield distinct[labels_N[distinct] == label]


def _first_similar(prints_NK: Tensor) -> Tensor:
    """[N]: the first row that is similar to each row, often the row itself. Computed in blocks to bound memory."""
    count = len(prints_NK)
    first = torch.arange(count, device=prints_NK.device)
    # Half precision is slow on a CPU.
    prints_NK = prints_NK.float() if prints_NK.device.type == "cpu" else prints_NK
    for start in range(0, count, BLOCK):
        block = prints_NK[start : start + BLOCK]
        own = first[start : start + BLOCK]
        # Blocks of columns are scanned backwards, so that the first similar row is written last.
        for left in range(start, -1, -BLOCK):
            similar = block @ prints_NK[left : left + BLOCK].T >= SIMILAR
            if left == start:
                similar = similar.tril(-1)
            found = similar.any(1)
            own[found] = left + similar[found].byte().argmax(1)
    return first
