"""Images that stay in S3: a manifest names them, and only what a run looks at is fetched."""

import http.server
import io
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from PIL import Image

from subset_trainer.data import load_splits
from subset_trainer.data.formats.format import ManifestOptions, Options
from subset_trainer.data.images.s3 import S3Images
from subset_trainer.errors import UserError
from tests.functional.conftest import Job

FROM_S3 = ManifestOptions(from_s3=True)


@pytest.fixture
def photos(aws: str) -> str:
    boto3.client("s3").create_bucket(Bucket="photos")
    return "photos"


def put(bucket: str, count: int) -> list[str]:
    """Lines of a manifest: images of two classes, one darker than the other."""
    s3 = boto3.client("s3")
    draw = np.random.default_rng(0)
    lines = []
    for number in range(count):
        label = number % 2
        file = io.BytesIO()
        pixels = draw.integers(100 * label, 100 * label + 110, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        key = f"raw/a picture {number}.png"
        s3.put_object(Bucket=bucket, Key=key, Body=file.getvalue())
        lines.append(json.dumps({"source-ref": f"s3://{bucket}/{key}", "kind": ("dark", "light")[label]}))
    return lines


def channel(root: Path, lines: list[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.manifest").write_text("\n".join(lines), encoding="utf-8")
    return root


class Fetched(logging.Handler):
    """How often each image was asked for, by moto's log."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"GET /photos/raw/a%20picture%20(\d+)\.png", record.getMessage()):
            self.numbers[int(found[1])] += 1


@pytest.fixture
def fetched() -> Iterator[Fetched]:
    handler = Fetched()
    logger = logging.getLogger("werkzeug")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_run_trains_on_images_that_are_in_s3_alone(photos: str, fetched: Fetched, tmp_path: Path) -> None:
    job = Job(tmp_path)
    channel(job.channel("training"), put(photos, 60))
    values = {
        "s3_images": True,
        "strategy": "random",
        "fraction": 0.5,
        "epochs": 4,
        "model": "cnn",
        "device": "cpu",
    }
    job.run({**values, "batch_size": 8, "num_workers": 1})
    assert job.exit_code == 0, job.log
    assert job.summary["best_validation_accuracy"] > 0.9
    assert "training channel: read from S3 as they are needed" in job.log
    assert set(fetched.numbers.values()) == {1}


@pytest.mark.parametrize("workers", [0, 1])
def test_fetched_is_what_is_looked_at_and_nothing_twice(
    workers: int, photos: str, fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subset_trainer.data.kinds.image._FETCHED", 8)
    root = channel(tmp_path / "training", put(photos, 60))
    splits = load_splits({"training": root}, Options(manifest=FROM_S3), num_workers=workers)
    assert len(fetched.numbers) == 8
    number = {name: int(name[len("s3://photos/raw/a picture ") : -4]) for name in splits.train_ids}
    sample = set(fetched.numbers)
    assert sample <= set(number.values())  # of no validation example
    subset = torch.tensor([3, 20, 33, 41])
    for _ in range(3):
        list(splits.train.batches([subset[:2], subset[2:]], torch.device("cpu")))
        list(splits.validation.batches([torch.arange(len(splits.validation))], torch.device("cpu")))
    selected = {number[splits.train_ids[row]] for row in subset.tolist()}
    assert set(fetched.numbers) == sample | selected | (set(range(60)) - set(number.values()))
    assert set(fetched.numbers.values()) == {1}


def test_pixels_and_statistics_are_those_of_the_same_images_in_a_channel(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = put(photos, 12)
    s3 = boto3.client("s3")
    beside = channel(tmp_path / "beside", lines)
    for number in range(12):
        s3.download_file(photos, f"raw/a picture {number}.png", str(beside / f"a picture {number}.png"))
    near = load_splits({"training": beside})
    # One of them lies in the channel, and its manifest names it so.
    mixed = [*lines[:11], json.dumps({"source-ref": "a picture 11.png", "kind": "light"})]
    root = channel(tmp_path / "far", mixed)
    s3.download_file(photos, "raw/a picture 11.png", str(root / "a picture 11.png"))
    for workers in (0, 1):
        far = load_splits({"training": root}, Options(manifest=FROM_S3), num_workers=workers)
        assert far.preprocessing == near.preprocessing
        assert next(iter(far.train_ids)) == "s3://photos/raw/a picture 0.png"
        order = [torch.arange(len(far.train))]
        (ours,), (theirs,) = (list(each.train.batches(order, torch.device("cpu"))) for each in (far, near))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            {"source-ref": "s3://photos/no such.png"},
            r"'s3://photos/no such.png' cannot be read from S3 \(there is no such "
            r"object\); expected an object that the job's role may read \(s3:GetObject\), and network access to S3\.$",
        ),
        ({"source-ref": "s3://nobody-s/1.png"}, r"\(there is no such bucket\)"),
        (
            {"source-ref": "s3://photos"},
            r"'train.manifest', line 3: 's3://photos' is not the URI of an S3 object; expected "
            r"s3://bucket/key\.$",
        ),
        ({"source-ref": "raw/there.png"}, r"line 3: 'raw/there.png' is not an image of the channel"),
    ],
)
def test_what_cannot_be_read_is_named(
    line: dict[str, str], sentence: str, photos: str, tmp_path: Path
) -> None:
    root = channel(tmp_path / "training", [*put(photos, 2), json.dumps({**line, "kind": "dark"})])
    with pytest.raises(UserError, match=f"^training channel: .*{sentence}"):
        load_splits({"training": root}, Options(manifest=FROM_S3), num_workers=0)


def test_without_the_knob_the_sentence_mentions_it(photos: str, tmp_path: Path) -> None:
    root = channel(tmp_path / "training", put(photos, 2))
    with pytest.raises(UserError, match=r"source is None; .*s3_images=true"):
        load_splits({"training": root})
    Image.new("RGB", (8, 8)).save(root / "another.png")
    with pytest.raises(
        UserError, match=r"is not an image of the channel.*, or s3_images=true to read s3:// URIs"
    ):
        load_splits({"training": root})


def test_no_region(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(UserError, match=r"s3_images=true, but no AWS region is set; expected AWS_REGION"):
        S3Images(["s3://photos/a.png"], "", "training")


def test_no_credentials(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match=r"\(there are no credentials\)"):
        S3Images(["s3://photos/a.png"], "", "training").decode(0, (8, 8))


class Forbidding(http.server.BaseHTTPRequestHandler):
    """What S3 answers to a role without rights."""

    def do_GET(self) -> None:
        body = (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_no_rights_and_no_way(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    images = S3Images(["s3://photos/a.png"], "", "training")
    with pytest.raises(UserError, match=r"\(access is denied\)"):
        images.decode(0, (8, 8))
    server.shutdown()
    server.server_close()
    monkeypatch.setattr("subset_trainer.data.images.s3.ATTEMPTS", 1)
    with pytest.raises(UserError, match=r"cannot be read from S3 \(.*connection.*\)"):
        S3Images(["s3://photos/a.png"], "", "training").decode(0, (8, 8))


def test_on_a_full_disk_images_are_fetched_each_time(
    photos: str, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(photos, 2)
    monkeypatch.setattr("subset_trainer.data.images.s3.LEAST_FREE", 1 << 60)
    images = S3Images([f"s3://photos/raw/a picture {number}.png" for number in range(2)], "", "training")
    for _ in range(2):
        images.prepare(np.array([1, 0]))
        assert images.decode(0, (8, 8)).shape == (8, 8, 3)
    assert fetched.numbers == {0: 2, 1: 2}
