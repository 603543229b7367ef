"""AWS as moto's server plays it: real boto3 and the real SageMaker SDK talk to it over HTTP."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.aws.training_jobs import Platform

REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_server: str, quiet_sdk: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty AWS account; the server's address. The developer's own credentials are out of reach."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    requests.post(f"{moto_server}/moto-api/reset", timeout=10).raise_for_status()
    return moto_server


@pytest.fixture
def unreachable_aws(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call to AWS fails: nothing listens on the discard port."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def bucket(aws: str) -> str:
    """The name of the one for results; that of the channels is there, too, with a table in each of them."""
    s3 = boto3.client("s3")
    for name in ("results", "data"):
        s3.create_bucket(Bucket=name)
    for channel in ("training", "validation", "test"):
        put_table("data", channel)
    return "results"


def put_table(bucket: str, channel: str) -> None:
    """Write a table that can be trained on: an empty channel is refused."""
    rows = "".join(f"{'ab'[n % 2]},{n}.5,{n % 7}.25\n" for n in range(60))
    boto3.client("s3").put_object(
        Bucket=bucket, Key=f"{channel}/rows.csv", Body=f"label,x,y\n{rows}".encode()
    )


@pytest.fixture
def platform(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """Moto's training jobs end after a number of status queries; the working directory is temporary."""
    platform = Platform(tmp_path, ACCOUNT, REGION)
    original = botocore.client.BaseClient._make_api_call

    def call(self: Any, operation: str, parameters: Any) -> Any:
        if operation == "DescribeTrainingJob":
            platform.looked_at(parameters["TrainingJobName"])
        answer = original(self, operation, parameters)
        if operation == "CreateTrainingJob":
            platform.created(parameters)
        elif operation == "CreateHyperParameterTuningJob":
            platform.tuning_created(parameters)
        return answer

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    monkeypatch.chdir(tmp_path)
    yield platform
    platform.close()
