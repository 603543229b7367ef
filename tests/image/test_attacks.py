"""Images that would stall a container, `docker stop` while it works or hangs, and what its first process owes."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.functional.conftest import write_image
from tests.functional.test_first_process import ORPHANS
from tests.image.conftest import Container, Image, container, docker, script_job
from tests.image.test_training import QUICK, make_job
from tests.slow_images import jpeg_of_scans, tall_tiff, tiff_in_a_tile
from tests.unit.data.test_hostile import png

IMAGES = {"strategy": "full", "model": "cnn", "epochs": "1", "image_size": "8", "report": "false"}
ATTACKS = {
    "scans.jpg": (
        lambda: jpeg_of_scans(3_000, 300),
        "3,000 x 3,000 pixels in 300 scans, which count as 270,",
    ),
    "tall.tiff": (lambda: tall_tiff(200_000_000), "1 x 200,000,000 pixels and max_image_pixels=178,956,970"),
    "tile.tiff": (lambda: tiff_in_a_tile(16, 15_000), "16 x 16 pixels in tiles of 15,000 x 15,000"),
    "giant.png": (lambda: png(100_000, 100_000, 0), "100,000 x 100,000 pixels and max_image_pixels="),
}
RANK_1 = "grep -lzx RANK=1 /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3"
CHILD_OF_THE_FIRST = r"grep -l '^PPid:\s*1$' /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3"
SECONDS = 60


def asked(port: int, body: bytes, kind: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("POST", "/invocations", body, {"Content-Type": kind})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


def ping(port: int) -> int | None:
    """The status; None while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_attack_images_are_refused_by_name_and_answered_413(image: Image, tmp_path: Path) -> None:
    """`train` refuses them, or leaves them out; `serve` answers, and `docker stop` lets the open request finish."""
    attacks = {name: make() for name, (make, _) in ATTACKS.items()}
    training = tmp_path / "input/data/training"
    for name in ("cat", "dog"):
        for number in range(40):
            write_image(training / name / f"{number}.png", seed=number)
    for name, content in attacks.items():
        (training / "dog" / name).write_bytes(content)
    configuration = tmp_path / "input/config"
    configuration.mkdir()
    options = ["-v", f"{tmp_path}:/opt/ml"]

    (configuration / "hyperparameters.json").write_text(json.dumps(IMAGES))
    began = time.monotonic()
    done = image.run("train", options=options)
    assert time.monotonic() - began < 30, done.stdout
    failure = (tmp_path / "output/failure").read_text()
    assert done.returncode == 1 and done.stdout.strip().endswith(failure), done.stdout + done.stderr
    assert failure.startswith("training channel: 4 of 84 images cannot be read: ")
    for name, (_, why) in ATTACKS.items():
        assert f"'dog/{name}' (it has {why}" in failure

    skip = {**IMAGES, "on_unreadable": "skip", "unreadable_limit": "0.05"}
    (configuration / "hyperparameters.json").write_text(json.dumps(skip))
    done = image.run("train", options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 84 images (0.048) cannot be read and are left out: 'dog/" in done.stdout

    published = [*options, "--publish", "127.0.0.1::8080"]
    with container(image, "serve", options=published, network="bridge") as server:
        port = int(docker("port", server.name, "8080").rsplit(":", 1)[1])
        server.wait_for("port 8080")
        while (status := ping(port)) != 200:
            assert status is None, server.log
            time.sleep(0.05)
        for name, (_, why) in ATTACKS.items():
            began = time.monotonic()
            status, text = asked(port, attacks[name], "application/x-image")
            assert (status, time.monotonic() - began < 5) == (413, True), text
            assert why in text
        stopped_while_a_request_is_open(server, port, (training / "cat/1.png").read_bytes())


def stopped_while_a_request_is_open(server: Container, port: int, body: bytes) -> None:
    """The open one is in the middle of its body, so that no machine is too fast for the others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    assert asked(port, body, "image/png")[0] == 200
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop)
        while (status := ping(port)) != 503:
            assert status == 200 and not stopping.done(), server.log
            time.sleep(0.05)
        assert asked(port, body, "image/png") == (
            503,
            "request: the server is stopping; send the request again.",
        )
        connection.send(body[10:])
        answer = connection.getresponse()
        assert answer.status == 200 and b"predicted_label" in answer.read()
        assert stopping.result() < 9, server.log
    assert server.exit_code() == 0, server.log
    assert server.log.endswith("SIGTERM received: stopped")
    connection.close()


def test_the_first_process_reaps_orphans(image: Image, tmp_path: Path) -> None:
    done = image.run("train", options=script_job(tmp_path, ORPHANS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zombies 0 of " in done.stdout


def test_docker_stop_ends_a_job_of_which_a_process_hangs(image: Image, digits: Path, tmp_path: Path) -> None:
    """Stopped, it ignores SIGTERM, and the other waits for it in a collective. Without a network the container's own
    name does not resolve, and the processes meet all the same."""
    two = {**QUICK, "strategy": "full", "epochs": "100000", "processes_per_host": "2", "report": "false"}
    options = make_job(tmp_path, digits, two)
    (tmp_path / "checkpoints").mkdir()
    with container(image, "train", options=options) as job:
        job.wait_for("epoch=2 ")
        docker("exec", job.name, "sh", "-c", f"kill -STOP $({RANK_1})")
        assert job.stop() < 10, job.log
        assert job.exit_code() == 0, job.log
        assert "not all processes ended in time; the last checkpoint stays" in job.log
    assert list((tmp_path / "checkpoints").glob("checkpoint-*.pt"))


def test_a_job_that_is_killed_in_its_container_says_so(image: Image, digits: Path, tmp_path: Path) -> None:
    long = {**QUICK, "strategy": "full", "epochs": "100000"}
    with container(image, "train", options=make_job(tmp_path, digits, long)) as job:
        job.wait_for("epoch=2 ")
        docker("exec", job.name, "sh", "-c", f"kill -KILL $({CHILD_OF_THE_FIRST})")
        assert job.exit_code() == 2, job.log
        failure = (tmp_path / "output/failure").read_text()
        assert failure == "the job was ended by SIGKILL: the machine's memory may have run out"
        assert job.log.endswith(failure)
