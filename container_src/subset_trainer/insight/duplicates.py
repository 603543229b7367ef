"""Examples that are there more than once: the same rows of a table, the same or nearly the same images.

Nearly: copied, compressed anew, brightened, moved by a pixel of 32. A network's last layer does not tell these from
different examples of one class, which it has learned to make alike; small images do.
"""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 8
"""Pixels to which images are brought to be compared."""
SIMILAR = 0.97
"""Cosine from which on two are nearly the same; see benchmarks/flags.py."""
MOST_WITH_ALL = 50_000
"""Examples up to which each is compared with all others; beyond, with those of its class."""
BLOCK = 2_048


def fingerprint(inputs: Tensor) -> Tensor:
    """Images uint8 [B, 3, H, W] → float16 [B, 192], of length 1; rows of a table [B, D] → int64 [B, 1], a hash."""
    if inputs.ndim == 2:
        hashes = [blake2b(row.tobytes(), digest_size=8).digest() for row in inputs.cpu().numpy()]
        return torch.from_numpy(np.frombuffer(b"".join(hashes), np.int64).copy())[:, None]
    small = F.adaptive_avg_pool2d(inputs.float(), SIDE).flatten(1)
    contrast = small - small.mean(1, keepdim=True)
    length = contrast.norm(dim=1, keepdim=True)
    # Where there is no contrast, the colour is all that there is to compare.
    return torch.where(
        length > 1, contrast / length.clamp(min=1), small / (255 * small.shape[1] ** 0.5)
    ).half()


def groups(fingerprints_NK: Tensor, labels_N: Tensor, device: torch.device) -> Tensor:
    """int32 [N]: the number of the group of (nearly) equal examples that each is in; -1: there is only one of it.

    Groups are numbered from 0 in the order of their first examples. An example joins the group of the first before it
    that it resembles, so that memory and links stay bounded however many are alike.
    """
    first_N = _first_equal(fingerprints_NK.numpy())
    if fingerprints_NK.is_floating_point():
        distinct = torch.from_numpy(np.flatnonzero(first_N == np.arange(len(first_N))))
        for rows in _compared(distinct, labels_N):
            rows_to_first = _first_similar(fingerprints_NK[rows].to(device)).cpu()
            first_N[rows.numpy()] = rows[rows_to_first].numpy()
    # A link leads to an example before: in ascending order its own group is known.
    for row, first in enumerate(first_N.tolist()):
        if first != row:
            first_N[row] = first_N[first]
    sizes = np.bincount(first_N, minlength=len(first_N))
    number = np.cumsum(sizes > 1, dtype=np.int32) - 1
    return torch.from_numpy(np.where(sizes[first_N] > 1, number[first_N], np.int32(-1)))


def _first_equal(fingerprints_NK: np.ndarray) -> np.ndarray:
    """[N] the first row that is the same to the last bit."""
    # Sorting the rows themselves would take several copies of them.
    blocks = range(0, len(fingerprints_NK), BLOCK)
    hashes = np.concatenate([_hashes(fingerprints_NK[start : start + BLOCK]) for start in blocks])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    first_N = first[inverse]
    for start in blocks:
        rows, firsts = fingerprints_NK[start : start + BLOCK], first_N[start : start + BLOCK]
        # By their bits, as they are hashed.
        same = (_words(rows) == _words(fingerprints_NK[firsts])).all(1)
        firsts[~same] = start + np.flatnonzero(~same)
    return first_N


def _hashes(rows_BK: np.ndarray) -> np.ndarray:
    """[B] uint64: a sum of the row's words, each multiplied by an odd number of its own, modulo 2⁶⁴."""
    words = _words(rows_BK)
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return (words * factors).sum(1, dtype=np.uint64)


def _words(rows_BK: np.ndarray) -> np.ndarray:
    """[B, …] uint64: the rows' bits, the last word filled up with zeros."""
    octets = np.ascontiguousarray(rows_BK).view(np.uint8)
    return np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8))).view(np.uint64)


def _compared(distinct: Tensor, labels_N: Tensor) -> Iterator[Tensor]:
    """Rows, ascending, that are compared with each other."""
    if len(distinct) <= MOST_WITH_ALL:
        yield distinct
        return
    for label in labels_N.unique():
        yield distinct[labels_N[distinct] == label]


def _first_similar(prints_NK: Tensor) -> Tensor:
    """[N] the first row that is similar, often itself; in blocks."""
    count = len(prints_NK)
    first = torch.arange(count, device=prints_NK.device)
    # Half precision is slow on a CPU.
    prints_NK = prints_NK.float() if prints_NK.device.type == "cpu" else prints_NK
    for start in range(0, count, BLOCK):
        block = prints_NK[start : start + BLOCK]
        own = first[start : start + BLOCK]
        # From the last columns to the first, so that the first of all stays.
        for left in range(start, -1, -BLOCK):
            similar = block @ prints_NK[left : left + BLOCK].T >= SIMILAR
            if left == start:
                similar = similar.tril(-1)
            found = similar.any(1)
            own[found] = left + similar[found].byte().argmax(1)
    return first
