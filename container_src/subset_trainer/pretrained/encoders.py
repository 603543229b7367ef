"""Reads a text encoder from the channel `pretrained`: a Hugging Face model's folder, or an earlier job's model.

Files are read individually, by their standard names. Only tensors are unpickled, and code beside them is never run.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from subset_trainer.artifacts import DESCRIPTION, ENCODER_PREFIX, encoder_of
from subset_trainer.data.archives import ARCHIVE_SUFFIXES, content_of, open_tar
from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.kinds import registry as kinds
from subset_trainer.data.kinds.text import TOKENIZER, TextKind
from subset_trainer.data.texts.tokens import Tokens, read_tokenizer
from subset_trainer.errors import UserError, first_line
from subset_trainer.models import Body, Classifier, TextEncoder, body
from subset_trainer.models.joined import JoinedEncoder
from subset_trainer.pretrained import CHANNEL
from subset_trainer.pretrained.image_models import tensors

CONFIG = "config.json"
POOLING = "1_Pooling/config.json"
"""Where sentence-transformers describe the pooling of the last layer."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In order of preference. With the suffix `.index.json`, the list of the files over which the weights are split."""
EXPECTED = (
    f"a Hugging Face encoder's folder: {CONFIG}, {WEIGHTS[0]} (or {WEIGHTS[1]}) and {TOKENIZER} (or the vocabulary's "
    "files), or an earlier job's model.tar.gz"
)
_VOCABULARY = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)
_SAID = {"mean": "their outputs are averaged", "first": "only the output of the first one counts"}
_LARGEST_SMALL_FILE = 1 << 27


@dataclass(frozen=True)
class Encoder:
    """An encoder from the channel. `place`: its name in messages. `tokens`: its tokenizer. `digest`: of its weights.
    `head`, `classes`: the last layer of an earlier job; None for a Hugging Face folder."""

    place: str
    body: Body
    tokens: Tokens
    digest: str
    head: Mapping[str, Tensor] | None = None
    classes: tuple[str, ...] | None = None

    def has_last_layer(self, classes: tuple[str, ...]) -> bool:
        """Whether it comes with a last layer for these classes of texts."""
        return self.head is not None and self.classes == classes


@dataclass(frozen=True)
class _Folder:
    """The files in a folder of the channel, or in an archive, by name."""

    channel: Channel
    place: str
    files: Mapping[str, Callable[[], bytes]]

    def error(self, what: str) -> UserError:
        return self.channel.error(f"{self.place} {what}; expected {EXPECTED}.")

    def json(self, name: str) -> Any:
        """Read a JSON file. Raises UserError if it cannot be read."""
        try:
            raw = self.files[name]()
            if len(raw) > _LARGEST_SMALL_FILE:
                raise ValueError(f"it has {len(raw):,} bytes")
            return json.loads(raw)
        except (OSError, ValueError, RecursionError) as error:
            raise self.error(f"holds a {name} that cannot be read ({first_line(error)})") from error


def read(root: Path, most_tokens: int) -> Encoder | None:
    """The encoder in the channel; None if it holds something else, such as weights of an image model.

    Args:
        most_tokens: the largest number of tokens per text.

    Raises:
        UserError: the encoder is damaged or not supported.
    """
    channel = open_channel(CHANNEL, root)
    folder = _folder(channel)
    if DESCRIPTION in folder.files:
        about = folder.json(DESCRIPTION)
        if isinstance(about, dict) and about.get("architecture") == "encoder":
            return _earlier(folder, about, most_tokens)
    if CONFIG not in folder.files:
        return None
    config = folder.json(CONFIG)
    if isinstance(config, dict) and "model_type" not in config:
        return None
    weights, digest = _weights(folder)
    try:
        given = body(config, _pooling(folder, config), weights)
    except ValueError as error:
        raise folder.error(f"cannot be used: {error}") from error
    tokens = _tokens(folder, given, most_tokens)
    return Encoder(folder.place, given, tokens, digest)


def load_head(classifier: Classifier, encoder: Encoder, classes: tuple[str, ...]) -> str:
    """Give the last layer an earlier job's weights if that job had the same classes.

    Returns:
        A sentence for the log.
    """
    same = encoder.has_last_layer(classes) and not isinstance(classifier.network, JoinedEncoder)
    if same:
        assert isinstance(classifier.network, TextEncoder)
        classifier.head.load_state_dict(encoder.head or {})
        classifier.network.head_is_fresh = False
    size = sum(parameter.numel() for parameter in encoder.body.module.parameters())
    return (
        f"{CHANNEL} channel: {encoder.place}, a {encoder.body.config['model_type']} encoder of {size:,} weights, "
        f"{'its last layer included' if same else 'with a fresh last layer'}; the first "
        f"{encoder.tokens.length} tokens of a text are used, and {_SAID[encoder.body.pooling]}."
    )


def _folder(channel: Channel) -> _Folder:
    """The files beside the topmost config.json or model.json, or those in the only archive."""
    found = [file for file in channel.files if file.rsplit("/", 1)[-1] in (CONFIG, DESCRIPTION)]
    archives = [file for file in channel.files if file.lower().endswith(ARCHIVE_SUFFIXES)]
    if not found and len(archives) == 1:
        return _Folder(channel, f"'{archives[0]}'", _unpacked(channel, archives[0]))
    top = min(found, key=lambda file: (file.count("/"), file), default="")
    prefix = top[: top.rfind("/") + 1]
    place = f"the folder '{prefix[:-1]}'" if prefix else "the channel's folder"
    return _Folder(
        channel,
        place,
        {
            file.removeprefix(prefix): (channel.root / file).read_bytes
            for file in channel.files
            if file.startswith(prefix)
        },
    )


def _unpacked(channel: Channel, file: str) -> dict[str, Callable[[], bytes]]:
    members: dict[str, bytes] = {}
    try:
        with open_tar(channel.root / file) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                base = name.rsplit("/", 1)[-1]
                wanted = name if name == POOLING else base
                large = base.endswith((".safetensors", ".bin"))
                if (
                    not member.isfile()
                    or base.startswith(".")
                    or (not large and member.size > _LARGEST_SMALL_FILE)
                ):
                    continue
                if (large or base.endswith((".json", ".txt"))) and wanted not in members:
                    members[wanted] = content_of(archive, member)
    except Exception as error:  # damaged archives raise almost any exception
        raise channel.error(
            f"file '{file}' cannot be read ({first_line(error)}); expected an archive."
        ) from error
    return {name: lambda content=content: content for name, content in members.items()}  # type: ignore[misc]


def _weights(folder: _Folder) -> tuple[dict[str, Tensor], str]:
    names: list[str] = []
    for name in WEIGHTS:
        index = f"{name}.index.json"
        if name in folder.files:
            names = [name]
        elif index in folder.files:
            listed = folder.json(index)
            places = listed.get("weight_map") if isinstance(listed, dict) else None
            if not (
                isinstance(places, dict) and places and all(isinstance(file, str) for file in places.values())
            ):
                raise folder.error(f"holds an {index} without a weight_map of files")
            names = sorted(set(places.values()))
        if names:
            break
    else:
        others = [
            name for name in folder.files if name.endswith((".h5", ".msgpack", ".onnx", ".gguf", ".ot"))
        ]
        instead = (
            f"; '{others[0]}' has another format: save_pretrained writes a supported one" if others else ""
        )
        raise folder.error(f"holds no {WEIGHTS[0]}{instead}")
    found: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for name in names:
        if name not in folder.files:
            raise folder.error(f"lacks '{name}', which its index names")
        try:
            raw = folder.files[name]()
            digest.update(raw)
            found |= tensors(name, raw)
        except Exception as error:  # damaged state dicts raise almost any exception
            raise folder.error(f"holds a {name} that cannot be read ({first_line(error)})") from error
    return found, digest.hexdigest()[:8]


def _pooling(folder: _Folder, config: Any) -> str:
    """Pooling by the first token if the model was trained for that, otherwise by the mean."""
    if POOLING in folder.files:
        told = folder.json(POOLING)
        return "first" if isinstance(told, dict) and told.get("pooling_mode_cls_token") is True else "mean"
    return "first" if isinstance(config, dict) and config.get("classifier_pooling") == "cls" else "mean"


def _tokens(folder: _Folder, given: Body, most_tokens: int) -> Tokens:
    length = min(most_tokens, given.positions)
    try:
        definition = (
            folder.files[TOKENIZER]().decode("utf-8")
            if TOKENIZER in folder.files
            else _from_vocabulary(folder, given)
        )
        return read_tokenizer(definition, length, given.vocabulary)
    except (OSError, ValueError) as error:
        raise folder.error(f"holds no tokenizer that can be used ({first_line(error)})") from error


def _from_vocabulary(folder: _Folder, given: Body) -> str:
    """Build a tokenizer's definition from older vocabulary files. Raises ValueError if there are none."""
    small = {name: folder.files[name] for name in _VOCABULARY if name in folder.files}
    if not {"vocab.txt", "vocab.json"} & set(small):
        raise ValueError(f"no {TOKENIZER}, no vocab.txt and no vocab.json")
    from transformers import AutoTokenizer

    # Only these files are copied, so that transformers sees nothing else of the folder.
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in small.items():
            (Path(temporary) / name).write_bytes(content())
        try:
            made = AutoTokenizer.from_pretrained(
                temporary, config=given.module.config, local_files_only=True, trust_remote_code=False
            )
            definition: str = made.backend_tokenizer.to_str()
        except Exception as error:
            raise ValueError(first_line(error).replace(temporary, "its folder")) from error
    return definition


def _earlier(folder: _Folder, about: Mapping[str, Any], most_tokens: int) -> Encoder:
    weights, digest = _weights(folder)
    # Without the prefix that `tensors` has removed.
    prefix = ENCODER_PREFIX.removeprefix("network.")
    head = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        given = encoder_of(about, own)
        kind = kinds.from_json(about["preprocessing"])
        classes = kind.classes
        if not isinstance(kind, TextKind):
            # Its last layers join the encoder with a table.
            return Encoder(folder.place, given, _tokens(folder, given, most_tokens), digest)
        if set(head) != {"weight", "bias"} or head["weight"].shape[0] != len(classes):
            raise ValueError(f"its last layer is not of {len(classes)} classes")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise folder.error(f"cannot be used: {first_line(error)}") from error
    return Encoder(folder.place, given, _tokens(folder, given, most_tokens), digest, head, classes)
