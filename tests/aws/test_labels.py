"""`labels` where the data lies in S3, the consolidation function, and a labelling job's status."""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from deploy.__main__ import main
from deploy.labels import consolidation_lambda
from subset_trainer.errors import UserError
from tests.aws.conftest import ACCOUNT
from tests.aws.labelling import CREATED, JOB, description, stub_client
from tests.aws.test_experiments import create_job
from tests.documentation import blocks_of, lines
from tests.unit.test_ground_truth import CAT, response, sources, write_job
from tests.unit.test_relabel import EXAMPLES, packed, parquet

DOG = {"crowd-image-classifier": {"label": "dog"}}
GROUP = "/aws/sagemaker/LabelingJobs"


def put(key: str, content: bytes | str, bucket: str = "results") -> str:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return f"s3://{bucket}/{key}"


def lines_at(key: str) -> list[dict[str, Any]]:
    content = boto3.client("s3").get_object(Bucket="results", Key=key)["Body"].read()
    return [json.loads(line) for line in content.splitlines()]


@pytest.fixture
def labelled(bucket: str, tmp_path: Path) -> str:
    """A labelling job's output in S3: three items, two answers to the first two, none to the last."""
    files = {
        "iteration-1/0/2020-12-28_18:59:58.json": [response("a", CAT), response("b", CAT)],
        "iteration-2/1/2020-12-29_18:59:58.json": [response("a", CAT), response("b", DOG)],
    }
    folder = write_job(tmp_path / "job", sources(3), files)
    for path in folder.rglob("*"):
        if path.is_file():
            put(f"labels/{JOB}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    # Another job's, whose name begins alike.
    put(f"labels/{JOB}-2/annotations/worker-response/iteration-1/9/1.json", "not JSON")
    return f"s3://{bucket}/labels/{JOB}"


def test_a_job_in_s3_becomes_a_manifest_in_s3(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["labels", "consolidate", labelled, "s3://results/train.manifest", "--attribute", "pet"]
    command += ["--method", "majority", "--classes", "dog,cat", "--unresolved", "s3://results/again.manifest"]
    assert main(command) == 0
    first, second = lines_at("train.manifest")
    created = first["pet-metadata"].pop("creation-date")
    assert first == {
        "source-ref": "s3://b/0.png",
        "pet": 1,
        "pet-metadata": {
            "class-name": "cat",
            "confidence": 1.0,
            "type": "groundtruth/image-classification",
            "job-name": JOB,
            "human-annotated": "yes",
        },
    }
    assert time.strptime(created.split(".")[0], "%Y-%m-%dT%H:%M:%S")
    assert (second["pet"], second["pet-metadata"]["confidence"]) == (0, 0.5)
    assert lines_at("again.manifest") == sources(3)[1:]
    shown = capsys.readouterr().out
    assert "2 labels of 3 items, under pet, by majority" in shown
    assert "classes, from index 0 (as given): dog, cat" in shown
    assert "1 without an answer, and left out: s3://b/2.png" in shown
    assert "1 tied, and given the first of their classes: s3://b/1.png" in shown


def test_an_audit_in_s3(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "audit", f"{labelled}/", "--output", "s3://results/audit.json"]) == 0
    shown = capsys.readouterr().out
    assert "4 answers of 2 workers to 2 of 3 items; pairs of answers that agree: 50.0%" in shown
    for words in ("cat – dog ", "s3://b/1.png  cat 1, dog 1", "worker  answers"):
        assert words in shown, words
    found = json.loads(boto3.client("s3").get_object(Bucket="results", Key="audit.json")["Body"].read())
    assert found["agreement"] == 0.5 and found["alpha"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["s3://results/nothing", "x"], "there is nothing at s3://results/nothing"),
        (["s3://nowhere/nothing", "x"], "NoSuchBucket"),
        (["s3://results", "x"], "expected s3://BUCKET/KEY, got 's3://results/'"),
        ([f"s3://results/labels/{JOB}", "x", "--manifest", "s3://results/no"], "nothing at s3://results/no"),
        ([f"s3://results/labels/{JOB}", "x", "--attribute", "a-metadata"], "end in -ref or -metadata"),
        ([f"s3://results/labels/{JOB}", "x", "--classes", "cat,owl"], "the worker 'b' answered 'dog'"),
        ([f"s3://results/labels/{JOB}", "x", "--classes", "cat,cat"], "names a class twice"),
        ([f"s3://results/labels/{JOB}", "/dev/null/x"], "'/dev/null/x' cannot be written: "),
    ],
)
def test_mistakes(
    labelled: str, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["labels", "consolidate", *arguments]) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1, error


def test_the_next_round_of_a_training_job(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = create_job().rpartition("/")[2]
    uri = put(f"runs/{name}/output/output.tar.gz", packed(parquet(EXAMPLES)))
    for run in (name, uri, put("examples.parquet", parquet(EXAMPLES))):
        output = "s3://results/next.manifest"
        assert main(["labels", "next", run, output, "--budget", "1", "--prefix", "s3://data/train"]) == 0
        assert lines_at("next.manifest") == [{"source-ref": "s3://data/train/cat/2.png"}], run
    capsys.readouterr()
    for run, expected in (
        ("no-such-job", "is neither a local file or folder nor the name of a training job"),
        ("s3://results/nothing.tar.gz", "there is nothing at s3://results/nothing.tar.gz"),
    ):
        assert main(["labels", "next", run, "x", "--budget", "1"]) == 1
        assert expected in capsys.readouterr().err


def test_a_training_job_that_failed_has_no_next_round(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    described = boto3.client("sagemaker").describe_training_job(
        TrainingJobName=create_job().rpartition("/")[2]
    )
    del described["ResponseMetadata"]
    described |= {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: training diverged"}
    stub_client(monkeypatch, "sagemaker").add_response("describe_training_job", described)
    assert main(["labels", "next", "the-job", "x", "--budget", "1"]) == 1
    error = capsys.readouterr().err
    assert "the training job 'the-job' has no results: Failed: AlgorithmError: training diverged" in error


def payload(*annotations: tuple[str, Any]) -> list[dict[str, Any]]:
    """A batch of one image, as Ground Truth hands it over."""
    given = [
        {"workerId": worker, "annotationData": {"content": json.dumps(content)}}
        for worker, content in annotations
    ]
    return [
        {
            "datasetObjectId": "7",
            "dataObject": {"s3Uri": "s3://data/bird.jpg", "content": None},
            "annotations": given,
        }
    ]


def event(batch: Any, **changes: Any) -> dict[str, Any]:
    """As the developer guide's example is, for a payload that is put into S3."""
    return {
        "version": "2018-10-16",
        "labelingJobArn": f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:labeling-job/labeling-job-name",
        "labelCategories": ["dog", "cat"],
        "labelAttributeName": "pet",
        "roleArn": f"arn:aws:iam::{ACCOUNT}:role/role-name",
        "payload": {"s3Uri": put("annotations.json", json.dumps(batch))},
        **changes,
    }


def test_the_function_labels_a_batch(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    (image,) = payload(("a", CAT), ("b", CAT), ("c", DOG))
    # A large annotation lies in S3 by itself.
    uri = put("one.json", json.dumps(CAT))
    image["annotations"].append({"workerId": "d", "annotationData": {"content": None, "s3Uri": uri}})
    text = {
        "datasetObjectId": "8",
        "dataObject": {"content": "Sift 3 cups of flour into the bowl."},
        "annotations": [
            {"workerId": "a", "annotationData": {"content": '{"crowd-classifier":{"label":"dog"}}'}},
            {"workerId": "b", "annotationData": {"content": '{"crowd-classifier":{}}'}},
        ],
    }
    nobody = {"datasetObjectId": "9", "dataObject": {"content": "x"}, "annotations": []}
    answer = consolidation_lambda.handler(event([image, text, nobody]), None)
    json.dumps(answer)
    assert [entry["datasetObjectId"] for entry in answer] == ["7", "8"]
    found = [entry["consolidatedAnnotation"]["content"] for entry in answer]
    assert [set(one) for one in found] == [{"pet", "pet-metadata"}] * 2
    assert [one["pet"] for one in found] == [1, 0]
    first, second = (one["pet-metadata"] for one in found)
    assert (first["class-name"], first["job-name"]) == ("cat", "labeling-job-name")
    assert first["type"] == "groundtruth/image-classification" and first["confidence"] > 0.7
    assert second["type"] == "groundtruth/text-classification"
    log = capsys.readouterr().out
    assert "object 8: expected an answer with one class" in log and "9: no readable answer" in log


def test_the_function_by_majority_with_its_own_classes(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METHOD", "majority")
    batch = payload(("a", CAT), ("b", DOG))
    for classes in ("dog, cat", '["dog", "cat"]'):
        monkeypatch.setenv("CLASSES", classes)
        (answer,) = consolidation_lambda.handler(event(batch, labelCategories=None))
        metadata = answer["consolidatedAnnotation"]["content"]["pet-metadata"]
        assert (metadata["class-name"], metadata["confidence"]) == ("dog", 0.5)
    assert "7: a tie" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batch", "changes", "expected"),
    [
        (payload(("a", CAT)), {"labelCategories": None}, "set the function's environment variable CLASSES"),
        (payload(("a", CAT)), {"labelCategories": ["dog"]}, "answered 'cat', and the classes are dog"),
        (payload(("a", CAT)), {"payload": {}}, "expected Ground Truth's event"),
        (payload(("a", CAT)), {"labelAttributeName": ""}, "expected Ground Truth's event"),
        (payload(("a", CAT)), {"payload": {"s3Uri": "s3://results/no"}}, "nothing at s3://results/no"),
        ({"a": 1}, {}, "annotations.json: expected a list of data objects"),
        ([{"datasetObjectId": "1"}], {}, "expected an object with dataObject and annotations"),
    ],
)
def test_the_function_says_what_it_was_not_given(
    bucket: str, batch: Any, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        consolidation_lambda.handler(event(batch, **changes))


def test_the_function_refuses_another_method(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METHOD", "median")
    with pytest.raises(UserError, match="METHOD=median: expected one of dawid-skene, majority"):
        consolidation_lambda.handler(event(payload(("a", CAT))))


FUNCTION = """
import importlib, json, sys
import deploy, subset_trainer
module, _, name = sys.argv[1].rpartition(".")
answer = getattr(importlib.import_module(module), name)(json.load(sys.stdin), None)
print(json.dumps([deploy.__file__, subset_trainer.__file__, sorted(sys.modules), answer]))
"""


def test_the_functions_image_has_the_files_that_it_needs(bucket: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    text = (root / "examples/consolidation/Dockerfile").read_text().replace("\\\n", " ")
    for words in (line.split() for line in text.splitlines() if line.startswith("COPY ")):
        *names, folder = (word.replace("${LAMBDA_TASK_ROOT}", str(tmp_path)) for word in words[1:])
        for name in names if folder.startswith(str(tmp_path)) else ():
            Path(folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder)
    (command,) = re.findall(r'^CMD \["(.+)"\]$', text, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", FUNCTION, command],
        input=json.dumps(event(payload(("a", CAT), ("b", CAT)))),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *files, modules, answer = json.loads(done.stdout)
    assert all(file.startswith(str(tmp_path)) for file in files)
    # What the image does not install.
    assert not {"torch", "sagemaker", "pydantic", "subset_trainer.config.hyperparameters"} & set(modules)
    assert answer[0]["consolidatedAnnotation"]["content"]["pet-metadata"]["class-name"] == "cat"


def test_status(aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub_client(monkeypatch, "sagemaker").add_response(
        "describe_labeling_job", description(), {"LabelingJobName": JOB}
    )
    cloudwatch, logs = boto3.client("cloudwatch"), boto3.client("logs")
    for name, value, hours, further in (
        ("DatasetObjectsHumanAnnotated", 400, 1, []),
        ("DatasetObjectsHumanAnnotated", 1000, 3, []),
        ("TasksSubmitted", 1, 1, [{"Name": "Workteam", "Value": "team"}]),
        ("TasksSubmitted", 1, 3, [{"Name": "Workteam", "Value": "team"}]),
    ):
        metric = {
            "MetricName": name,
            "Dimensions": [{"Name": "LabelingJobName", "Value": JOB}, *further],
            "Timestamp": CREATED + datetime.timedelta(hours=hours),
            "Value": value,
        }
        cloudwatch.put_metric_data(Namespace="AWS/SageMaker", MetricData=[metric])
    logs.create_log_group(logGroupName=GROUP)
    now = round(time.time() * 1000)
    for stream, messages in ((JOB, ["first", "second", "third\x1b[2J"]), (f"{JOB}-2", ["another job's"])):
        logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        events = [{"timestamp": now + n, "message": message} for n, message in enumerate(messages)]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)
    assert main(["labels", "status", JOB, "--lines", "2"]) == 0
    shown = capsys.readouterr().out
    assert f"{JOB}: InProgress\n" in shown and "label attribute pet" in shown
    assert "input: s3://data/pets.manifest\noutput: s3://results/labels/find-pets\n" in shown
    for name, number in (
        ("TotalLabeled", "1,200"),
        ("FailedNonRetryableError", "3"),
        ("DatasetObjectsHumanAnnotated", "1,000"),
        ("TasksSubmitted (Workteam=team)", "2"),
    ):
        assert any(
            line.split("  ")[0] == name and line.endswith(f" {number}") for line in shown.splitlines()
        ), name
    assert "  second\n  third\\x1b[2J\n" in shown
    assert "first" not in shown and "another" not in shown


def test_a_job_that_failed_and_wrote_nothing(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = description(
        LabelingJobStatus="Failed",
        FailureReason="ClientError: the manifest\n has no lines.",
        InputConfig={
            "DataSource": {"SnsDataSource": {"SnsTopicArn": "arn:aws:sns:us-east-1:123456789012:in"}}
        },
        LabelingJobOutput={
            "OutputDatasetS3Uri": "s3://results/labels/find-pets/manifests/output/output.manifest"
        },
    )
    stub_client(monkeypatch, "sagemaker").add_response("describe_labeling_job", failed)
    assert main(["labels", "status", JOB]) == 0
    shown = capsys.readouterr().out
    assert f"{JOB}: Failed: ClientError: the manifest has no lines." in shown
    assert "input: arn:aws:sns" in shown and "output: s3://results/labels/find-pets/manifests" in shown
    assert "metric" not in shown and "log, its" not in shown


def test_without_the_right_to_see_more_the_rest_is_there(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_client(monkeypatch, "sagemaker").add_response("describe_labeling_job", description())
    stub_client(monkeypatch, "cloudwatch").add_client_error("list_metrics", "AccessDenied", "no")
    stub_client(monkeypatch, "logs").add_client_error(
        "describe_log_streams", "ThrottlingException", "Rate exceeded"
    )
    assert main(["labels", "status", JOB]) == 0
    shown = capsys.readouterr().out
    assert "TotalLabeled" in shown
    assert "the job's metrics cannot be read: AWS refused ListMetrics; `python -m deploy policy" in shown
    assert (
        "the job's log cannot be read: AWS refused DescribeLogStreams (ThrottlingException): Rate exceeded"
        in shown
    )


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("ResourceNotFound", "no", "there is no labelling job 'find-pets' in us-east-1"),
        ("ValidationException", "Could not find labeling job.", "there is no labelling job 'find-pets'"),
        ("AccessDeniedException", "User is not authorized", "AWS refused DescribeLabelingJob"),
    ],
)
def test_a_job_that_cannot_be_seen(
    aws: str,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    message: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub_client(monkeypatch, "sagemaker").add_client_error("describe_labeling_job", code, message)
    assert main(["labels", "status", JOB]) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_aws_that_cannot_be_reached_is_one_sentence(
    unreachable_aws: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["status", JOB], ["audit", "s3://results/x"], ["next", JOB, "x", "--budget", "1"]):
        assert main(["labels", *arguments]) == 2
        assert capsys.readouterr().err.startswith("error: AWS cannot be reached: ")


def test_every_command_of_the_page(
    labelled: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="my-results")
    for entry in s3.list_objects_v2(Bucket="results", Prefix=f"labels/{JOB}/")["Contents"]:
        s3.copy_object(Bucket="my-results", Key=entry["Key"], CopySource=f"results/{entry['Key']}")
    s3.put_object(Bucket="my-results", Key="runs/pets-1/output/output.tar.gz", Body=packed(parquet(EXAMPLES)))
    described = boto3.client("sagemaker").describe_training_job(
        TrainingJobName=create_job().rpartition("/")[2]
    )
    del described["ResponseMetadata"]
    described["OutputDataConfig"] = {"S3OutputPath": "s3://my-results/runs"}
    stubbed = stub_client(monkeypatch, "sagemaker")
    stubbed.add_response("describe_labeling_job", description(), {"LabelingJobName": JOB})
    stubbed.add_response("describe_training_job", described, {"TrainingJobName": "pets-1"})
    variables: dict[str, str] = {}
    ran = []
    (block,) = blocks_of("tests/aws/test_labels.py::test_every_command_of_the_page")
    for line in lines(block.text):
        if line.variable:
            variables[line.variable] = line.words[0]
        elif line.words[0] != "docker":
            arguments = line.arguments(variables)
            assert main(arguments) == 0, (line.text, capsys.readouterr().err)
            ran.append(arguments[1])
    assert ran == ["status", "audit", "consolidate", "next"]
    stubbed.assert_no_pending_responses()
    assert Path("audit.json").exists()
    written = {
        entry["Key"].rpartition("/")[2]: entry["Size"]
        for entry in s3.list_objects_v2(Bucket="my-results", Prefix="pets/")["Contents"]
    }
    assert set(written) == {"train.manifest", "again.manifest", "next.manifest"} and all(written.values())
