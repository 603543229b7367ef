"""`deploy explain --clarify`: the requests, by botocore's Stubber, and Clarify's configuration, read back from S3."""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.stub import ANY, Stubber

from deploy.__main__ import main
from deploy.aws import calls as deploy_aws
from deploy.aws import clarify, launch, policy
from subset_trainer.data import Column, ImageKind, Kind, TableKind
from tests.aws.test_policy import IAM_NAMES

ROLE = "arn:aws:iam::123456789012:role/subset-trainer"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/subset-trainer@sha256:" + "a" * 64
ARCHIVE = "s3://results/job-1/output/model.tar.gz"
TABLE = TableKind(
    ("cat", "dog"),
    columns=(Column("width", "numeric"), Column("site", "categorical", categories=("a", "b"))),
    header=True,
    label_column="kind",
    label_index=1,
)
COMMAND = ["explain", "job-1", "--clarify", "--data", "s3://data/rows.csv", "--output", "s3://results/why"]


def described(status: str = "Completed") -> dict[str, Any]:
    return {
        "TrainingJobName": "job-1",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job-1",
        "ModelArtifacts": {"S3ModelArtifacts": ARCHIVE},
        "TrainingJobStatus": status,
        "SecondaryStatus": "Completed",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "ResourceConfig": {"VolumeSizeInGB": 30, "InstanceType": "ml.m5.large", "InstanceCount": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "CreationTime": 0,
    }


def leave(preprocessing: Kind, name: str = "model.json") -> None:
    """What the job has left: the archive of its model."""
    content = json.dumps(
        {"classes": list(preprocessing.classes), "preprocessing": preprocessing.to_json()}
    ).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    boto3.client("s3").put_object(Bucket="results", Key="job-1/output/model.tar.gz", Body=archive.getvalue())


@pytest.fixture
def sagemaker(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """What SageMaker is asked for, in order."""
    session = launch.sagemaker_session(boto_session=deploy_aws.boto_session("us-east-1"))
    monkeypatch.setattr(launch, "sagemaker_session", lambda **_: session)
    with Stubber(session.sagemaker_client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_the_requests(
    sagemaker: Stubber, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(TABLE)
    called: set[str] = set()
    original = botocore.client.BaseClient._make_api_call

    def record(self: Any, operation: str, parameters: Any) -> Any:
        action = f"{self.meta.service_model.service_name}:{operation}"
        called.add(IAM_NAMES.get(action, action))
        return original(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    sagemaker.add_response("describe_training_job", described(), {"TrainingJobName": "job-1"})
    sagemaker.add_response(
        "create_model",
        {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/job-1"},
        {
            "ModelName": ANY,
            "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": ARCHIVE},
            "ExecutionRoleArn": ROLE,
        },
    )
    place = {"S3DataType": "S3Prefix", "S3InputMode": "File", "S3CompressionType": "None"}
    sagemaker.add_response(
        "create_processing_job",
        {"ProcessingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:processing-job/job-1"},
        {
            "ProcessingJobName": ANY,
            "RoleArn": ROLE,
            "AppSpecification": {
                # Clarify's own image, by AWS's account in the region.
                "ImageUri": "205585389593.dkr.ecr.us-east-1.amazonaws.com/sagemaker-clarify-processing:1.0"
            },
            "ProcessingInputs": [
                {
                    "InputName": "dataset",
                    "AppManaged": False,
                    "S3Input": {
                        "S3Uri": "s3://data/rows.csv",
                        "LocalPath": "/opt/ml/processing/input/data",
                        "S3DataDistributionType": "FullyReplicated",
                        **place,
                    },
                },
                {
                    "InputName": "analysis_config",
                    "AppManaged": False,
                    "S3Input": {
                        "S3Uri": "s3://results/why/analysis_config.json",
                        "LocalPath": "/opt/ml/processing/input/config",
                        "S3DataDistributionType": "FullyReplicated",
                        **place,
                    },
                },
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": "analysis_result",
                        "AppManaged": False,
                        "S3Output": {
                            "S3Uri": "s3://results/why",
                            "LocalPath": "/opt/ml/processing/output",
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                ]
            },
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": "ml.c5.xlarge",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 30,
                }
            },
        },
    )
    assert main([*COMMAND, "--samples", "50", "--instance-type", "ml.c5.xlarge"]) == 0
    printed = capsys.readouterr().out
    assert "processing job: job-1-clarify-" in printed
    names = policy.Names("123456789012", "us-east-1", "results", "subset-trainer")
    rights = {action for statement in policy.launcher(names) for action in statement.actions}
    assert {"sagemaker:CreateModel", "sagemaker:CreateProcessingJob", "s3:GetObject"} <= called <= rights

    stored = boto3.client("s3").get_object(Bucket="results", Key="why/analysis_config.json")["Body"].read()
    analysis = json.loads(stored)
    assert analysis["label"] == "kind"
    assert analysis["dataset_type"] == "text/csv"
    assert analysis["methods"]["shap"] == {
        "num_samples": 50,
        "agg_method": "mean_abs",
        "use_logit": False,
        "save_local_shap_values": True,
        "seed": 0,
    }
    predictor = analysis["predictor"]
    assert predictor.pop("model_name") in printed
    assert predictor == {
        "instance_type": "ml.c5.xlarge",
        "initial_instance_count": 1,
        "content_type": "application/jsonlines",
        "content_template": '{"features":$features}',
        "accept_type": "application/jsonlines",
        "endpoint_name_prefix": "subset-trainer-clarify",
        "probability": "probabilities",
        "label_headers": ["cat", "dog"],
    }


@pytest.mark.parametrize(
    ("status", "preprocessing", "name", "sentence"),
    [
        ("InProgress", TABLE, "model.json", "job-1 is InProgress; expected one that is Completed"),
        ("Completed", TABLE, "other.json", "holds no model.json; expected the model of a job of this image"),
        (
            "Completed",
            ImageKind(("a", "b"), (8, 8), (0.5,) * 3, (0.2,) * 3),
            "model.json",
            "has a model of image data; explain --clarify is for tables",
        ),
    ],
)
def test_a_job_that_cannot_be_explained(
    sagemaker: Stubber,
    capsys: pytest.CaptureFixture[str],
    status: str,
    preprocessing: Kind,
    name: str,
    sentence: str,
) -> None:
    leave(preprocessing, name)
    sagemaker.add_response("describe_training_job", described(status), {"TrainingJobName": "job-1"})
    assert main(COMMAND) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_places_out_of_s3_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--baseline", "rows.csv"]) == 1
    assert "--baseline: expected an s3:// URI, got 'rows.csv'" in capsys.readouterr().err


def test_files_without_a_header_have_the_label_at_its_position() -> None:
    trained = clarify.Trained(
        "job-1",
        ARCHIVE,
        IMAGE,
        ROLE,
        {"classes": ["a", "b"], "preprocessing": {"header": False, "label_column": "1", "label_index": 1}},
    )
    data, *_ = clarify._configuration(trained, clarify.Analysis("s3://a/b", "s3://a/c"), "model")
    assert data.get_config()["label"] == 1
