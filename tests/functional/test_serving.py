"""The real ``serve`` program over models that the real ``train`` program has made."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from subset_trainer import artifacts
from subset_trainer.data import load_channel
from subset_trainer.serving.bounds import HEAD_SECONDS
from tests.functional.conftest import Job, write_image, write_table
from tests.slow_images import jpeg_of_scans, slow_png

SECONDS = 60
MIB = 1 << 20
SECRET = "secret-of-a-patient-4711"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(base: Path, port: int, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "subset_trainer.serving.server"],
        env={
            **os.environ,
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=base,
    )


class Server:
    """A running one. `log` is there when it has stopped."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port = free_port()
        self.process = start(base, self.port)
        self.log = ""

    def wait(self) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                assert self.get("/ping") == (200, b"")
            except urllib.error.URLError:
                time.sleep(0.1)
            else:
                return
        self.process.kill()
        pytest.fail(f"it does not answer: {self.process.communicate()[0]}")

    def get(self, path: str) -> tuple[int, bytes]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS) as answer:
            return answer.status, answer.read()

    def invoke(self, body: bytes, content_type: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", body, {"Content-Type": content_type, **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                assert answer.headers["Content-Type"].startswith(("text/csv", "application/json"))
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> float:
        """Seconds until it has ended."""
        sent = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.log += self.process.communicate(timeout=SECONDS)[0]
        finally:
            self.process.kill()
        return time.monotonic() - sent


@contextmanager
def serving(base: Path) -> Iterator[Server]:
    server = Server(base)
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.wait(SECONDS)


@pytest.fixture(scope="module")
def table_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    job = Job(tmp_path_factory.mktemp("table") / "ml")
    write_table(job.channel("training") / "train.csv")
    job.run({"epochs": 3, "batch_size": 32, "fraction": 1, "strategy": "full"})
    assert job.exit_code == 0, job.log
    with serving(job.base) as server:
        yield server


def offline(base: Path, channel: Path) -> tuple[list[str], torch.Tensor]:
    """Classes, and the probabilities [N, C] that the saved model gives for a channel that training's reader reads."""
    model = artifacts.load_model(base / "model")
    data = load_channel(channel, model.preprocessing, name="test")
    (inputs,) = data.batches([torch.arange(len(data))], torch.device("cpu"))
    with torch.inference_mode():
        return list(model.preprocessing.classes), model.classifier(inputs).softmax(1)


def test_a_table_is_answered_as_the_saved_model_answers(table_server: Server, tmp_path: Path) -> None:
    write_table(tmp_path / "test.csv", rows=50, seed=1)
    classes, expected = offline(table_server.base, tmp_path)
    rows = [line.split(",")[1:] for line in (tmp_path / "test.csv").read_text().splitlines()[1:]]

    csv_body = "".join(",".join(row) + "\n" for row in rows).encode()
    status, text = table_server.invoke(csv_body, "text/csv")
    assert status == 200
    lines = [line.split(",") for line in text.split("\n")]
    assert [line[0] for line in lines] == [classes[at] for at in expected.argmax(1).tolist()]
    found = torch.tensor([[float(value) for value in line[1:]] for line in lines])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    # As Clarify sends them, and as it reads the answers.
    body = "\n".join(json.dumps({"features": [float(value) for value in row]}) for row in rows).encode()
    status, text = table_server.invoke(
        body, "application/jsonlines", Accept="application/jsonlines;verbose=true"
    )
    assert status == 200
    answers = [json.loads(line) for line in text.split("\n")]
    torch.testing.assert_close(
        torch.tensor([answer["probabilities"] for answer in answers]), expected, atol=1e-5, rtol=1e-4
    )
    assert {tuple(answer["labels"]) for answer in answers} == {tuple(classes)}

    parameters = json.loads(table_server.get("/execution-parameters")[1])
    assert parameters["BatchStrategy"] == "MULTI_RECORD"
    assert parameters["MaxPayloadInMB"] == 6


def test_a_category_is_one_in_each_form_that_a_client_sends(tmp_path: Path) -> None:
    job, decomposed = Job(tmp_path / "ml"), unicodedata.normalize("NFD", "Zürich")
    rows = [
        f"{'ab'[row % 2]},{['02139', '10001', '00501'][row % 3]},{['Zürich', 'Bern'][row % 2]}"
        for row in range(60)
    ]
    (job.channel("training") / "t.csv").write_text("\n".join(["label,zip,town", *rows]) + "\n")
    job.run({"epochs": 2, "strategy": "full"})
    assert job.exit_code == 0, job.log
    with serving(job.base) as server:
        status, expected = server.invoke("02139,Zürich\n".encode(), "text/csv")
        assert status == 200
        assert server.invoke(f"2139,{decomposed}\n".encode(), "text/csv") == (200, expected)
        assert server.invoke("10001,Zürich\n".encode(), "text/csv")[1] != expected
        for features in (["02139", "Zürich"], [2139, decomposed]):
            body = json.dumps({"features": features}, ensure_ascii=False).encode()
            assert server.invoke(body, "application/json", Accept="text/csv") == (200, expected)


def test_many_at_once(table_server: Server) -> None:
    def ask(number: int) -> str:
        return table_server.invoke(f"{number % 3},{number % 3},{number % 3},0\n".encode(), "text/csv")[1]

    alone = [ask(number) for number in range(3)]
    assert len(set(alone)) == 3
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(60))) == alone * 20


@pytest.mark.parametrize(
    ("status", "body", "content_type", "headers", "sentence"),
    [
        (
            400,
            f"1,2,3,{SECRET}\n".encode(),
            "text/csv",
            {},
            f"the value is '{SECRET}'; expected a finite number",
        ),
        (400, b"1,2\n", "text/csv", {}, "2 fields; expected 4"),
        (400, b"", "text/csv", {}, "the body is empty"),
        (400, b"\n\n", "text/csv", {}, "holds no example"),
        (400, b"\xff" * 1000, "text/csv", {}, "not UTF-8"),
        (400, b"[" * MIB, "application/json", {}, "nested too deeply"),
        (400, b'["\\ud800",1,1,1]', "application/json", {}, "expected a finite number"),
        (406, b"1,2,3,4", "text/csv", {"Accept": "image/png"}, "Accept is 'image/png'"),
        (413, b"1" * (6 * MIB + 1), "text/csv", {}, "larger than 6 MiB"),
        (415, b"1,2,3,4", "image/png", {}, "the content type is 'image/png'; expected text/csv"),
        (415, b"1,2,3,4", "text/csv", {"Content-Encoding": "gzip"}, "Content-Encoding is 'gzip'"),
    ],
)
def test_what_the_client_can_mend_is_one_sentence(
    table_server: Server, status: int, body: bytes, content_type: str, headers: dict[str, Any], sentence: str
) -> None:
    found, text = table_server.invoke(body, content_type, **headers)
    assert (found, text.count("\n")) == (status, 0)
    assert text.startswith("request: ")
    assert sentence in text
    assert table_server.get("/ping")[0] == 200


def test_connections_that_break_off_disturb_nobody(table_server: Server) -> None:
    for part in (
        b"nonsense\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n1,2",
    ):
        with socket.create_connection(("127.0.0.1", table_server.port), timeout=SECONDS) as connection:
            connection.sendall(part)
    assert table_server.invoke(b"1,2,3,4", "text/csv")[0] == 200


def test_connections_without_a_request_are_closed(table_server: Server) -> None:
    """Whether they have sent a part of one or nothing, while others are answered."""
    parts = (b"", b"POST /invocations HTTP/1.1\r\nHost: a\r\n")
    with ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection(("127.0.0.1", table_server.port), SECONDS))
            for _ in range(300)
        ]
        began = time.monotonic()
        for number, connection in enumerate(connections):
            connection.sendall(parts[number % 2])
        assert table_server.invoke(b"1,2,3,4", "text/csv")[0] == 200
        assert [connection.recv(1) for connection in connections] == [b""] * len(connections)
        assert HEAD_SECONDS - 1 < time.monotonic() - began < HEAD_SECONDS + 10


def test_a_kept_connection_answers_one_request_after_the_other(table_server: Server) -> None:
    """Also after a pause that is longer than the headers may take."""
    connection = http.client.HTTPConnection("127.0.0.1", table_server.port, timeout=SECONDS)
    for pause in (0, HEAD_SECONDS + 2):
        time.sleep(pause)
        connection.request("POST", "/invocations", b"1,2,3,4", {"Content-Type": "text/csv"})
        answer = connection.getresponse()
        assert (answer.status, answer.read().count(b",")) == (200, 3)
    connection.close()


def test_sigterm_ends_it_and_the_log_holds_nothing_of_the_requests(table_server: Server) -> None:
    """The last one: the tests above have sent what must not be there."""
    assert table_server.invoke(f"{SECRET},2,3,4".encode(), "text/csv")[0] == 400
    assert table_server.stop() < 5
    assert table_server.process.returncode == 0, table_server.log
    assert "serving a model of table data, 3 classes" in table_server.log
    assert table_server.log.strip().endswith("SIGTERM received: stopped")
    assert SECRET not in table_server.log
    assert "Traceback" not in table_server.log
    assert len(table_server.log.splitlines()) < 20


def test_images(job: Job, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(12):
            write_image(job.channel("training") / label / f"{number}.png", seed=number)
    job.run({"model": "cnn", "epochs": 1, "batch_size": 8, "augmentation": "none", "precision": "float32"})
    assert job.exit_code == 0, job.log
    channel = tmp_path / "test"
    for number, label in enumerate(("cat", "dog")):
        write_image(channel / label / "1.png", seed=100 + number, size=13)
    classes, expected = offline(job.base, channel)
    files = [(channel / label / "1.png").read_bytes() for label in ("cat", "dog")]
    with serving(job.base) as server:
        for file, probabilities in zip(files, expected.tolist(), strict=True):
            status, text = server.invoke(file, "image/png")
            assert status == 200
            (prediction,) = json.loads(text)["predictions"]
            assert prediction["probabilities"] == pytest.approx(probabilities, abs=1e-5)
            assert prediction["predicted_label"] == classes[probabilities.index(max(probabilities))]
        lines = "\n".join(json.dumps({"image": base64.b64encode(file).decode()}) for file in files)
        status, text = server.invoke(lines.encode(), "application/jsonlines", Accept="text/csv")
        assert status == 200
        found = [[float(value) for value in line.split(",")[1:]] for line in text.split("\n")]
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-4)
        assert server.invoke(files[0][:60], "image/png")[0] == 400
        assert json.loads(server.get("/execution-parameters")[1])["BatchStrategy"] == "SINGLE_RECORD"


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job(tmp_path_factory.mktemp("images") / "ml")
    for label in ("cat", "dog"):
        for number in range(12):
            write_image(job.channel("training") / label / f"{number}.png", seed=number)
    job.run({"model": "cnn", "epochs": 1, "batch_size": 8, "augmentation": "none"})
    assert job.exit_code == 0, job.log
    return job.base


def test_an_image_that_takes_long_to_decode_is_refused(image_model: Path) -> None:
    slow = jpeg_of_scans(3_000, 300)
    with serving(image_model) as server:
        began = time.monotonic()
        status, text = server.invoke(slow, "image/jpeg")
        assert status == 413 and time.monotonic() - began < 5
        assert "3,000 x 3,000 pixels in 300 scans, which count as 270,000,000" in text
        assert server.invoke(jpeg_of_scans(50, 10), "image/jpeg")[0] == 200


def slow_request(images: int) -> bytes:
    """Of images that take half a second each."""
    image = base64.b64encode(slow_png(3_000, 8)).decode()
    return "\n".join([json.dumps({"image": image})] * images).encode()


def test_requests_that_are_open_at_sigterm_are_answered_and_new_ones_refused(image_model: Path) -> None:
    """The open one is in the middle of its body, so that no machine is too fast for the others."""
    with serving(image_model) as server:
        body = slow_request(1)
        open_one = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        open_one.putrequest("POST", "/invocations")
        open_one.putheader("Content-Type", "application/jsonlines")
        open_one.putheader("Content-Length", str(len(body)))
        open_one.endheaders(body[:1_000])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        # Also where more is sent than a connection holds.
        for refused in (body, bytes(50 * MIB)):
            assert server.invoke(refused, "application/jsonlines") == (
                503,
                "request: the server is stopping; send the request again.",
            )
        with pytest.raises(urllib.error.HTTPError, match="503"):
            server.get("/ping")
        open_one.send(body[1_000:])
        answer = open_one.getresponse()
        assert answer.status == 200 and answer.read().count(b"predicted_label") == 1
        assert server.process.wait(SECONDS) == 0


def test_what_sigterm_does_not_wait_for_gets_503(image_model: Path) -> None:
    with serving(image_model) as server, ThreadPoolExecutor(1) as pool:
        open_one = pool.submit(server.invoke, slow_request(80), "application/jsonlines")
        time.sleep(1)
        assert server.stop() < 10, server.log
        assert open_one.result()[0] == 503
        assert server.process.returncode == 0, server.log


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_sigterm_while_the_model_is_loaded(image_model: Path, seconds: float) -> None:
    process = start(image_model, free_port())
    assert process.stdout is not None
    try:
        assert "subset-trainer" in process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=SECONDS)[0]
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert log.strip().endswith("SIGTERM received: stopped")


def test_without_a_model_it_says_so(tmp_path: Path) -> None:
    process = start(tmp_path, free_port())
    log, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert log.strip().endswith(
        f"{tmp_path / 'model'} holds no model.json; expected the model folder of a job"
    )


@pytest.mark.parametrize("told", ["file", "variable"])
def test_a_model_with_inference_code_is_refused_with_what_is_served(job: Job, told: str) -> None:
    write_table(job.channel("training") / "train.csv")
    job.run({"epochs": 1, "device": "cpu"})
    assert job.exit_code == 0, job.log
    code = job.base / "model/code/inference.py"
    if told == "file":
        code.parent.mkdir()
        code.write_text("def model_fn(model_dir): ...")
    process = start(job.base, free_port(), **({"SAGEMAKER_PROGRAM": "mine.py"} if told == "variable" else {}))
    log, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    said = (
        str(code)
        if told == "file"
        else "environment variable SAGEMAKER_PROGRAM='mine.py' names inference code"
    )
    assert said in log
    assert "serves models of its built-in trainer alone, from model.json and model.safetensors" in log


def test_a_script_mode_jobs_model_is_refused_with_what_is_served(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.pt").write_bytes(b"weights")
    process = start(tmp_path, free_port())
    log, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "holds no model.json but model.pt, as a script-mode job leaves it" in log.splitlines()[-1]
    assert "serves models of its built-in trainer alone" in log.splitlines()[-1]
