"""A labelling job as SageMaker describes it, by botocore's Stubber: moto has none."""

import datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deploy.aws import calls
from tests.aws.conftest import ACCOUNT, REGION

JOB = "find-pets"
CREATED = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=5)


def stub_client(monkeypatch: pytest.MonkeyPatch, service: str) -> Stubber:
    """Makes `deploy` speak to a stub of one service; to moto for the rest, and what was stubbed before."""
    client = boto3.client(service)
    make = calls.boto_session

    def stubbed(region: str | None = None) -> "boto3.Session":
        session = make(region)
        original = session.client
        monkeypatch.setattr(session, "client", lambda name: client if name == service else original(name))
        return session

    monkeypatch.setattr(calls, "boto_session", stubbed)
    stubber = Stubber(client)
    stubber.activate()
    return stubber


def description(**changes: Any) -> dict[str, Any]:
    """What DescribeLabelingJob answers."""
    return {
        "LabelingJobStatus": "InProgress",
        "LabelCounters": {
            "TotalLabeled": 1200,
            "HumanLabeled": 1000,
            "MachineLabeled": 200,
            "FailedNonRetryableError": 3,
            "Unlabeled": 797,
        },
        "CreationTime": CREATED,
        "LastModifiedTime": CREATED + datetime.timedelta(hours=4),
        "JobReferenceCode": "1",
        "LabelingJobName": JOB,
        "LabelingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:labeling-job/{JOB}",
        "LabelAttributeName": "pet",
        "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": "s3://data/pets.manifest"}}},
        "OutputConfig": {"S3OutputPath": "s3://results/labels/"},
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/labeller",
        "HumanTaskConfig": {
            "WorkteamArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:workteam/private-crowd/team",
            "UiConfig": {"UiTemplateS3Uri": "s3://data/template.html"},
            "TaskTitle": "Pets",
            "TaskDescription": "Which pet is it?",
            "NumberOfHumanWorkersPerDataObject": 3,
            "TaskTimeLimitInSeconds": 300,
        },
        **changes,
    }
