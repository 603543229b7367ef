"""Properties of everything that reads what others wrote: any input is read, or refused with one of our errors.

tests/unit/test_fuzz.py tries a few hundred inputs of each, tests/soak/test_fuzz.py as many as its minutes allow.
"""

import functools
import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from sagemaker.amazon.common import write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor
from scipy import sparse

from deploy.aws.storage import Storage
from deploy.labels import answers, consolidation, ground_truth, relabel
from subset_trainer import artifacts, contract
from subset_trainer.config import Hyperparameters, parse
from subset_trainer.data import Column, ImageKind, TableKind, load_splits
from subset_trainer.data.formats import recordio
from subset_trainer.data.kinds.registry import from_json
from subset_trainer.errors import TrainingError, UserError
from subset_trainer.models import build
from subset_trainer.pretrained import encoders
from subset_trainer.serving import requests, responses
from subset_trainer.training.checkpoints import Checkpoints
from tests.encoders import write as write_encoder
from tests.kinds import gathered


@dataclass(frozen=True)
class Property:
    """`holds` is true of every value that `inputs` draws; where it is not, it raises."""

    inputs: st.SearchStrategy[Any]
    holds: Callable[[Any], None]
    examples: int
    """How many are tried in the quick run."""

    def run(self, examples: int | None = None, start: int | None = None) -> None:
        """Try so many inputs; with `start`, others for every number."""

        def check(value: Any) -> None:
            self.holds(value)

        check.__qualname__ = check.__name__ = self.holds.__name__
        test = settings(
            max_examples=examples or self.examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(given(self.inputs)(check))
        (test if start is None else seed(start)(test))()


# Values that people and machines write, plain and odd.
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "0", "1", "-1", "1e999", "nan", "9" * 5000, "\x00", "None"]
)
SURROGATES = st.text(st.characters(codec=None), max_size=10)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | SURROGATES
JSONS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SURROGATES, inner, max_size=3),
    max_leaves=6,
)
BYTES = st.binary(max_size=200)


def _deep(depth: int) -> str:
    return "[" * depth + "]" * depth


def _quoted(value: str, times: int) -> str:
    for _ in range(times):
        value = json.dumps(value)
    return value


@st.composite
def edits(draw: st.DrawFn, most: int = 4) -> list[tuple[str, int, bytes]]:
    """Changes of some bytes, for `edited`: flip, insert, delete, cut off, repeat."""
    kinds = st.sampled_from(["set", "flip", "insert", "delete", "cut", "repeat"])
    # Formats keep what matters at the ends of a file, and lengths in the few bytes before what they are of.
    places = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, 1 << 20)
    pieces = st.sampled_from(
        [b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"(", b"."]
    ) | st.binary(min_size=1, max_size=8)
    return draw(st.lists(st.tuples(kinds, places, pieces), max_size=most))


def edited(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """The content with the changes made; places count from its start or its end, and round it."""
    for kind, place, piece in changes:
        if not content:
            return piece
        at, size = place % len(content), len(piece)
        if kind == "set":
            content = content[:at] + piece + content[at + size :]
        elif kind == "flip":
            content = content[:at] + bytes([content[at] ^ (1 << piece[0] % 8)]) + content[at + 1 :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + size * size :]
        elif kind == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
    return content


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def fit_for_the_user(error: TrainingError) -> None:
    """The message is not empty, and can be written to the failure file."""
    assert str(error).strip()
    assert len(str(error)) < 20_000


# hyperparameters.parse

KNOBS = st.sampled_from(
    [*Hyperparameters.model_fields, "sagemaker_program", "_tuning_objective_metric", "fracton"]
)
GOOD = st.sampled_from(
    ["0.3", "1", "10", "True", "glister", "cords", "per-class", "drop", "class", "rgreedy", "full"]
)
VALUES = (
    JSONS
    | GOOD
    | st.builds(_quoted, TEXTS, st.integers(1, 4))
    | st.integers().map(lambda number: 10**5000 + number)
    | st.text(max_size=3).map(lambda text: text * 5000)
)


def parsed(raw: dict[str, Any]) -> None:
    try:
        found = parse(raw)
    except UserError as error:
        fit_for_the_user(error)
        return
    # What was read is what is written down beside the model, and reads back.
    assert parse(found.model_dump()) == found
    assert (
        parse({name: json.dumps(value) for name, value in found.model_dump().items() if value is not None})
        == found
    )


# contract.read

FILES = ("hyperparameters", "inputdataconfig", "resourceconfig")
CHANNELS = st.dictionaries(
    st.sampled_from(["training", "test", "..", "../..", "/etc", "a/b", "a\x00b", ""]) | SURROGATES,
    st.fixed_dictionaries(
        {"TrainingInputMode": st.sampled_from(["File", "FastFile", "Pipe"]) | JSONS},
        optional={
            "ContentType": st.sampled_from(["text/csv; label_size=1", "image/png", ""]) | JSONS,
            "RecordWrapperType": st.sampled_from(["None", "RecordIO"]) | JSONS,
        },
    )
    | JSONS,
    max_size=3,
)
RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "current_host": st.sampled_from(["algo-1", "algo-2", ""]) | JSONS,
        "hosts": st.lists(st.sampled_from(["algo-1", "algo-2"]) | SCALARS, max_size=3) | JSONS,
        "current_instance_type": JSONS,
    },
)
CONTENTS = (
    BYTES
    | (JSONS | CHANNELS | RESOURCES).map(lambda value: json.dumps(value).encode())
    | st.integers(1, 100_000).map(lambda depth: _deep(depth).encode())
    | st.none()
)


def read_contract(contents: dict[str, bytes | None]) -> None:
    with folder() as base, mock.patch.dict(os.environ, {contract.BASE_DIRECTORY_VARIABLE: str(base)}):
        configuration = base / "input" / "config"
        configuration.mkdir(parents=True)
        for name, content in contents.items():
            path = configuration / f"{name}.json"
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)
        try:
            found = contract.read()
        except TrainingError as error:
            fit_for_the_user(error)
            return
        assert found.hosts and all(isinstance(host, str) and host for host in found.hosts)
        assert found.current_host in found.hosts
        for name, path in found.channels.items():
            assert path.parent == base / "input" / "data" and path.name in (name, f"{name}_0")
            path.exists()  # a path that the system can be asked about


# Data channels

KINDS = ("cifar", "csv", "folders", "npz")
MOST_BYTES = 1 << 26


def split(files: dict[str, bytes], **options: Any) -> None:
    """Channels of these files are split into finite numbers of at least one example, or refused."""
    with folder() as root:
        for name, content in files.items():
            path = root / "training" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (root / "training").mkdir(exist_ok=True)
        channels = {"training": root / "training"}
        if options.pop("twice", False):  # what was learned from training, too, is then at work
            channels["validation"] = root / "training"
        try:
            found = load_splits(channels, num_workers=0, **gathered(options))
        except UserError as error:
            fit_for_the_user(error)
            return
        for part in (found.train, found.validation, found.test):
            if part is not None:
                assert len(part)
                assert int(part.labels.min()) >= 0 and int(part.labels.max()) < len(
                    found.preprocessing.classes
                )
                (batch,) = part.batches([torch.arange(len(part))], torch.device("cpu"))
                assert bool(torch.isfinite(batch.float()).all())
        assert from_json(json.loads(json.dumps(found.preprocessing.to_json()))) == found.preprocessing


@functools.cache
def cifar_files(form: str, classes: int) -> dict[str, bytes]:
    """A set of twenty images a batch."""
    draw = np.random.default_rng(0)
    parts = ("data_batch_1", "test_batch") if classes == 10 else ("train", "test")
    files = {}
    for part in parts:
        labels = np.arange(20) % classes // (1 if classes == 10 else 10)
        pixels = draw.integers(0, 256, (20, 3072), dtype=np.uint8)
        if form == "binary":
            head = labels[:, None] if classes == 10 else np.stack([labels, labels], 1)
            files[f"{part}.bin"] = np.concatenate([head.astype(np.uint8), pixels], 1).tobytes()
        else:
            title = "labels" if classes == 10 else "fine_labels"
            content = {"data": pixels, title: labels.tolist(), "filenames": [f"{n}.png" for n in range(20)]}
            encoded = {name.encode(): value for name, value in content.items()}
            files[part] = pickle.dumps(encoded, protocol=int(form))
    name, title = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
    if form != "binary":
        files[name] = pickle.dumps({title.encode(): [b"a", "b"] * (classes // 2)}, protocol=int(form))
    return files


@functools.cache
def packed(form: str, classes: int, compression: str, kind: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{compression}", format=kind) as archive:  # type: ignore[call-overload]
        for name, data in cifar_files(form, classes).items():
            member = tarfile.TarInfo(
                f"cifar/{name}" + "x" * 120
            )  # so long that pax and GNU need records of their own
            member = tarfile.TarInfo(f"{'cifar/' * 30}{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


FORMS = st.sampled_from(["binary", "0", "2", "4", "5"])


@st.composite
def cifar_channels(draw: st.DrawFn) -> dict[str, bytes]:
    form, classes = draw(FORMS), draw(st.sampled_from([10, 100]))
    if draw(st.booleans()):
        kind = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
        archive = packed(form, classes, draw(st.sampled_from(["", "gz", "bz2", "xz"])), kind)
        return {"cifar.tar.gz": edited(archive, draw(edits()))}
    files = dict(cifar_files(form, classes))
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2)):
        files[name] = edited(files[name], draw(edits()))
    return files


ARRAYS = st.builds(
    lambda dtype, shape: np.zeros(shape, dtype),
    st.sampled_from(["u1", "i8", "f4", "?", "u8", ">i4", "U3", "M8[s]", "c8"]),
    st.sampled_from([(0, 3072), (3, 3072), (3,), (), (0,), (3, 32, 32, 3), (3, 1)]),
)
LABELS = st.lists(st.integers(0, 9) | st.sampled_from([-1, 10, 1 << 64, True, 0.5, "a", None]), max_size=3)
PICKLED = st.recursive(
    ARRAYS | LABELS | SCALARS | BYTES | st.sampled_from([np.uint8(3), {1, 2}, bytearray(b"a"), ..., 1j]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)
NAMES_IN_PICKLES = st.sampled_from(
    ["data", "labels", "fine_labels", "label_names", "fine_label_names", "batch_label"]
)
BATCHES = st.dictionaries(
    NAMES_IN_PICKLES | NAMES_IN_PICKLES.map(str.encode) | st.integers() | st.tuples(st.integers()),
    PICKLED,
    max_size=5,
)
OPCODES = st.lists(
    st.sampled_from(
        [
            *(
                bytes([code])
                for code in b"(.012FIKJMNRSTUVX])}abcdeghijloqrstup\x80\x85\x86\x87\x88\x89\x8a\x8b"
            ),
            *(bytes([code]) for code in b"\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98BCQP"),
            b"cnumpy\n_reconstruct\n",
            b"cnumpy\nndarray\n",
            b"cnumpy\ndtype\n",
            b"cnumpy.core.numeric\n_frombuffer\n",
            b"c_codecs\nencode\n",
            b"U\x02u1",
            b"K\x00",
            b"q\x00",
            b"h\x00",
            b"I1\n",
            b"r\xff\xff\xff\x7f",
            b"X\x04\x00\x00\x00data",
        ]
    )
    | st.binary(min_size=1, max_size=4),
    max_size=25,
).map(b"".join)
ODD_PICKLES = (
    st.one_of(BATCHES, PICKLED).flatmap(
        lambda content: st.integers(0, 5).map(lambda protocol: pickle.dumps(content, protocol=protocol))
    )
    | OPCODES
    | OPCODES.map(lambda opcodes: b"\x80\x02}" + opcodes + b".")
)
CIFAR = cifar_channels() | st.fixed_dictionaries(
    {"data_batch_1": ODD_PICKLES}, optional={"batches.meta": ODD_PICKLES, "batches.meta.txt": BYTES}
)

CELLS = (
    st.sampled_from(
        ["0", "1", "2", "1.5", "a", "b", "", " ", "NA", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320"]
    )
    | st.sampled_from(
        ["1_0", "٣", "\ufeff", '"', '""', '"a,b"', '"a\nb"', "\x00", "\r", ";", "\t", "0x10", "1e400"]
    )
    | st.text(max_size=5)
    | st.integers().map(str)
    | st.floats().map(repr)
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Good rows with odd ones among them."""
    width, separator = draw(st.integers(1, 4)), draw(st.sampled_from([",", ",", ";", "\t"]))
    lines = [
        [str(row % 2), *(f"{row}.{column}" for column in range(1, width))]
        for row in range(draw(st.integers(0, 12)))
    ]
    if draw(st.booleans()):
        lines.insert(0, ["label", *(f"c{column}" for column in range(1, width))])
    for cells in draw(st.lists(st.lists(CELLS, max_size=5), max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), cells)
    for _ in range(draw(st.integers(0, 3))):
        if lines and (cells := lines[draw(st.integers(0, len(lines) - 1))]):
            cells[draw(st.integers(0, len(cells) - 1))] = draw(CELLS)
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(separator.join(cells) for cells in lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp037"]))
    return edited(text.encode(encoding, "replace"), draw(edits(1)))


CSV = st.tuples(
    st.dictionaries(
        st.sampled_from(["a.csv", "b.csv", "c.tsv", "d.csv.gz"]), tables() | BYTES, min_size=1, max_size=2
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "label_column": st.sampled_from(["label", "0", "1", "99", "c1", "9" * 5000, "٣"]) | TEXTS,
            "csv_header": st.sampled_from(["auto", "true", "false"]),
            "twice": st.just(True),
        },
    ),
)


@functools.cache
def image(form: str) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((12, 10), 90).convert("P" if form == "GIF" else "RGB").save(content, form)
    return content.getvalue()


SUFFIXES = st.sampled_from([".png", ".jpg", ".gif", ".tif", ".webp", ".bmp", ".ppm"])
IMAGES = st.builds(
    lambda form, changes: edited(image(form), changes),
    st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "EPS", "ICO", "PCX"]),
    edits(),
)
FOLDERS = st.dictionaries(
    st.builds(
        lambda kind, number, suffix: f"{kind}/{number}{suffix}",
        st.sampled_from("ab"),
        st.integers(0, 3),
        SUFFIXES,
    ),
    IMAGES,
    min_size=1,
    max_size=6,
)


# Images with their labels elsewhere than in a folder's name

PICTURES = {f"images/{number}.png": image("PNG") for number in range(6)}
LISTED_CELLS = st.sampled_from(
    ["0.png", "images/1.png", "2", "../3.png", "a", "b", "1", "1.5", "-1", "", '"', "file", "label"]
)


@st.composite
def listed(draw: st.DrawFn) -> dict[str, bytes]:
    """labels.csv or .lst: good ones with bytes changed, and lines of odd cells."""
    name, separator = draw(st.sampled_from([("labels.csv", ","), ("all.lst", "\t")]))
    good = [
        separator.join(
            [f"images/{n}.png", "ab"[n % 2]] if separator == "," else [str(n), str(n % 2), f"{n}.png"]
        )
        for n in range(6)
    ]
    odd = st.lists(LISTED_CELLS, max_size=4).map(separator.join)
    lines = "\n".join([*good, *draw(st.lists(odd, max_size=3))])
    return {**PICTURES, name: edited(lines.encode(), draw(edits()))}


@st.composite
def described(draw: st.DrawFn) -> dict[str, bytes]:
    """metadata.jsonl: good lines with bytes changed, and values of any kind."""
    lines = []
    for number in range(6):
        line: dict[str, Any] = {"file_name": f"images/{number}.png", "label": "ab"[number % 2]}
        line.update(draw(st.dictionaries(st.sampled_from(list(line)), JSONS | LISTED_CELLS, max_size=1)))
        lines.append(json.dumps(line))
    return {**PICTURES, "metadata.jsonl": edited("\n".join(lines).encode(), draw(edits()))}


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, bytes]:
    lines = []
    for number in range(6):
        metadata = {
            "confidence": 0.5,
            "class-name": "ab"[number % 2],
            "type": "groundtruth/image-classification",
        }
        line = {"source-ref": f"s3://bucket/{number}.png", "kind": number % 2, "kind-metadata": metadata}
        place = draw(st.sampled_from([line, metadata]))
        place.update(
            draw(st.dictionaries(st.sampled_from([*place, "class-map", "failure-reason"]), JSONS, max_size=1))
        )
        if draw(st.booleans()):
            line["source"] = draw(TEXTS)
        lines.append(json.dumps(line))
    pictures = draw(st.sampled_from([PICTURES, {}]))
    return {**pictures, "output.manifest": edited("\n".join(lines).encode(), draw(edits()))}


@functools.cache
def container(name: str) -> bytes:
    """Two classes of images in a file of the format that the suffix names."""
    content = io.BytesIO()
    if name.endswith(".rec"):
        for number in range(6):
            record = struct.pack("<IfQQ", 0, number % 2, number, 0) + image("PNG")
            content.write(
                recordio.MAGIC + struct.pack("<I", len(record)) + record + b"\0" * (-len(record) % 4)
            )
    elif name.endswith(".parquet"):
        images = pa.array([{"bytes": image("PNG"), "path": None}] * 6)
        pq.write_table(pa.table({"image": images, "label": [0, 1] * 3}), content)
    else:
        with tarfile.open(fileobj=content, mode="w:gz" if name.endswith("gz") else "w") as archive:
            for number in range(6):
                for suffix, part in (("png", image("PNG")), ("cls", b"ab"[number % 2 :][:1])):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(part)
                    archive.addfile(member, io.BytesIO(part))
    return content.getvalue()


@st.composite
def packed_images(draw: st.DrawFn, name: str) -> dict[str, bytes]:
    return {name: edited(container(name), draw(edits()))}


@st.composite
def npz_files(draw: st.DrawFn) -> bytes:
    content = io.BytesIO()
    labels = [0, 1] * 5
    x, y = draw(
        st.sampled_from(
            [(np.ones((10, 3)), np.array(labels)), (np.ones((10, 8, 8), np.uint8), np.array(list("ab") * 5))]
        )
        | st.tuples(ARRAYS, ARRAYS)
    )
    np.savez_compressed(content, x=x, y=y)
    return draw(edited_archives(content.getvalue()))


@st.composite
def edited_archives(draw: st.DrawFn, archive: bytes) -> bytes:
    """A zip file with changes anywhere, or within its members, so that its checksums hold."""
    if draw(st.booleans()):
        return edited(archive, draw(edits()))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    again = io.BytesIO()
    with zipfile.ZipFile(again, "w") as changed:
        for name, data in members.items():
            changed.writestr(name, edited(data, draw(edits(2))))
    return again.getvalue()


# Tables that programs wrote


COLUMN_VALUES = st.sampled_from(
    [
        pa.array([1, None, 3] * 4),
        pa.array([0.5, float("nan"), float("inf")] * 4),
        pa.array([1e308, -1e308, 0.0] * 4),
        pa.array(["a", "", None] * 4),
        pa.array(["2024-01-01", "2024-02-30", None] * 4),
        pa.array(["a", "b", None] * 4).dictionary_encode(),
        pa.array([[1], [2], None] * 4),
        pa.array([b"a", b"\xff", None] * 4),
        pa.array([1, 2, None] * 4, pa.timestamp("s", "UTC")),
        pa.array([2**62, -(2**62), None] * 4, pa.timestamp("ms")),
        pa.array([2**31 - 1, -(2**31), None] * 4, pa.date32()),
        pa.array([2**62, None, 0] * 4, pa.duration("ns")),
        pa.array([True, False, None] * 4),
        pa.nulls(12),
    ]
)


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    columns = draw(
        st.dictionaries(st.sampled_from(["a", "b.c", "", "__index_level_0__"]), COLUMN_VALUES, max_size=3)
    )
    labels = draw(st.sampled_from([pa.array([0, 1] * 6), pa.array(["x", "y"] * 6)]) | COLUMN_VALUES)
    content = io.BytesIO()
    pq.write_table(
        pa.table({"label": labels, **columns}),
        content,
        row_group_size=draw(st.integers(1, 12)),
        compression=draw(st.sampled_from(["none", "snappy", "zstd"])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        write_page_checksum=draw(st.booleans()),
    )
    return edited(content.getvalue(), draw(edits()))


@st.composite
def libsvm_files(draw: st.DrawFn) -> bytes:
    lines = [f"{row % 2} 1:{row} 3:0.5" for row in range(draw(st.integers(0, 12)))]
    words = (
        st.sampled_from(["1:1", "2:nan", "0:1e999", "qid:3", "# a", "1", "-1:1", "99999:1", "2:1_0"]) | TEXTS
    )
    for odd in draw(st.lists(st.lists(words, max_size=4), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), " ".join(odd))
    return edited("\n".join(lines).encode("utf-8", "replace"), draw(edits(2)))


@functools.cache
def protobuf_file(form: str) -> bytes:
    x = np.arange(24.0).reshape(12, 2)
    content = io.BytesIO()
    if form == "sparse":
        write_spmatrix_to_sparse_tensor(content, sparse.csr_matrix(x), np.arange(12) % 2)
    else:
        write_numpy_to_dense_tensor(content, x.astype(form), np.arange(12) % 2)
    return content.getvalue()


PROTOBUF = st.builds(
    lambda form, changes: edited(protobuf_file(form), changes),
    st.sampled_from(["float32", "float64", "int64", "sparse"]),
    edits(),
)


def table_files(name: str, contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    options = {"label_column": st.sampled_from(["label", "0", "a", ""]), "twice": st.just(True)}
    return st.tuples(
        st.fixed_dictionaries({name: contents | BYTES}), st.fixed_dictionaries({}, optional=options)
    )


# Checkpoints and models


@functools.cache
def checkpoint() -> bytes:
    content = io.BytesIO()
    torch.save(
        {"identity": {"epochs": 1}, "state": {"weights": torch.ones(3), "order": [1, 2], "name": "a"}},
        content,
    )
    return content.getvalue()


CHECKPOINTS = st.deferred(lambda: edited_archives(checkpoint())) | ODD_PICKLES


@st.composite
def saved_checkpoints(draw: st.DrawFn) -> bytes:
    content = io.BytesIO()
    torch.save(draw(JSONS | st.fixed_dictionaries({"identity": JSONS, "state": JSONS})), content)
    return content.getvalue()


def load_checkpoint(content: bytes) -> None:
    with folder() as directory:
        (directory / "checkpoint-00001-0000000.pt").write_bytes(content)
        try:
            state = Checkpoints(directory, {"epochs": 1}, 5.0).load()
        except UserError as error:
            fit_for_the_user(error)
            return
        assert state is None or isinstance(state, dict)


@functools.cache
def model() -> tuple[bytes, dict[str, Any]]:
    """The weights' file and the description's content of a small network."""
    preprocessing = ImageKind(("a", "b"), (8, 8), (0.5,) * 3, (0.2,) * 3)
    with folder() as directory:
        artifacts.save_model(
            directory, build("cnn", (3, 8, 8), 2, (0.5,) * 3, (0.2,) * 3), "cnn", preprocessing, {}
        )
        description = json.loads((directory / artifacts.DESCRIPTION).read_text())
        return (directory / artifacts.WEIGHTS).read_bytes(), description


@st.composite
def models(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Weights and description, one of them changed."""
    weights, description = model()
    if draw(st.booleans()):
        return edited(weights, draw(edits())), json.dumps(description).encode()
    if draw(st.booleans()):
        return weights, edited(json.dumps(description).encode(), draw(edits()))
    description = json.loads(json.dumps(description))
    at = draw(st.sampled_from([description, description["preprocessing"]]))
    odd = JSONS | st.sampled_from(
        [[10**6, 10**6], [-1, -1], [8.5, 8], ["a", "b", "c"], "resnet18", "mlp", "table", [0] * 3]
    )
    at[draw(st.sampled_from(sorted(at)))] = draw(odd)
    return weights, json.dumps(description).encode()


def load_model(case: tuple[bytes, bytes]) -> None:
    weights, description = case
    with folder() as directory:
        (directory / artifacts.WEIGHTS).write_bytes(weights)
        (directory / artifacts.DESCRIPTION).write_bytes(description)
        try:
            found = artifacts.load_model(directory)
        except UserError as error:
            fit_for_the_user(error)
            return
        assert len(found.preprocessing.classes)


@functools.cache
def encoder() -> dict[str, bytes]:
    """The files of a small encoder of texts."""
    with folder() as directory:
        write_encoder(directory)
        return {path.name: path.read_bytes() for path in directory.iterdir()}


@st.composite
def encoder_folders(draw: st.DrawFn) -> dict[str, bytes]:
    """One file of them changed: its bytes, or its JSON content."""
    files = dict(encoder())
    name = draw(st.sampled_from(sorted(files)))
    if name.endswith(".json") and draw(st.booleans()):
        content = json.loads(files[name])
        odd = JSONS | st.sampled_from([0, 1, -1, 7, 10**9, 10**30, 0.5, "bert", "gelu", [1], {"a": 1}])
        content[draw(st.sampled_from(sorted(content)))] = draw(odd)
        files[name] = json.dumps(content).encode()
    else:
        files[name] = edited(files[name], draw(edits()))
    return files


def read_encoder(files: dict[str, bytes]) -> None:
    with folder() as directory:
        for name, content in files.items():
            (directory / name).write_bytes(content)
        try:
            found = encoders.read(directory, 16)
            if found is not None:
                build("encoder", (found.tokens.length,), 2, encoder=found.body)
        except UserError as error:
            fit_for_the_user(error)


def split_table(case: tuple[dict[str, bytes], dict[str, Any]]) -> None:
    files, options = case
    split(files, **options)


# Requests for predictions

REQUEST_CELLS = (
    st.sampled_from(["1", "-2.5", "north", "", "NA", "2024-01-31", "1e999", '"', "\n", "1_0", "\ud800"])
    | TEXTS
)
FEATURES = st.lists(
    st.sampled_from([1, 2.5, None, "north", "2024-01-31", True, 10**400, float("nan")]) | JSONS, max_size=4
)
EXAMPLES = (
    FEATURES
    | st.fixed_dictionaries({}, optional={"features": FEATURES, "image": TEXTS | st.just("aGFsbG8=")})
    | st.fixed_dictionaries({"a": JSONS, "b": JSONS, "c": JSONS})
    | JSONS
)
BODIES = (
    st.lists(
        st.lists(REQUEST_CELLS, min_size=3, max_size=3) | st.lists(REQUEST_CELLS, max_size=5), max_size=4
    ).map(lambda rows: "\n".join(map(",".join, rows)))
    | st.sampled_from(
        ["a,b,c\n", "c,b,a,l\n2024-01-31,north,1,x\n", "a,b\n1,north", _deep(100_000), "\ufeff1,n,"]
    )
    | st.lists(EXAMPLES.map(json.dumps), max_size=3).map("\n".join)
    | (st.lists(EXAMPLES, max_size=3) | st.fixed_dictionaries({"instances": JSONS | st.lists(EXAMPLES)})).map(
        json.dumps
    )
).map(lambda text: text.encode("utf-8", "surrogatepass"))
CONTENT_TYPES = st.sampled_from(
    [
        *("text/csv", "text/csv; header=present", "text/csv;header=absent", "text/csv;label_size=2"),
        *(
            "application/json",
            "application/jsonlines",
            "image/png",
            "application/x-image",
            "text/html",
            ";",
            "",
        ),
    ]
)
REQUESTS = st.tuples(
    st.builds(edited, BODIES, edits(2))
    | BYTES
    | st.builds(edited, st.sampled_from(["PNG", "JPEG"]).map(image), edits()),
    CONTENT_TYPES,
    st.sampled_from(["image", "table"]),
    st.sampled_from([None, "*/*", "text/csv;q=x", "application/jsonlines;verbose=true", ";;,", "a/b;q=nan"])
    | TEXTS,
)
SERVED = {
    "image": ImageKind(("a", "b"), (8, 8), (0.5,) * 3, (0.2,) * 3),
    "table": TableKind(
        ("a", "b"),
        columns=(
            Column("a", "numeric", 0.5, 2.0, missing=True),
            Column("b", "categorical", categories=("", "north")),
            Column("c", "date", 19_000.0, 30.0, cycles=("year", "week")),
        ),
        header=True,
        label_column="l",
    ),
}


def read_request(case: tuple[bytes, str, str, str | None]) -> None:
    """What is read are inputs that a model can compute with, and its answer has as many predictions."""
    body, content_type, kind, accept = case
    like = SERVED[kind]
    try:
        answer_in, verbose = responses.accepted(accept, requests.form_of(content_type, like))
        batches = list(requests.batches(body, content_type, like))
    except UserError as error:
        fit_for_the_user(error)
        return
    for batch in batches:
        assert batch.shape[1:] == like.input_shape
        assert np.isfinite(batch).all()
    count = sum(map(len, batches))
    answer = responses.encode(np.full((count, 2), 0.5, np.float32), like.classes, answer_in, verbose)
    if answer_in == "application/json":
        assert len(json.loads(answer)["predictions"]) == count
    else:
        assert len(answer.splitlines()) == count


# Ground Truth's manifests and workers' responses

WORKERS = st.sampled_from(["a", "b", "private.us-east-1.ef7294f850a3d9d1"]) | JSONS
NAMES_OF_CLASSES = st.sampled_from(["cat", "dog", "True", "0", "a,b"]) | JSONS
ELEMENTS = st.sampled_from(["crowd-image-classifier", "crowd-classifier", "category"]) | SURROGATES
ANSWER_CONTENTS = (
    st.dictionaries(
        ELEMENTS,
        st.fixed_dictionaries({}, optional={"label": NAMES_OF_CLASSES, "labels": JSONS}) | JSONS,
        max_size=2,
    )
    | JSONS
)
RESPONSES = st.fixed_dictionaries(
    {"answerContent": ANSWER_CONTENTS | ANSWER_CONTENTS.map(json.dumps), "workerId": WORKERS},
    optional={"submissionTime": st.sampled_from(["2020-12-28T18:59:58.321Z", "1"]) | JSONS},
)
VOTES = st.lists(st.fixed_dictionaries({"workerId": WORKERS, "label": NAMES_OF_CLASSES}) | JSONS, max_size=3)
SAMPLE_VOTES = st.fixed_dictionaries(
    {
        "annotationsFromAllWorkers": st.lists(
            st.fixed_dictionaries(
                {
                    "workerId": WORKERS,
                    "annotationData": st.fixed_dictionaries(
                        {"content": ANSWER_CONTENTS.map(json.dumps) | JSONS}
                    )
                    | JSONS,
                }
            )
            | JSONS,
            max_size=2,
        )
        | JSONS
    }
)
MANIFEST_LINES = st.fixed_dictionaries(
    {},
    optional={
        "source-ref": st.just("s3://b/1.png") | JSONS,
        "source": st.just("text") | JSONS,
        "label": VOTES | SAMPLE_VOTES | JSONS,
        "label-metadata": JSONS,
    },
)


def _good(odd: st.SearchStrategy[Any], good: Any) -> st.SearchStrategy[Any]:
    """Mostly what is expected: a file of many odd things is refused for the first of them."""
    return st.one_of(st.just(good), st.just(good), st.just(good), odd)


LINES = st.lists(
    _good(
        MANIFEST_LINES | JSONS, {"source-ref": "s3://b/1.png", "label": [{"workerId": "a", "label": "cat"}]}
    ).map(json.dumps)
    | st.sampled_from([_deep(100_000), "", " ", "NaN", '{"source": "a", "b": 1e999}', "\ufeff{}"]),
    max_size=3,
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
RESPONSE_FILES = st.dictionaries(
    st.builds(
        lambda iteration, item, name: f"annotations/worker-response/iteration-{iteration}/{item}/{name}.json",
        st.sampled_from(["1", "2", "9" * 9]),
        st.sampled_from(["0", "0", "1", "00", "9" * 12]),
        st.sampled_from(["2020-12-28_18:59:58", "b"]),
    ),
    _good(
        st.lists(RESPONSES, max_size=3) | JSONS,
        [{"answerContent": {"x": {"label": "cat"}}, "workerId": "a"}],
    ).map(lambda given: json.dumps({"answers": given}).encode())
    | JSONS.map(lambda value: json.dumps(value).encode())
    | BYTES,
    max_size=2,
)
LABELLINGS = st.tuples(
    st.builds(edited, LINES, _good(edits(1), [])),
    RESPONSE_FILES,
)


def read_labelling(case: tuple[bytes, dict[str, bytes]]) -> None:
    """What is read becomes labels whose manifest reads back, with a confidence that is one."""
    manifest, responses = case
    with folder() as root:
        files = {"manifests/output/output.manifest": manifest, **responses}
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            place = root if responses else root / "manifests/output/output.manifest"
            items = answers.read(Storage(), str(place)).items
            classes = ground_truth.classes_of(items)
        except UserError as error:
            fit_for_the_user(error)
            return
    labels, ties = consolidation.consolidate(items, classes, "majority")
    assert {number for number, item in enumerate(items) if item.answers} >= set(ties)
    written = ground_truth.manifest(
        {**item.line, **ground_truth.attributes(item, label, "label", "job", "now")}
        for item, label in zip(items, labels, strict=True)
        if label is not None
    )
    for line in ground_truth.parse_manifest(written, "written"):
        assert classes[line["label"]] == line["label-metadata"]["class-name"]
        assert 0 <= line["label-metadata"]["confidence"] <= 1


# What a training run reports about its examples


@functools.cache
def examples() -> bytes:
    content = io.BytesIO()
    columns = {
        "id": ["a/1.png", "x.csv:3", "x.npz[3]", "s3://b/é"],
        "label": ["a", "b", "a", "b"],
        "probable_label": ["b", "a", "a", "b"],
        "mislabelled": pa.array([0.5, None, 0.1, 1.0], pa.float32()),
        "running_loss": pa.array([0.5, 0.1, float("nan"), 1.0], pa.float32()),
        "duplicate_group": pa.array([1, 1, -1, 2], pa.int32()),
    }
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def read_examples(changes: list[tuple[str, int, bytes]]) -> None:
    with folder() as root:
        (root / relabel.EXAMPLES).write_bytes(edited(examples(), changes))
        try:
            chosen = relabel.first(relabel.read(str(root)), 3)
            lines = relabel.lines(chosen, "s3://bucket/prefix")
        except UserError as error:
            fit_for_the_user(error)
            return
    assert len(lines) == len(chosen) <= 3
    json.loads(ground_truth.manifest(lines).splitlines()[0] if lines else b"{}")


PROPERTIES = {
    "labelling": Property(LABELLINGS, read_labelling, 150),
    "examples": Property(edits(), read_examples, 150),
    "hyperparameters": Property(st.dictionaries(KNOBS | SURROGATES, VALUES, max_size=4), parsed, 400),
    "contract": Property(
        st.fixed_dictionaries({}, optional=dict.fromkeys(FILES, CONTENTS)), read_contract, 300
    ),
    "cifar": Property(CIFAR, split, 150),
    "csv": Property(CSV, split_table, 200),
    "folders": Property(FOLDERS, split, 100),
    "listings": Property(listed(), split, 150),
    "manifest": Property(manifests(), split, 150),
    "metadata": Property(described(), split, 150),
    "texts": Property(
        st.dictionaries(
            st.sampled_from(["a/1.txt", "a/2.txt", "b/1.txt", "b/2.txt", "c.txt"]),
            BYTES | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
            min_size=2,
        ),
        split,
        100,
    ),
    "image records": Property(packed_images("a.rec"), split, 100),
    "shards": Property(packed_images("a.tar") | packed_images("a.tar.gz"), split, 100),
    "images in Parquet": Property(packed_images("a.parquet"), split, 100),
    "npz": Property(st.fixed_dictionaries({"a.npz": npz_files() | BYTES}), split, 150),
    "parquet": Property(table_files("a.parquet", parquet_files()), split_table, 150),
    "libsvm": Property(table_files("a.libsvm", libsvm_files()), split_table, 150),
    "protobuf": Property(table_files("a.rec", PROTOBUF) | table_files("a.pbr", PROTOBUF), split_table, 150),
    "checkpoint": Property(CHECKPOINTS | saved_checkpoints(), load_checkpoint, 150),
    "requests": Property(REQUESTS, read_request, 400),
    "model": Property(models(), load_model, 50),
    "encoder": Property(encoder_folders(), read_encoder, 30),
}
