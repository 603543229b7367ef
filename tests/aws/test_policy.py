"""The policies beside what deploy/, the image and buildspec.yml really call."""

import dataclasses
import json
import os
import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest

import deploy
from deploy.__main__ import main
from deploy.aws import clarify, codebuild, labeling_jobs, launch, policy
from deploy.aws.policy import POLICIES, WITHOUT_RESOURCES, Names
from tests.aws import labelling
from tests.aws.builds import STREAM, Stubs
from tests.aws.conftest import ACCOUNT
from tests.aws.labelling import stub_client
from tests.aws.stand_ins import StandIns
from tests.aws.test_experiments import create_job
from tests.aws.test_launch import BUCKET, CHANNELS, IMAGE, ROLE
from tests.aws.test_sweep import command
from tests.aws.training_jobs import Platform
from tests.unit.test_ground_truth import CAT, response, sources, write_job

ROOT = Path(__file__).parents[2]
NAMES = Names(ACCOUNT, "us-east-1", BUCKET, "trainer", data=("photos",), mlflow="server", clarify=True)
IAM_NAMES = {
    # The API's operation → the action that IAM checks, where they differ.
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sagemaker-metrics:BatchPutMetrics": "sagemaker:BatchPutMetrics",
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions of every call that boto3 makes."""
    seen: set[str] = set()
    original = botocore.client.BaseClient._make_api_call

    def record(self: Any, operation: str, parameters: Any) -> Any:
        service = self.meta.service_model.service_name
        seen.add(IAM_NAMES.get(f"{service}:{operation}", f"{service}:{operation}"))
        return original(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    return seen


def actions(whose: str) -> set[str]:
    return {action for statement in POLICIES[whose](NAMES) for action in statement.actions}


def test_a_launchers_calls_are_covered(
    aws: str, calls: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins = StandIns(tmp_path, "a" * 40)
    monkeypatch.setenv("PATH", f"{stand_ins.folder}{os.pathsep}{os.environ['PATH']}")
    for _ in range(2):  # the second time the repository and the tag are there
        assert main(["image", "push"]) == 0
    session = launch.sagemaker_session(bucket=BUCKET)
    job = deploy.estimator(
        IMAGE, {"strategy": "rs2"}, ROLE, session=session, tags=[{"Key": "a", "Value": "b"}]
    )
    job.fit(CHANNELS, wait=False)
    script = {"entry_point": "train.py", "source_dir": str(ROOT / "examples/article")}
    deploy.estimator(IMAGE, {}, ROLE, session=session, **script).fit(CHANNELS, wait=False)
    assert {"ecr:PutImageTagMutability", "sagemaker:CreateTrainingJob", "s3:PutObject"} <= calls
    assert calls <= actions("launcher")


def test_the_calls_of_sweep_compare_and_tune_are_covered(
    platform: Platform, calls: set[str], tmp_path: Path
) -> None:
    data = str(tmp_path / "training")
    assert main(command("--fractions", "1", "--training", data)) == 0
    assert main(["compare", "fractions"]) == 0
    tune = ["tune", "--name", "t", "--tune", "fraction=0.2:0.4", "--jobs", "1", "--poll", "0", "--role", ROLE]
    tune += ["--image-uri", IMAGE, "--bucket", BUCKET, "--training", data, "--set", "epochs=1", "model=mlp"]
    assert main([*tune, "strategy=rs2", "--tags", "team=vision"]) == 0
    assert {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "sagemaker:CreateExperiment",
        "sagemaker:CreateHyperParameterTuningJob",
        "sagemaker:ListTrainingJobs",
        "sagemaker:ListTrials",
        "sagemaker:ListTrialComponents",
    } <= calls
    assert calls <= actions("launcher")


def test_the_calls_of_labels_are_covered(
    bucket: str, calls: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_job(tmp_path / "job", sources(1), {"iteration-1/0/1.json": [response("a", CAT)]})
    for path in (path for path in folder.rglob("*") if path.is_file()):
        boto3.client("s3").upload_file(str(path), bucket, f"job/{path.relative_to(folder).as_posix()}")
    stubbed = stub_client(monkeypatch, "sagemaker")
    stubbed.add_response("describe_labeling_job", labelling.description())
    described = [{"Name": "LabelingJobName", "Value": labelling.JOB}]
    boto3.client("cloudwatch").put_metric_data(
        Namespace="AWS/SageMaker",
        MetricData=[{"MetricName": "TasksSubmitted", "Dimensions": described, "Value": 1}],
    )
    for call in ("create_log_group", "create_log_stream"):
        stream = {"logStreamName": labelling.JOB} if call == "create_log_stream" else {}
        getattr(boto3.client("logs"), call)(logGroupName=labeling_jobs.LOG_GROUP, **stream)
    calls.clear()
    assert main(["labels", "consolidate", f"s3://{bucket}/job", f"s3://{bucket}/train.manifest"]) == 0
    assert main(["labels", "status", labelling.JOB]) == 0
    assert calls == {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "sagemaker:DescribeLabelingJob",
        "cloudwatch:GetMetricData",
        "cloudwatch:ListMetrics",
        "logs:DescribeLogStreams",
        "logs:GetLogEvents",
    }
    assert calls <= actions("launcher")


def test_labels_are_read_where_the_data_lies() -> None:
    by_name = {statement.name: statement for statement in policy.launcher(NAMES)}
    assert by_name["Labels"].resources == ("arn:aws:s3:::photos/*",)
    stream = (
        f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{labeling_jobs.LOG_GROUP}:log-stream:{labelling.JOB}"
    )
    assert any(fnmatch(stream, resource) for resource in by_name["LabelingLog"].resources)


def test_codebuilds_calls_are_covered(
    aws: str, calls: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    boto3.client("iam").create_role(RoleName="builder", AssumeRolePolicyDocument=json.dumps(trust))
    boto3.client("s3").create_bucket(Bucket=f"sagemaker-us-east-1-{ACCOUNT}")
    calls.clear()
    stubs = Stubs(monkeypatch)
    stubs.project_exists()
    stubs.starts()
    stubs.succeeds()
    # The commit itself is not what this is about, and there may be no repository of git's.
    monkeypatch.setattr("deploy.aws.codebuild.resolve", lambda revision: "a" * 40)
    monkeypatch.setattr("deploy.aws.codebuild.pack", lambda commit: b"")
    assert main(["codebuild", "--role", "builder"]) == 0
    stubs.check()
    assert {
        "codebuild:CreateProject",
        "codebuild:UpdateProject",
        "logs:GetLogEvents",
        "s3:PutObject",
        "sts:GetCallerIdentity",
    } <= calls
    assert calls <= actions("launcher")


def test_each_service_is_passed_its_own_role_only() -> None:
    names = dataclasses.replace(NAMES, codebuild_role="builder")
    passed = {
        statement.resources: statement.condition["StringEquals"]["iam:PassedToService"]
        for statement in policy.launcher(names)
        if "iam:PassRole" in statement.actions
    }
    assert passed == {
        (f"arn:aws:iam::{ACCOUNT}:role/trainer",): "sagemaker.amazonaws.com",
        (f"arn:aws:iam::{ACCOUNT}:role/builder",): "codebuild.amazonaws.com",
    }


def test_a_builds_log_is_written_and_read_in_one_place() -> None:
    (read,) = (statement for statement in policy.launcher(NAMES) if statement.name == "BuildLog")
    written = next(statement for statement in policy.codebuild(NAMES) if statement.name == "Logs")
    stream = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{STREAM['logGroupName']}:log-stream:1"
    for statement, action in ((read, "logs:GetLogEvents"), (written, "logs:PutLogEvents")):
        assert action in statement.actions
        assert any(fnmatch(stream, resource) for resource in statement.resources)


def test_codebuild_reads_and_writes_where_the_project_says() -> None:
    project = codebuild.Project("subset-trainer", "builder", BUCKET, "a" * 40)
    settings = codebuild._settings(project)
    by_name = {statement.name: statement for statement in policy.codebuild(NAMES)}
    (source,), (artefact,) = by_name["Source"].resources, by_name["Artefact"].resources
    assert fnmatch(f"arn:aws:s3:::{settings['source']['location']}", source)
    artefacts = settings["artifacts"]
    assert fnmatch(f"arn:aws:s3:::{artefacts['location']}/{artefacts['path']}/1/imageDetail.json", artefact)
    assert not fnmatch(f"arn:aws:s3:::{BUCKET}/model.tar.gz", source)


def test_a_role_by_name_is_looked_up(aws: str, calls: set[str]) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    boto3.client("iam").create_role(RoleName="trainer", AssumeRolePolicyDocument=json.dumps(trust))
    calls.clear()
    launch.sagemaker_session(bucket=BUCKET).expand_role("trainer")
    assert calls == {"iam:GetRole"} <= actions("launcher")


def test_the_images_calls_are_covered(aws: str, calls: set[str]) -> None:
    from subset_trainer.tracking.experiments import Experiments

    arn = create_job()
    calls.clear()
    experiments = Experiments(arn)
    experiments.parameters({"fraction": 0.3})
    experiments.metrics(1, {"train:loss": 1.0})
    experiments.close()
    assert calls == {
        "sagemaker:DescribeTrainingJob",
        "sagemaker:UpdateTrialComponent",
        "sagemaker:BatchPutMetrics",
    }
    assert calls <= actions("job")


def test_mlflow_is_of_those_who_have_a_server() -> None:
    assert "MLflow" in {statement.name for statement in policy.job(NAMES)}
    assert "MLflow" not in {statement.name for statement in policy.job(replace(NAMES, mlflow=None))}


def test_clarifys_endpoints_are_of_those_who_explain_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    (endpoint,) = (statement for statement in policy.job(NAMES) if statement.name == "Endpoint")
    made = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/{clarify.ENDPOINT}-1"
    assert any(fnmatch(made, resource) for resource in endpoint.resources)
    command = ["policy", "job", "--account", ACCOUNT, "--bucket", BUCKET, "--region", "us-east-1"]
    for asked in ([], ["--clarify"]):
        assert main([*command, *asked]) == 0
        assert ("sagemaker:InvokeEndpoint" in capsys.readouterr().out) is bool(asked)


def test_the_buildspecs_calls_are_covered() -> None:
    text = (ROOT / "buildspec.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"aws (ecr) ([a-z-]+)", text))
    assert used == {
        ("ecr", "describe-repositories"),
        ("ecr", "get-login-password"),
    }
    renamed = {"get-login-password": "get-authorization-token"}
    needed = {
        f"{service}:{''.join(word.title() for word in renamed.get(name, name).split('-'))}"
        for service, name in used
    }
    assert needed | set(policy.PUSH) <= actions("codebuild")


@pytest.mark.parametrize("whose", POLICIES)
def test_nothing_is_for_everything_that_can_be_named(whose: str) -> None:
    for statement in POLICIES[whose](NAMES):
        assert statement.reason and not any("*" in action for action in statement.actions)
        if "*" in statement.resources:
            assert set(statement.actions) <= set(WITHOUT_RESOURCES)
        for resource in statement.resources:
            # A star stands for the names of jobs, streams, objects and Runs, never for a service, account or bucket.
            assert resource == "*" or re.match(
                r"arn:aws:(s3:::[a-z]|[a-z]+:[a-z0-9-]*:\d{12}:[a-z])", resource
            )


@pytest.mark.parametrize("whose", POLICIES)
def test_iam_takes_the_printed_policy(whose: str, aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["policy", whose, "--account", ACCOUNT, "--bucket", BUCKET, "--data", "photos"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    boto3.client("iam").create_policy(PolicyName=whose, PolicyDocument=printed)
    assert main([*command, "--explain"]) == 0
    explained = capsys.readouterr().out
    for statement in json.loads(printed)["Statement"]:
        assert f"{statement['Sid']}: " in explained
        assert all(action in explained for action in statement["Action"])


def test_channels_of_other_buckets_are_read_and_not_written() -> None:
    by_name = {statement.name: statement for statement in policy.job(NAMES)}
    assert "arn:aws:s3:::photos/*" in by_name["ReadChannels"].resources
    assert by_name["WriteResults"].resources == ("arn:aws:s3:::results/*",)


def test_an_account_that_is_none_is_refused(aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "job", "--account", "12", "--bucket", BUCKET]) == 1
    assert "expected twelve digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bucket", "s3://results/here"], "expected the name of a bucket alone"),
        (["--bucket", BUCKET, "--data", "photos/here"], "did you mean 'photos'?"),
        (["--bucket", BUCKET, "--role", "arn:aws:iam::123456789012:role/trainer"], "expected a role's name"),
    ],
)
def test_a_name_that_would_make_a_wrong_arn_is_refused(
    aws: str, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "job", "--account", ACCOUNT, *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and expected in captured.err and captured.err.count("\n") == 1
