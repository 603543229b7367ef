"""Requests' bodies and responses, without a server; tests/functional/test_serving.py has one."""

import asyncio
import base64
import gc
import importlib
import io
import json
import logging
import time
import tomllib
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from PIL import Image

from subset_trainer.artifacts import TrainedModel
from subset_trainer.data import Column, ImageKind, Kind, TableKind, TextKind
from subset_trainer.data.images.decoding import decode
from subset_trainer.data.texts.ngrams import Hashing, encode_texts
from subset_trainer.errors import UserError
from subset_trainer.models import build
from subset_trainer.serving import bounds, predictor, requests, responses
from subset_trainer.serving.app import application
from subset_trainer.serving.bounds import Requests
from subset_trainer.serving.errors import RequestError
from subset_trainer.serving.settings import Settings

ROOT = Path(__file__).parents[2]
IMAGES = ImageKind(("cat", "dog"), (8, 8), (0.5,) * 3, (0.2,) * 3)
TABLES = TableKind(
    ("cat", "dog"),
    columns=(Column("a", "numeric"), Column("b", "numeric")),
    header=True,
    label_column="c",
)


def image_file(form: str = "PNG", seed: int = 0) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(256, size=(11, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def read(body: bytes, content_type: str, like: Kind) -> np.ndarray:
    return np.concatenate(list(requests.batches(body, content_type, like)))


def test_the_program_is_what_the_project_says() -> None:
    scripts = tomllib.loads((ROOT / "container_src/pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["serve"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/jpeg", "application/x-image", "application/octet-stream"]
)
def test_one_image_whatever_it_is_called(content_type: str) -> None:
    pixels = read(image_file(), content_type, IMAGES)
    np.testing.assert_array_equal(pixels, decode(image_file(), (8, 8)).transpose(2, 0, 1)[None])


def test_images_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subset_trainer.data.kinds.image.IMAGES_AT_ONCE", 2)
    files = [image_file("PNG", 1), image_file("JPEG", 2), image_file("WEBP", 3)]
    objects = [{"image": base64.b64encode(file).decode()} for file in files]
    expected = np.stack([decode(file, (8, 8)).transpose(2, 0, 1) for file in files])
    lines = "\n".join(map(json.dumps, objects)).encode()
    np.testing.assert_array_equal(read(lines, "application/jsonlines", IMAGES), expected)
    for document in (objects, {"instances": objects}):
        np.testing.assert_array_equal(
            read(json.dumps(document).encode(), "application/json", IMAGES), expected
        )
    single = json.dumps(objects[0]).encode()
    np.testing.assert_array_equal(read(single, "application/json", IMAGES), expected[:1])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"1,2\n3,4\n", "text/csv"),
        (b"\xef\xbb\xbf1,2\r\n3,4\r\n", "text/csv; charset=utf-8"),
        (b"b,a\n2,1\n4,3", "text/csv; header=present"),
        (b"1;2\n3;4", "TEXT/CSV"),
        (b'[1,2]\n\n{"features":[3,4]}\n', "application/jsonlines"),
        (b'{"a":1,"b":2}\n{"b":4,"a":3}', "application/x-ndjson"),
        (b'[[1,2],["3","4"]]', "application/json"),
        (b'{"instances":[{"features":[1,2]},{"a":3,"b":4}]}', "application/json"),
    ],
)
def test_rows(body: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 4096):
        monkeypatch.setattr("subset_trainer.data.kinds.table.ROWS_AT_ONCE", size)
        assert read(body, content_type, TABLES).tolist() == [[1, 2], [3, 4]]


TEXTS = TextKind(("ham", "spam"), hashing=Hashing("word", 1 << 16, 8), text_column="message")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'message\n"one, two"\nthree\n', "text/csv"),
        (b'"one, two"\nthree\n', "text/csv"),
        (b'"one, two"\n{"text": "three"}', "application/jsonlines"),
        (b'["one, two", {"features": ["three"]}]', "application/json"),
        (b'{"instances": [{"text": "one, two"}, "three"]}', "application/json"),
    ],
)
def test_texts(body: bytes, content_type: str) -> None:
    assert TEXTS.hashing is not None
    expected = encode_texts(["one, two", "three"], TEXTS.hashing)
    np.testing.assert_array_equal(read(body, content_type, TEXTS), expected)


def test_a_body_of_plain_text_is_one() -> None:
    assert TEXTS.hashing is not None
    np.testing.assert_array_equal(
        read(b"one,\ntwo", "text/plain", TEXTS), encode_texts(["one two"], TEXTS.hashing)
    )


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (
            b"one, two",
            "text/csv",
            "line 1: 2 fields; expected one, the text, in quotes where it holds commas",
        ),
        (b'{"text": 5}', "application/jsonlines", "line 1 holds no text; expected a text"),
        (b"7", "application/json", "example 1 holds no text"),
        (
            b"a",
            "image/png",
            "expected text/plain, text/csv, application/jsonlines or application/json, because the",
        ),
    ],
)
def test_what_is_no_text(body: bytes, content_type: str, sentence: str) -> None:
    with pytest.raises((UserError, RequestError), match=sentence):
        read(body, content_type, TEXTS)


def test_a_flat_list_is_one_row() -> None:
    assert read(b"[1,2]", "application/json", TABLES).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("like", "body", "content_type", "sentence"),
    [
        (TABLES, b"\xff\xfe1\x00", "text/csv", "not UTF-8 text"),
        (TABLES, b"{", "application/json", "the body is not JSON"),
        (TABLES, b"[" * 100_000, "application/json", "the body is nested too deeply"),
        (TABLES, b"[1,2]\n{]", "application/jsonlines", "line 2 is not JSON"),
        (TABLES, b"9" * 5000, "application/json", "not JSON"),
        (TABLES, b"1,2", "text/csv; label_size=0", "label_size"),
        (IMAGES, b"GIF89a", "image/gif", r"image 'of the request' cannot be read"),
        (IMAGES, image_file()[:100], "image/png", "expected an intact image file"),
        (IMAGES, b'{"image": "????"}', "application/json", "example 1: the image is not in base64"),
        (IMAGES, b'{"image": "AAAA"}\n', "application/jsonlines", "image 'line 1' cannot be read"),
        (IMAGES, b'{"features": [1]}', "application/jsonlines", "line 1 holds no image; expected"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    like: Kind, body: bytes, content_type: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        read(body, content_type, like)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("like", "content_type"),
    [
        (TABLES, "image/png"),
        (TABLES, ""),
        (TABLES, "text/plain"),
        (IMAGES, "text/csv"),
        (IMAGES, "imagex/png"),
    ],
)
def test_other_content_types_are_refused(like: Kind, content_type: str) -> None:
    with pytest.raises(RequestError, match=r"request: the content type is .*; expected ") as raised:
        requests.form_of(content_type, like)
    assert raised.value.status == 415


@pytest.mark.parametrize(
    ("accept", "form", "expected"),
    [
        (None, "text/csv", ("text/csv", False)),
        ("*/*", "application/jsonlines", ("application/jsonlines", False)),
        ("*/*", "image/", ("application/json", False)),
        ("application/*", "text/csv", ("application/json", False)),
        ("application/jsonlines; verbose=true", "text/csv", ("application/jsonlines", True)),
        ("text/html, text/csv;q=0.5, application/json;q=0.9", "text/csv", ("application/json", False)),
        ("application/json;q=0, */*;q=0.1", "text/csv", ("text/csv", False)),
    ],
)
def test_what_is_answered_in(accept: str | None, form: str, expected: tuple[str, bool]) -> None:
    assert responses.accepted(accept, form) == expected


def test_an_accept_that_cannot_be_served() -> None:
    with pytest.raises(RequestError, match="Accept is 'image/png'") as raised:
        responses.accepted("image/png", "text/csv")
    assert raised.value.status == 406


def test_the_three_forms() -> None:
    probabilities = np.array([[0.1, 0.9], [1.0, 1e-12]], np.float32)
    classes = ("a, b", "dog")
    assert responses.encode(probabilities, classes, "text/csv", False) == b'dog,0.1,0.9\n"a, b",1,1e-12'
    lines = responses.encode(probabilities, classes, "application/jsonlines", True).split(b"\n")
    assert json.loads(lines[0]) == {
        "predicted_label": "dog",
        "probability": 0.9,
        "probabilities": [0.1, 0.9],
        "labels": ["a, b", "dog"],
    }
    document = json.loads(responses.encode(probabilities, classes, "application/json", False))
    assert [entry["predicted_label"] for entry in document["predictions"]] == ["dog", "a, b"]
    assert "labels" not in document["predictions"][0]


def test_probabilities_are_those_of_the_logits_whatever_the_batches() -> None:
    torch.manual_seed(0)
    ready = predictor.Predictor(TrainedModel(build("mlp", (2,), 2).eval(), TABLES, {}), torch.device("cpu"))
    rows = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    with torch.inference_mode():
        expected = ready._classifier(torch.from_numpy(rows)).softmax(1).numpy()
    np.testing.assert_allclose(ready.probabilities([rows]), expected, atol=1e-6)
    np.testing.assert_allclose(ready.probabilities([rows[:3], rows[3:]]), expected, atol=1e-6)
    assert ready.probabilities([]).shape == (0, 2)
    with pytest.raises(UserError, match=r"example 4: the model's output is not a number"):
        ready.probabilities([rows[:3], np.full((2, 2), 3e38, np.float32)])


def test_settings() -> None:
    assert Settings.read({}).port == 8080
    assert Settings.read({}).payload_mib == 6
    found = Settings.read({"SAGEMAKER_BIND_TO_PORT": "9000", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"})
    assert (found.port, found.payload_mib) == (9000, 0)
    assert found.threads >= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "70000"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "many"),
    ],
)
def test_settings_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(
        UserError, match=f"environment variable {name}='{value}': expected a whole number from"
    ):
        Settings.read({name: value})


class Broken(predictor.Predictor):
    def __init__(self) -> None:
        self.preprocessing = TABLES

    def probabilities(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        raise RuntimeError(f"secret: {list(batches)}")


class Slow(Broken):
    def probabilities(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        time.sleep(0.3)
        return np.ones((1, 2), np.float32)


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/invocations",
    "headers": [(b"content-type", b"text/csv")],
    "query_string": b"",
}


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"4711,2", "more_body": False}


def test_a_request_that_sigterm_cuts_off_is_told_so() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        task = asyncio.create_task(application(Slow(), Settings())(SCOPE, receive, send))
        await asyncio.sleep(0.1)
        task.cancel()  # as the server does when its time is over
        await task

    asyncio.run(answer())
    assert sent[0]["status"] == 503
    assert sent[1]["body"] == b"the server is stopping: send the request again"


def test_a_body_that_comes_too_slowly_is_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.2)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.15)
        return {"type": "http.request", "body": b"4711,2", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    began = time.monotonic()
    anyio.run(application(Slow(), Settings()), SCOPE, receive, send)
    assert time.monotonic() - began < 5
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    assert sent[1]["body"] == b"request: 6 bytes of the body came in 0 s; expected all of it."


def test_bodies_wait_until_others_are_answered() -> None:
    held: list[int] = []

    async def one(requests: Requests, size: int) -> None:
        async with requests.room(size):
            held.append(requests.held)
            await asyncio.sleep(0.01)

    async def all_of_them() -> None:
        requests = Requests(100)
        await asyncio.gather(*(one(requests, size) for size in (40, 40, 40, 70, 500, 10, 10)))
        assert requests.held == 0

    asyncio.run(all_of_them())
    assert len(held) == 7
    assert sorted(held)[-1] == 500 and sorted(held)[-2] <= 100


def test_a_server_that_stays_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ROOM_SECONDS", 0.1)

    async def two() -> None:
        requests = Requests(100 << 20)
        async with requests.room(80 << 20):
            with pytest.raises(RequestError, match="other requests take all of the server's memory") as told:
                async with requests.room(40 << 20):
                    pytest.fail("there was no room")
        assert told.value.status == 503

    asyncio.run(two())


def test_a_refused_request_leaves_nothing_in_memory() -> None:
    """Without the garbage being collected: a request's memory is not for others to wait for."""

    class Reading(Broken):
        def probabilities(self, batches: Iterable[np.ndarray]) -> np.ndarray:
            held = bytearray(64 << 20)
            for _ in batches:
                held += b""
            raise UserError(f"request: refused after {len(held)} bytes")

    async def send(message: Any) -> None:
        pass

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            anyio.run(application(Reading(), Settings()), SCOPE, receive, send)
        assert tracemalloc.get_traced_memory()[0] < 16 << 20
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_server_that_stops_answers_no_new_request() -> None:
    async def stop() -> None:
        requests = Requests()
        await requests.finish(1)
        with pytest.raises(RequestError, match="stopping"):
            async with requests.room(1):
                pytest.fail("it was let in")

    asyncio.run(stop())


def test_an_internal_error_says_where_in_the_log_and_nothing_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with caplog.at_level(logging.INFO):
        anyio.run(application(Broken(), Settings()), SCOPE, receive, send)
    assert sent[0]["status"] == 500
    assert sent[1]["body"] == b"internal error; the log says where"
    assert "RuntimeError at" in caplog.text
    assert "in probabilities" in caplog.text
    assert "secret" not in caplog.text
    assert "4711" not in caplog.text
