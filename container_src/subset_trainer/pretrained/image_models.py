"""Initial weights for an image model, from the channel `pretrained`: those of an earlier job, or from elsewhere.

Text encoders need more than weights: see :mod:`subset_trainer.pretrained.encoders`. Only tensors are unpickled:
safetensors are read as such, and torch loads state dicts with `weights_only`.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from subset_trainer.artifacts import DESCRIPTION
from subset_trainer.data.archives import ARCHIVE_SUFFIXES, check_fits, content_of, open_tar
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.errors import UserError, first_line
from subset_trainer.models import OWN_MODELS, Classifier
from subset_trainer.pretrained import CHANNEL

EXPECTED = (
    "one file of weights: .safetensors, a state dict in .pt, .pth or .bin, or an earlier job's model.tar.gz"
)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel of the images that torchvision's weights were trained on."""

_STATE_DICTS = (".pt", ".pth", ".bin")
_WITHIN = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts save the weights."""
_PREFIXES = ("module.", "network.", "model.")
_LARGEST_DESCRIPTION = 1 << 24


@dataclass(frozen=True)
class Pretrained:
    """Weights from the channel. `weights`: parameter name → values. `normalisation`: mean and standard deviation per
    channel in their training, None: unknown. `classes`: of the last layer, None: unknown. `digest`: of the file."""

    file: str
    weights: Mapping[str, Tensor]
    digest: str
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    classes: tuple[str, ...] | None = None


def read(root: Path) -> Pretrained:
    """Read the weights of a channel, with the `model.json` of an earlier job if there is one.

    Raises:
        UserError: there is no file of weights, or more than one, or it is damaged or holds something else.
    """
    channel = open_channel(CHANNEL, root)
    found = [
        file
        for file in channel.files
        if file.lower().endswith((".safetensors", *_STATE_DICTS, *ARCHIVE_SUFFIXES))
    ]
    if len(found) != 1:
        what = (
            f"{len(found)} files of weights ('{found[0]}', '{found[1]}')"
            if found
            else f"'{channel.files[0]}'"
        )
        raise channel.error(f"holds {what}; expected {EXPECTED}.")
    [file] = found
    try:
        parts = dict(_parts(root / file))
        description = next((f for f in channel.files if f.rsplit("/", 1)[-1] == DESCRIPTION), None)
        if description is not None and DESCRIPTION not in parts:
            parts[DESCRIPTION] = (root / description).read_bytes()
        about = json.loads(parts.pop(DESCRIPTION, b"{}"))
        if len(parts) != 1:
            raise ValueError(f"it holds {len(parts)} files of weights")
        [(name, raw)] = parts.items()
        weights = tensors(name, raw)
        classes, normalisation = _told(about)
    except UserError:
        raise
    except Exception as error:  # damaged archives and state dicts raise almost any exception
        raise channel.error(
            f"file '{file}' cannot be read ({first_line(error)}); expected {EXPECTED}."
        ) from error
    return Pretrained(file, weights, hashlib.sha256(raw).hexdigest()[:8], normalisation, classes)


def normalisation(
    pretrained: Pretrained, model_name: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel that the weights expect; None: the training images' own may be used."""
    return pretrained.normalisation or (None if model_name in OWN_MODELS else IMAGENET)


def load(classifier: Classifier, pretrained: Pretrained, model_name: str, classes: tuple[str, ...]) -> str:
    """Load the weights into the network; the last layer keeps fresh ones if it has other classes.

    Returns:
        A sentence for the log.

    Raises:
        UserError: the weights belong to another network.
    """
    wanted = classifier.network.state_dict()
    head = next(name for name, module in classifier.network.named_modules() if module is classifier.head)
    of_head = {name for name in wanted if name.startswith(f"{head}.")}
    taken: dict[str, Tensor] = {}
    for name, own in wanted.items():
        given = pretrained.weights.get(name)
        if name in of_head and (
            given is None
            or given.shape != own.shape
            or (pretrained.classes is not None and pretrained.classes != classes)
        ):
            continue
        if given is None:
            if name.endswith("num_batches_tracked"):  # missing in older files, and not used here
                continue
            raise _other(pretrained, model_name, f"lacks {name!r}")
        if given.shape != own.shape:
            raise _other(
                pretrained,
                model_name,
                f"has {name!r} in the shape {tuple(given.shape)}, not {tuple(own.shape)}",
            )
        if given.is_floating_point() and not bool(given.isfinite().all()):
            raise _other(pretrained, model_name, f"has numbers in {name!r} that are not finite")
        taken[name] = given
    classifier.network.load_state_dict(taken, strict=False)
    unused = len(set(pretrained.weights) - set(taken) - of_head)
    return (
        f"{CHANNEL} channel: weights of '{pretrained.file}', {len(taken)} tensors, "
        + ("its last layer included" if of_head & set(taken) else "with a fresh last layer")
        + (f"; {unused} others are not used." if unused else ".")
    )


def _other(pretrained: Pretrained, model_name: str, what: str) -> UserError:
    return UserError(
        f"{CHANNEL} channel: '{pretrained.file}' {what}; expected the weights of model={model_name}, by the names and "
        "in the shapes of its state_dict()."
    )


def _parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the weights and, in an archive, of the description."""
    if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        check_fits(path.stat().st_size, path.name)
        yield path.name, path.read_bytes()
        return
    with open_tar(path) as archive:
        for member in archive:
            base = member.name.rsplit("/", 1)[-1]
            wanted = base == DESCRIPTION or base.lower().endswith((".safetensors", *_STATE_DICTS))
            if not member.isfile() or not wanted or base.startswith("."):
                continue
            if base == DESCRIPTION and member.size > _LARGEST_DESCRIPTION:
                raise ValueError(f"'{member.name}' has {member.size:,} bytes")
            yield base, content_of(archive, member)


def tensors(name: str, raw: bytes) -> dict[str, Tensor]:
    """Name → values from safetensors or a state dict. Raises ValueError or almost any exception on other content."""
    content: Any
    if name.lower().endswith(".safetensors"):
        content = load_safetensors(raw)
    else:
        if zipfile.is_zipfile(io.BytesIO(raw)):
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                check_fits(sum(member.file_size for member in archive.infolist()), name)
        content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        content = next((content[key] for key in _WITHIN if isinstance(content.get(key), dict)), content)
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    ):
        raise ValueError("it holds values other than named tensors")
    for prefix in _PREFIXES:
        if any(key.startswith(prefix) for key in content):
            # Tensors without this prefix are not part of the network, such as our classifiers' mean and deviation.
            content = {
                key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)
            }
    return content


def _told(about: Any) -> tuple[tuple[str, ...] | None, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """The classes, and the mean and deviation of the images, in an earlier job's description."""
    if not about:
        return None, None
    preprocessing = about["preprocessing"]
    mean, std = (tuple(float(value) for value in preprocessing[name]) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise ValueError(f"{DESCRIPTION} does not describe an image model")
    return tuple(map(str, preprocessing["classes"])), (mean, std)
