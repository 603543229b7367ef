"""CodeBuild where moto has none of it: botocore's Stubber, which checks requests and answers by the API's own model."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deploy.aws import calls, codebuild
from tests.aws.conftest import ACCOUNT, REGION

BUILD = "subset-trainer:6f5e0c1a-0000-4000-8000-000000000000"
STREAM = {"logGroupName": "/aws/codebuild/subset-trainer", "logStreamName": "6f5e0c1a"}
START = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
Phase = tuple[str, str, str]
"""Name, status, and the message of what went wrong."""


class Stubs:
    """Makes `deploy` speak to stubs of CodeBuild and CloudWatch's logs, and to moto for the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clients = {name: boto3.client(name) for name in ("codebuild", "logs")}
        make = calls.boto_session

        def stubbed(region: str | None = None) -> "boto3.Session":
            session = make(region)
            original = session.client
            monkeypatch.setattr(session, "client", lambda name: clients.get(name) or original(name))
            return session

        monkeypatch.setattr(calls, "boto_session", stubbed)
        monkeypatch.setattr(codebuild, "PAUSE", 0.0)
        self.codebuild = Stubber(clients["codebuild"])
        self.logs = Stubber(clients["logs"])
        self.codebuild.activate()
        self.logs.activate()

    def project_exists(self, expected: Mapping[str, Any] | None = None) -> None:
        """CodeBuild refuses to create the project, and then takes the update."""
        self.codebuild.add_client_error("create_project", "ResourceAlreadyExistsException")
        self.codebuild.add_response("update_project", {"project": {}}, expected)

    def starts(self) -> None:
        """CodeBuild starts the build."""
        self.codebuild.add_response("start_build", {"build": {"id": BUILD}})

    def look(self, *phases: Phase, status: str = "IN_PROGRESS", log: bool = True, **further: Any) -> None:
        """What the next look at the build tells."""
        described = [
            {
                "phaseType": name,
                "startTime": START,
                **(
                    {
                        "phaseStatus": result,
                        "durationInSeconds": 7,
                        "contexts": [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": message}],
                    }
                    if result
                    else {}
                ),
            }
            for name, result, message in phases
        ]
        build = {
            "id": BUILD,
            "buildStatus": status,
            "phases": described,
            "logs": {"groupName": STREAM["logGroupName"], "streamName": STREAM["logStreamName"]}
            if log
            else {},
            **({} if status == "IN_PROGRESS" else {"endTime": START}),
            **further,
        }
        self.codebuild.add_response("batch_get_builds", {"builds": [build]}, {"ids": [BUILD]})

    def lines(self, given: str | None, pages: Sequence[tuple[Sequence[str], str]]) -> None:
        """What the log's next pages are, after the token that is given; each with the token that it ends with."""
        for messages, token in pages:
            expected = {**STREAM, "startFromHead": True, **({"nextToken": given} if given else {})}
            events = [{"timestamp": 0, "message": f"{message}\n"} for message in messages]
            self.logs.add_response("get_log_events", {"events": events, "nextForwardToken": token}, expected)
            given = token

    def succeeds(self) -> None:
        """A build that a single look finds ended, with a log of one line."""
        repository = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/subset-trainer"
        exported = [
            {"name": "IMAGE_URI", "value": f"{repository}:abc"},
            {"name": "IMAGE_DIGEST", "value": "sha256:123"},
        ]
        self.look(
            ("BUILD", "SUCCEEDED", ""),
            ("COMPLETED", "", ""),
            status="SUCCEEDED",
            exportedEnvironmentVariables=exported,
        )
        self.lines(None, [(["all is well"], "end"), ([], "end")])

    def check(self) -> None:
        """Nothing is left unasked."""
        self.codebuild.assert_no_pending_responses()
        self.logs.assert_no_pending_responses()
