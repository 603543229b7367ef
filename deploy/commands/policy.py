"""`policy`: prints least-privilege IAM policies."""

import argparse
import json

from deploy.commands import options


def add(commands: options.Commands) -> None:
    """Add the command."""
    rights = commands.add(
        "policy",
        run,
        "Print a least-privilege IAM policy for the launcher, the job's role or CodeBuild's role.",
    )
    rights.add_argument("whose", choices=("launcher", "job", "codebuild"), help="whose policy")
    rights.add_argument("--account", type=options.account, required=True, help="AWS account, twelve digits")
    rights.add_argument(
        "--bucket",
        type=options.bucket,
        required=True,
        help="S3 bucket of the results; the SDK's own is sagemaker-REGION-ACCOUNT",
    )
    rights.add_argument("--role", default="subset-trainer", help="name of the training job's role")
    rights.add_argument(
        "--data",
        type=options.bucket,
        nargs="+",
        default=[],
        metavar="BUCKET",
        help="further buckets of data",
    )
    rights.add_argument("--repository", default="subset-trainer", help="ECR repository")
    rights.add_argument("--project", default="subset-trainer", help="CodeBuild project")
    rights.add_argument(
        "--codebuild-role", default="subset-trainer-codebuild", help="name of CodeBuild's role"
    )
    options.add_region(rights)
    rights.add_argument("--partition", default="aws", help="AWS partition: aws, aws-cn or aws-us-gov")
    rights.add_argument("--mlflow", metavar="SERVER", help="name of a managed MLflow tracking server")
    rights.add_argument("--clarify", action="store_true", help="include what `explain --clarify` needs")
    rights.add_argument(
        "--explain", action="store_true", help="print each statement with its reason instead of JSON"
    )


def run(given: argparse.Namespace) -> None:
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
        data=tuple(given.data),
        partition=given.partition,
        mlflow=given.mlflow,
        clarify=given.clarify,
    )
    statements = policy.POLICIES[given.whose](names)
    if given.explain:
        print(policy.explanation(statements))
    else:
        print(json.dumps(policy.document(statements), indent=2))
