"""`policy`: who may do what."""

import argparse
import json

from deploy.commands import options


def add(commands: options.Commands) -> None:
    """Add the command."""
    rights = commands.add(
        "policy",
        run,
        "Print a least-privilege IAM policy: the launcher's, the job role's or CodeBuild's.",
    )
    rights.add_argument("whose", choices=("launcher", "job", "codebuild"), help="whom it is for")
    rights.add_argument("--account", type=options.account, required=True, help="its twelve digits")
    rights.add_argument(
        "--bucket", required=True, help="of the results; the SDK's is sagemaker-REGION-ACCOUNT"
    )
    rights.add_argument("--role", default="subset-trainer", help="the training job's role, by name")
    rights.add_argument("--data", nargs="+", default=[], metavar="BUCKET", help="further buckets of channels")
    rights.add_argument("--repository", default="subset-trainer", help="the ECR repository")
    rights.add_argument("--project", default="subset-trainer", help="the CodeBuild project")
    rights.add_argument("--codebuild-role", default="subset-trainer-codebuild", help="CodeBuild's, by name")
    options.add_region(rights)
    rights.add_argument("--partition", default="aws", help="aws, aws-cn or aws-us-gov")
    rights.add_argument("--mlflow", metavar="SERVER", help="a managed MLflow tracking server, by name")
    rights.add_argument("--clarify", action="store_true", help="the job's role runs `explain --clarify`, too")
    rights.add_argument("--explain", action="store_true", help="each statement with its reason, not JSON")


def run(given: argparse.Namespace) -> None:
    """Print it."""
    from deploy.aws import calls, policy

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
