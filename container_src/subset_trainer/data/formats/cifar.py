"""CIFAR-10 and CIFAR-100 in their published forms: binary or python batches, packed or unpacked.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. The python batches are pickles. They are read by a restricted
unpickler that accepts only numeric arrays, containers, strings and numbers, so that no code in a file can run.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from subset_trainer.data.archives import ARCHIVE_SUFFIXES, open_tar
from subset_trainer.data.channels import Channel, base_name
from subset_trainer.data.content import TEXT, beginning
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.labelled import ImageArray
from subset_trainer.errors import UserError

PIXELS = 3 * 32 * 32
DEEPEST = 1
"""A python batch is a dictionary of lists."""
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCH = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?|(train|test)(\.bin)?")
_EXTRA = re.compile(r"batches\.meta(\.txt)?|meta|(fine|coarse)_label_names\.txt|readme\.html|file\.txt~")
_NAMES = re.compile(r"(batches\.meta|fine_label_names)\.txt|batches\.meta|meta")


_Batch = tuple[str, np.ndarray, np.ndarray, int]
"""Name, pixels, labels and the number of classes of one file."""


@dataclass(frozen=True)
class Cifar:
    """The training batches and the test batch of a channel; either may be absent, but not both."""

    train: ImageArray | None
    test: ImageArray | None


def read_cifar(channel: Channel, files: tuple[str, ...], memory: int | None = None) -> Cifar:
    """Read the batches, or the archives that contain them, in `files`.

    Raises:
        UserError: a file is damaged or not in CIFAR's format, or an archive unpacks to more than `memory` bytes.
    """
    train: list[_Batch] = []
    test: list[_Batch] = []
    names: tuple[str, ...] = ()
    seen: dict[str, str] = {}
    for name, base, read in _members(channel, files, memory):
        if _NAMES.fullmatch(base):
            names = _class_names(channel, name, base, read()) or names
        elif is_cifar_batch(base):
            batch = base.removesuffix(".bin")
            if batch in seen:
                raise channel.error(
                    f"'{name}' and '{seen[batch]}' are the same batch; expected each batch once."
                )
            seen[batch] = name
            parse = _binary if base.endswith(".bin") else _python
            (test if base.startswith("test") else train).append((name, *parse(channel, name, base, read())))
    kinds = {classes for *_, classes in train + test}
    if not kinds:
        raise channel.error(
            f"archive '{files[0]}' holds no CIFAR batches; expected them, or the files unpacked."
        )
    if len(kinds) > 1:
        raise channel.error("batches of CIFAR-10 and of CIFAR-100 lie side by side; expected one of the two.")
    classes = kinds.pop()
    if len(names) != classes:
        names = CIFAR10_CLASSES if classes == 10 else tuple(str(label) for label in range(classes))
    return Cifar(_join(train, names), _join(test, names))


def _join(parts: list[_Batch], names: tuple[str, ...]) -> ImageArray | None:
    if not parts:
        return None
    pixels = np.concatenate([pixels for _, pixels, _, _ in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, _, labels, _ in parts])
    ids = Ids.numbered([name for name, *_ in parts], [len(labels) for _, _, labels, _ in parts])
    return ImageArray(pixels, labels, names, ids)


def _members(
    channel: Channel, files: tuple[str, ...], memory: int | None
) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """(name for messages, base name, reader) of each file, in name order; archives are not unpacked to disk."""
    meta = [f for f in channel.files if _NAMES.fullmatch(f.rsplit("/", 1)[-1])]
    for file in sorted({*files, *meta}):
        path = channel.root / file
        if not file.lower().endswith(ARCHIVE_SUFFIXES):
            yield file, file.rsplit("/", 1)[-1], lambda file=file: _read(channel, file)  # type: ignore[misc]
            continue
        try:
            with open_tar(path) as archive:
                # In the archive's own order: seeking back in a compressed file decompresses it again from the start.
                found = []
                unpacked = 0
                for member in archive:
                    base = member.name.rsplit("/", 1)[-1]
                    # The sizes come from the headers, before unpacking: a small archive may hold terabytes.
                    unpacked += member.size
                    if memory is not None and unpacked > memory:
                        raise channel.error(
                            f"archive '{file}' holds {unpacked / 1e9:,.1f} GB or more, of which "
                            f"{max(0, memory) / 1e9:.1f} GB fit in memory; expected CIFAR batches."
                        )
                    if member.isfile() and (_NAMES.fullmatch(base) or is_cifar_batch(base)):
                        content = archive.extractfile(member)
                        assert content is not None
                        found.append((f"{file}:{member.name}", base, content.read()))
        except UserError:
            raise
        except Exception as error:  # damaged archives and compressed files raise almost any exception
            raise channel.error(
                f"archive '{file}' cannot be read ({error}); expected an intact tar file."
            ) from error
        for name, base, data in sorted(found):
            yield name, base, lambda data=data: data  # type: ignore[misc]


def _read(channel: Channel, file: str) -> bytes:
    try:
        return (channel.root / file).read_bytes()
    except OSError as error:
        raise channel.error(
            f"batch '{file}' cannot be read ({error.strerror}); expected an intact file."
        ) from error


def _binary(channel: Channel, name: str, base: str, data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Records of one label byte (two in CIFAR-100, coarse and fine) and 3,072 bytes of pixels."""
    classes, label_bytes = (100, 2) if base in ("train.bin", "test.bin") else (10, 1)
    record = label_bytes + PIXELS
    if not data or len(data) % record:
        raise channel.error(
            f"CIFAR-{classes} batch '{name}' has {len(data):,} bytes; expected a multiple of {record:,} bytes."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    labels = records[:, label_bytes - 1].astype(np.int64)
    return records[:, label_bytes:], _checked(channel, name, labels, classes), classes


def _python(channel: Channel, name: str, base: str, data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    content = _unpickle(channel, name, data)
    classes = 100 if "fine_labels" in content else 10
    pixels, labels = content.get("data"), content.get("fine_labels", content.get("labels"))
    if isinstance(labels, list) and all(isinstance(label, int) for label in labels):
        try:
            labels = np.array(labels, np.int64)
        except OverflowError:
            raise channel.error(
                f"CIFAR batch '{name}' has a label that is too large; expected 0 to {classes - 1}."
            ) from None
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 2
        or pixels.shape[1] != PIXELS
    ):
        raise channel.error(f"CIFAR batch '{name}' has no array 'data' of N x {PIXELS:,} bytes.")
    if (
        not isinstance(labels, np.ndarray)
        or labels.dtype.kind not in "iu"
        or labels.shape != pixels.shape[:1]
    ):
        raise channel.error(
            f"CIFAR batch '{name}' has no 'labels' or 'fine_labels' with one number an image."
        )
    return pixels, _checked(channel, name, labels.astype(np.int64), classes), classes


def _checked(channel: Channel, name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise channel.error(
            f"CIFAR-{classes} batch '{name}' has the label {wrong[0]}; expected 0 to {classes - 1}."
        )
    return labels


def _class_names(channel: Channel, name: str, base: str, data: bytes) -> tuple[str, ...]:
    if base.endswith(".txt"):
        return tuple(line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip())
    content = _unpickle(channel, name, data)
    names = content.get("fine_label_names", content.get("label_names", ()))
    if not isinstance(names, list):
        return ()
    return tuple(
        n if isinstance(n, str) else n.decode("utf-8", "replace")
        for n in names
        if isinstance(n, (str, bytes))
    )


def _unpickle(channel: Channel, name: str, data: bytes) -> dict[str, Any]:
    """Unpickle a dictionary of arrays, lists, strings and numbers; its keys are returned as str."""
    try:
        # Python 2 pickles store the arrays' bytes as strings, and latin1 preserves them.
        content = _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load())
    except Exception as error:  # damaged pickles raise almost any exception
        raise channel.error(
            f"python batch '{name}' cannot be read ({error}); expected a pickle of arrays of numbers, lists, texts "
            "and numbers only."
        ) from error
    if not isinstance(content, dict):
        raise channel.error(f"python batch '{name}' holds a {type(content).__name__}; expected a dictionary.")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()
    }


class _Dtype:
    """Replaces numpy.dtype; accepts numeric types only."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        self.dtype = np.dtype(_text(code))
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of type {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """Replaces numpy.ndarray; keeps the pickled shape and type, and builds the array from its bytes."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.fill(
            raw.encode("latin1") if isinstance(raw, str) else raw, dtype, shape, "F" if fortran else "C"
        )

    def fill(self, raw: bytes, dtype: Any, shape: tuple[int, ...], order: str) -> None:
        sides = isinstance(shape, tuple) and all(isinstance(side, int) for side in shape)
        if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)) or not sides:
            raise pickle.UnpicklingError("an array of values other than numbers")
        self.value = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.fill(raw, dtype, shape, order)
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Pickles of protocol 2 and older written by Python 3 store bytes this way.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"a text in the encoding {encoding}")
    return text.encode("latin1")


def _text(value: Any) -> str:
    if not isinstance(value, (str, bytes)):
        raise pickle.UnpicklingError(f"a {type(value).__name__} for a text")
    return value.decode("latin1") if isinstance(value, bytes) else value


class _Unpickler(pickle._Unpickler):
    """Python's unpickler in its pure-Python implementation, which for these files is hardly slower than the one in C.

    The C implementation allocates 16 bytes for every memo entry that a file declares, so that a dozen bytes of input
    can allocate 32 GB.
    """

    _KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("numpy._core.numeric", "_frombuffer"): _from_buffer,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is refused") from None

    # An attribute of the base class that its type stub omits.
    stack: list[Any]
    read: Callable[[int], bytes]
    load_build: Callable[[], None]
    load_dict: Callable[[], None]
    load_setitem: Callable[[], None]
    load_setitems: Callable[[], None]

    def _build(self) -> None:
        # For any other object, BUILD would set attributes, even those of the functions above.
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise pickle.UnpicklingError("it changes an object that is not an array")
        self.load_build()

    def _setitem(self) -> None:
        self._check_keys(self.stack[-2:-1])
        self.load_setitem()

    def _setitems(self) -> None:
        self._check_keys(self.stack[::2])
        self.load_setitems()

    def _dict(self) -> None:
        self._check_keys(self.stack[::2])
        self.load_dict()

    def _check_keys(self, keys: list[Any]) -> None:
        # Hashing a tuple of tuples that refer to each other repeatedly can take exponential time.
        if not all(isinstance(key, (str, bytes, int)) for key in keys):
            raise pickle.UnpicklingError("a dictionary with keys that are neither texts nor numbers")

    def _bytearray(self) -> None:
        # Reads the bytes that exist, without allocating the declared size first.
        size = int.from_bytes(self.read(8), "little")
        content = self.read(size)
        if len(content) < size:
            raise pickle.UnpicklingError("pickle data was truncated")
        self.stack.append(bytearray(content))

    def _set(self) -> None:
        raise pickle.UnpicklingError("a set")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.DICT[0]: _dict,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.EMPTY_SET[0]: _set,
        pickle.FROZENSET[0]: _set,
    }


def _plain(value: Any, depth: int = 0) -> Any:
    """Replace the stand-ins by the arrays that they hold."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, (dict, list, tuple)) and depth > DEEPEST:
        # Nested lists that share their elements are small in a pickle, but copying them grows without bound.
        raise pickle.UnpicklingError("containers within a list")
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        # Label lists are long and hold numbers only, so they are checked before they are copied.
        if any(isinstance(item, (_Array, dict, list, tuple)) for item in value):
            return [_plain(item, depth + 1) for item in value]
        return list(value)
    if value is None or isinstance(value, (str, bytes, bytearray, int, float, complex)):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__}")


def is_cifar_batch(name: str) -> bool:
    """Whether a file is named like a batch of CIFAR images in one of the published forms."""
    return _BATCH.fullmatch(base_name(name)) is not None


def extras(channel: Channel) -> tuple[str, ...]:
    """The other files of the published archives."""
    return tuple(file for file in channel.files if _EXTRA.fullmatch(base_name(file)))


def _is_table(channel: Channel, file: str) -> bool:
    """Whether a file named `train` or `test` is text, which only the oldest pickles are."""
    named = base_name(file) in ("train", "test")
    return named and channel.content(file) == TEXT and not beginning(channel.root / file, 1).startswith(b"(")


class CifarBatches(Format):
    """Unpacked CIFAR batches; the archives that they came in may lie beside them."""

    name = "cifar"
    splits = "none"
    expected = ("", "CIFAR batches", "")
    telling = (".bin",)
    """Batches without a suffix are not included, because a table may also be named `train` or `test`."""
    undividable = (
        "CIFAR batches are sharded (S3DistributionType=ShardedByS3Key), but only one host has the test batch "
        "and the class names; expected FullyReplicated."
    )

    def recognise(self, channel: Channel) -> Claim | None:
        batches = tuple(
            file for file in channel.files if is_cifar_batch(file) and not _is_table(channel, file)
        )
        if not batches:
            return None
        files = tuple(sorted((*batches, *channel.ending(*ARCHIVE_SUFFIXES))))
        return Claim(files, beside=extras(channel))

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        cifar = read_cifar(channel, claim.files, reading.memory)
        train, test = cifar.train, cifar.test
        if reading.like is not None or train is None:
            # Evaluation on a complete set uses its test batch only, because the rest is training data.
            train, test = test or train, None
        assert train is not None
        note = f"{channel.name} channel: CIFAR-{len(train.classes)}, {len(train):,} images."
        return Found(self, train, test, (note,))


CIFAR = CifarBatches()
