"""What the page on local mode says, line by line; and a container whose metrics are read back by `compare`."""

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest
import requests
from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser

from deploy.__main__ import main
from deploy.aws import launch
from deploy.digits import write_digits
from deploy.results import experiments
from tests.documentation import blocks_of, lines
from tests.functional.test_page import CHARTS, DESKTOP, Opened, drawings
from tests.local_mode.conftest import Fit, without_ended_containers

HERE = "tests/local_mode/test_story.py::test_the_commands_of_local_mode"
ROLE = "arn:aws:iam::123456789012:role/trainer"


@pytest.fixture
def gateway() -> Iterator[str]:
    """Moto's server where containers reach it: on the host's side of Docker's bridge."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{json (index .IPAM.Config 0)}}"]
    described = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    # An engine that found its bridge already there does not name the gateway: the network's first address.
    address = described.get("Gateway") or str(ipaddress.ip_network(described["Subnet"])[1])
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()
    yield url
    server.stop()


def test_a_container_records_and_compare_reads(
    image: str,
    fit: Fit,
    gateway: str,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {
        "AWS_ENDPOINT_URL": gateway,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    values = {"strategy": "rs2", "fraction": 0.2, "epochs": 3, "model": "mlp", "augmentation": "none"}
    with monkeypatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="results")
        session = launch.sagemaker_session(bucket="results")
        with experiments.run_of_job("bridge", "rs2", "bridge-rs2", session):
            launch.estimator(image, values, ROLE, "ml.m5.large", session=session).fit(
                {"training": "s3://results/training"}, wait=False, job_name="bridge-rs2"
            )
        job = boto3.client("sagemaker").describe_training_job(TrainingJobName="bridge-rs2")

    result = fit(
        {"training": digits / "training", "test": digits / "test"},
        values,
        environment={**own, "TRAINING_JOB_ARN": job["TrainingJobArn"]},
    )
    assert result.error is None

    for name, value in own.items():
        monkeypatch.setenv(name, value)
    # SageMaker's part.
    key = f"{job['OutputDataConfig']['S3OutputPath']}bridge-rs2/output/output.tar.gz".removeprefix(
        "s3://results/"
    )
    boto3.client("s3").upload_file(str(tmp_path / "results/output.tar.gz"), "results", key)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "bridge", "--csv", "frame.csv", "--output", "bridge"]) == 0
    assert "rs2" in capsys.readouterr().out
    (row,) = pd.read_csv("frame.csv").to_dict("records")
    assert row["fraction"] == 0.2 and row["budget"] == result.summary["budget"]
    assert row["validation:accuracy - Count"] == 3
    assert row["validation:accuracy - Last"] == pytest.approx(result.history[-1]["validation:accuracy"])
    assert row["samples:visited - Max"] == result.summary["samples_visited"]
    assert row["test:accuracy - Last"] == pytest.approx(result.summary["test"]["accuracy"])
    (compared,) = json.loads(Path("bridge/comparison.json").read_text())
    assert compared["test_accuracy"] == result.summary["test"]["accuracy"]


def test_the_commands_of_local_mode(
    image: str,
    quiet_sdk: None,
    tmp_path: Path,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    write_digits(Path("build/demo/digits"))
    commands = [
        [image if word == "subset-trainer" else word for word in line.arguments({})]
        for block in blocks_of(HERE)
        for line in lines(block.text)
    ]
    assert [command[0] for command in commands] == ["launch", "sweep"]
    with without_ended_containers(image):
        for command in commands:
            assert main(command) == 0
        first = capfd.readouterr()
        assert "model: file://" in first.out and "Attaching to" in first.out + first.err
        # Nothing is run again.
        assert main(commands[1]) == 0
    again = capfd.readouterr()
    assert "Attaching to" not in again.out + again.err

    found = json.loads(Path("build/sweeps/digits/comparison.json").read_text())
    assert [row["run"] for row in found] == ["full", "rs2-0-5", "rs2-0-3", "rs2-0-1"]
    visited = [row["samples_visited"] for row in found]
    assert visited == sorted(visited, reverse=True) and visited[0] == 5 * 1295
    context = browser.new_context(viewport=DESKTOP, offline=True)
    looked = Opened(context.new_page(), Path("build/sweeps/digits/comparison.html").resolve())
    assert looked.said == []
    rs2 = drawings(looked.page)[CHARTS[0]]["rs2 (baseline)"]
    assert len(rs2["notes"]) == 3
    context.close()


def test_a_run_that_fails_is_told_beside_the_others(
    image: str,
    quiet_sdk: None,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # Images are understood by their names; only the job decodes them.
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        (tmp_path / "broken" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "broken" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused/a.csv").write_text("label,x\n1,2\n")
    command = ["sweep", "--local", "--region", "us-east-1", "--name", "broken", "--image-uri", image]
    assert main([*command, "--fractions", "1", "--training", "refused"]) == 1
    assert "all 1 examples are of one class" in capfd.readouterr().err.splitlines()[-1]
    with without_ended_containers(image):
        assert main([*command, "--fractions", "1", "--seeds", "0", "--training", "broken"]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 1 runs have no results, first full: ")
    assert "exited" not in error
