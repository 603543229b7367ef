"""`policy`: prints least-privilege IAM policies."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from deploy.commands import options
from deploy.commands.declared import Answering, Command, Option


def buckets(texts: Sequence[str]) -> tuple[str, ...]:
    """Parse the names of S3 buckets."""
    return tuple(options.bucket(text) for text in texts)


@dataclass(frozen=True, kw_only=True)
class Given(options.Region, Answering):
    """What `policy` takes."""

    whose: Annotated[str, Option("whose policy", choices=("launcher", "job", "codebuild"), argument=True)]
    account: Annotated[str, Option("AWS account, twelve digits", "ID", options.account)]
    bucket: Annotated[
        str,
        Option("S3 bucket of the results; the SDK's own is sagemaker-REGION-ACCOUNT", parse=options.bucket),
    ]
    role: Annotated[str, Option("name of the training job's role")] = "subset-trainer"
    data: Annotated[tuple[str, ...], Option("further buckets of data", "BUCKET", buckets, many=True)] = ()
    repository: Annotated[str, Option("ECR repository")] = "subset-trainer"
    project: Annotated[str, Option("CodeBuild project")] = "subset-trainer"
    codebuild_role: Annotated[str, Option("name of CodeBuild's role", "ROLE")] = "subset-trainer-codebuild"
    partition: Annotated[str, Option("AWS partition: aws, aws-cn or aws-us-gov")] = "aws"
    mlflow: Annotated[str | None, Option("name of a managed MLflow tracking server", "SERVER")] = None
    clarify: Annotated[bool, Option("include what `explain --clarify` needs")] = False
    explain: Annotated[bool, Option("print each statement with its reason instead of JSON")] = False


def run(given: Given) -> Any:
    """Print the policy."""
    from deploy.aws import calls, policy, requests

    for option, role in (("--role", given.role), ("--codebuild-role", given.codebuild_role)):
        requests.refuse(requests.role_faults(role, option, arn=False))
    names = policy.Names(
        account=given.account,
        region=calls.boto_session(given.region).region_name,
        bucket=given.bucket,
        role=given.role,
        repository=given.repository,
        project=given.project,
        codebuild_role=given.codebuild_role,
        data=given.data,
        partition=given.partition,
        mlflow=given.mlflow,
        clarify=given.clarify,
    )
    statements = policy.POLICIES[given.whose](names)
    if given.explain:
        print(policy.explanation(statements))
    else:
        print(json.dumps(policy.document(statements), indent=2))
    return policy.document(statements)


COMMANDS = (
    Command(
        "policy",
        run,
        Given,
        "Print a least-privilege IAM policy for the launcher, the job's role or CodeBuild's role.",
        (
            "policy job --account 123456789012 --bucket results",
            "policy launcher --account 123456789012 --bucket b-1 --explain",
        ),
    ),
)
