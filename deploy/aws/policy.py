"""Least-privilege IAM policies for the launcher, for the training job's role, and for CodeBuild's role.

Each statement has a reason. Each names its resources, except for the eight actions that IAM only grants for `*`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.aws.clarify import ENDPOINT as CLARIFY_ENDPOINT
from deploy.aws.clarify import SUFFIX as CLARIFY_SUFFIX
from deploy.aws.codebuild import ARTEFACTS, SOURCES
from deploy.aws.labeling_jobs import LOG_GROUP

WITHOUT_RESOURCES = (
    "cloudwatch:GetMetricData",
    "cloudwatch:ListMetrics",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "s3:ListAllMyBuckets",
    "sagemaker:ListTrainingJobs",
    "sagemaker:Search",
    "sts:GetCallerIdentity",
)
"""Actions that IAM only grants for the resource `*`."""
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PUSH = (
    *PULL,
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
NAMESPACE = "/aws/sagemaker/TrainingJobs"
"""Namespace of the jobs' metrics, and log group of their logs."""


@dataclass(frozen=True)
class Names:
    """Names of the account and resources that the policies cover."""

    account: str
    """Number of the AWS account, twelve digits."""
    region: str
    bucket: str
    """Bucket of the jobs' results and of uploaded scripts and data."""
    role: str
    """Name of the training job's role."""
    repository: str = "subset-trainer"
    project: str = "subset-trainer"
    """Name of the CodeBuild project."""
    codebuild_role: str = "subset-trainer-codebuild"
    """Name of CodeBuild's service role."""
    data: tuple[str, ...] = ()
    """Further buckets with the jobs' channels."""
    partition: str = "aws"
    mlflow: str | None = None
    """Name of a managed MLflow tracking server."""
    clarify: bool = False
    """Whether `explain --clarify` runs Clarify under the job's role."""

    def arn(self, service: str, resource: str, *, regional: bool = True) -> str:
        """Return the ARN of a resource in this account."""
        region = self.region if regional else ""
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{resource}"

    def buckets(self, *names: str, objects: bool) -> tuple[str, ...]:
        """Return the ARNs of buckets, or of all objects in them."""
        return tuple(f"arn:{self.partition}:s3:::{name}{'/*' if objects else ''}" for name in names)

    def log_group(self, group: str) -> tuple[str, str]:
        """Return the ARNs of a log group and of its streams."""
        return self.arn("logs", f"log-group:{group}"), self.arn("logs", f"log-group:{group}:log-stream:*")

    def below(self, bucket: str, prefix: str) -> tuple[str, ...]:
        """Return the ARN of all objects below a prefix of a bucket."""
        return (f"arn:{self.partition}:s3:::{bucket}/{prefix}/*",)


@dataclass(frozen=True)
class Statement:
    """Allowed actions, the resources that they apply to, and the reason."""

    name: str
    reason: str
    actions: Sequence[str]
    resources: Sequence[str]
    condition: Mapping[str, Any] = field(default_factory=dict)


def launcher(names: Names) -> list[Statement]:
    """Return the policy of a user who runs `python -m deploy image`, `codebuild`, `launch`, `sweep`, `tune`, `compare`,
    `labels` and `explain`."""
    repository = names.arn("ecr", f"repository/{names.repository}")
    jobs = names.arn("sagemaker", "training-job/*")
    return [
        Statement(
            "Repository",
            "image push and codebuild create the repository, and apply its settings",
            (
                "ecr:CreateRepository",
                "ecr:DescribeRepositories",
                "ecr:PutImageScanningConfiguration",
                "ecr:PutImageTagMutability",
                "ecr:PutLifecyclePolicy",
            ),
            (repository,),
        ),
        Statement(
            "Push",
            "image push uploads missing layers and reads the findings of ECR's scan; image push and image uri read the "
            "digest",
            (*PUSH, "ecr:DescribeImageScanFindings", "ecr:DescribeImages"),
            (repository,),
        ),
        _login("docker's login for the push"),
        *_builds(names),
        *_labels(names),
        Statement(
            "Explanations",
            "explain --clarify creates a model from a job's archive, and starts Clarify's processing job",
            ("sagemaker:CreateModel", "sagemaker:CreateProcessingJob"),
            tuple(
                names.arn("sagemaker", f"{kind}/*{CLARIFY_SUFFIX}*") for kind in ("model", "processing-job")
            ),
        ),
        Statement(
            "Jobs",
            "launch starts a job with its tags, follows it, and stops it when it is interrupted",
            (
                "sagemaker:AddTags",
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopTrainingJob",
            ),
            (jobs,),
        ),
        Statement(
            "Tuning",
            "tune starts a tuning job, and follows it",
            (
                "sagemaker:AddTags",
                "sagemaker:CreateHyperParameterTuningJob",
                "sagemaker:DescribeHyperParameterTuningJob",
            ),
            (names.arn("sagemaker", "hyper-parameter-tuning-job/*"),),
        ),
        Statement(
            "FindJobs",
            "sweep and tune find the jobs that they started before, and the SDK finds the jobs' Runs",
            ("sagemaker:ListTrainingJobs", "sagemaker:Search"),
            ("*",),
        ),
        Statement(
            "Runs",
            "sweep and launch --experiment create an Experiment, and a Run for every job; compare reads them",
            (
                "sagemaker:AssociateTrialComponent",
                "sagemaker:CreateExperiment",
                "sagemaker:CreateTrial",
                "sagemaker:CreateTrialComponent",
                "sagemaker:DescribeTrialComponent",
                "sagemaker:ListTrialComponents",
                "sagemaker:ListTrials",
                "sagemaker:UpdateTrialComponent",
            ),
            tuple(
                names.arn("sagemaker", f"{kind}/*")
                for kind in ("experiment", "experiment-trial", "experiment-trial-component")
            ),
        ),
        Statement(
            "PassRole",
            "SageMaker, and no other service, assumes the job's role",
            ("iam:PassRole",),
            (names.arn("iam", f"role/{names.role}", regional=False),),
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        Statement(
            "RoleByName",
            "the SDK looks up the ARN of a role that is given by name",
            ("iam:GetRole",),
            (names.arn("iam", f"role/{names.role}", regional=False),),
        ),
        Statement(
            "Logs",
            "launch --wait shows the job's log",
            ("logs:DescribeLogStreams", "logs:GetLogEvents"),
            names.log_group(NAMESPACE),
        ),
        Statement(
            "Bucket",
            "the SDK creates the bucket of results if it is missing, and lists what was uploaded to it",
            ("s3:CreateBucket", "s3:ListBucket"),
            names.buckets(names.bucket, objects=False),
        ),
        Statement(
            "Channels",
            "launch checks that the channels' buckets exist in the job's region",
            ("s3:ListBucket",),
            names.buckets(*names.data, objects=False) or names.buckets(names.bucket, objects=False),
        ),
        Statement(
            "Results",
            "local data, scripts and codebuild's source are uploaded to the bucket, and results are downloaded from it",
            ("s3:GetObject", "s3:PutObject"),
            names.buckets(names.bucket, objects=True),
        ),
        Statement(
            "Buckets",
            "the SDK lists the buckets to check that the bucket of results exists",
            ("s3:ListAllMyBuckets",),
            ("*",),
        ),
        Statement(
            "Account",
            "the default bucket's name contains the account's number",
            ("sts:GetCallerIdentity",),
            ("*",),
        ),
    ]


def _builds(names: Names) -> list[Statement]:
    """Return what `codebuild` needs in addition to the repository, the bucket and the account's number."""
    role = (names.arn("iam", f"role/{names.codebuild_role}", regional=False),)
    return [
        Statement(
            "Builds",
            "codebuild creates the project or updates it, starts a build and follows it",
            (
                "codebuild:BatchGetBuilds",
                "codebuild:CreateProject",
                "codebuild:StartBuild",
                "codebuild:UpdateProject",
            ),
            (names.arn("codebuild", f"project/{names.project}"),),
        ),
        Statement(
            "BuildLog",
            "codebuild shows the build's log",
            ("logs:GetLogEvents",),
            (names.arn("logs", f"log-group:/aws/codebuild/{names.project}:log-stream:*"),),
        ),
        Statement(
            "PassBuildRole",
            "CodeBuild, and no other service, assumes CodeBuild's role",
            ("iam:PassRole",),
            role,
            {"StringEquals": {"iam:PassedToService": "codebuild.amazonaws.com"}},
        ),
        Statement(
            "BuildRoleByName", "codebuild looks up the ARN of its role by name", ("iam:GetRole",), role
        ),
    ]


def _labels(names: Names) -> list[Statement]:
    """Return what `labels` needs in addition to the bucket of results and the permissions shared with `compare`."""
    return [
        Statement(
            "LabelingJobs",
            "labels status shows a labelling job's state and counts",
            ("sagemaker:DescribeLabelingJob",),
            (names.arn("sagemaker", "labeling-job/*"),),
        ),
        Statement(
            "LabelingMetrics",
            "labels status shows a labelling job's metrics",
            ("cloudwatch:GetMetricData", "cloudwatch:ListMetrics"),
            ("*",),
        ),
        Statement(
            "LabelingLog",
            "labels status shows the end of a labelling job's log",
            ("logs:DescribeLogStreams", "logs:GetLogEvents"),
            names.log_group(LOG_GROUP),
        ),
        Statement(
            "Labels",
            "labels consolidate and audit read manifests and workers' responses from the buckets of data",
            ("s3:GetObject",),
            names.buckets(*(names.data or (names.bucket,)), objects=True),
        ),
    ]


def job(names: Names) -> list[Statement]:
    """Return the policy of the role that a training job runs under."""
    everything = (names.bucket, *names.data)
    return [
        Statement(
            "Image",
            "SageMaker pulls the image",
            PULL,
            (names.arn("ecr", f"repository/{names.repository}"),),
        ),
        _login("docker's login for the pull"),
        Statement(
            "ListChannels",
            "SageMaker lists the channels' objects",
            ("s3:ListBucket",),
            names.buckets(*everything, objects=False),
        ),
        Statement(
            "ReadChannels",
            "SageMaker reads the channels",
            ("s3:GetObject",),
            names.buckets(*everything, objects=True),
        ),
        Statement(
            "WriteResults",
            "SageMaker writes model.tar.gz and output.tar.gz, and mirrors the container's checkpoints",
            ("s3:DeleteObject", "s3:PutObject"),
            names.buckets(names.bucket, objects=True),
        ),
        Statement(
            "Logs",
            "SageMaker writes the job's log",
            (
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ),
            names.log_group(NAMESPACE),
        ),
        Statement(
            "Metrics",
            "SageMaker sends the metrics that it reads from the log",
            ("cloudwatch:PutMetricData",),
            ("*",),
            {"StringEquals": {"cloudwatch:namespace": NAMESPACE}},
        ),
        Statement(
            "FindRun",
            "the image looks up its job's Run in SageMaker Experiments",
            ("sagemaker:DescribeTrainingJob",),
            (names.arn("sagemaker", "training-job/*"),),
        ),
        Statement(
            "RecordRun",
            "the image records hyperparameters, metrics and archives in that Run",
            ("sagemaker:BatchPutMetrics", "sagemaker:UpdateTrialComponent"),
            (names.arn("sagemaker", "experiment-trial-component/*"),),
        ),
        *_mlflow(names),
        *_clarify(names),
    ]


def _mlflow(names: Names) -> list[Statement]:
    """Return the permissions that MLflow's client needs to use the REST API of a managed server."""
    if names.mlflow is None:
        return []
    actions = (
        "CreateExperiment",
        "CreateRun",
        "GetExperimentByName",
        "GetRun",
        "LogBatch",
        "SetTag",
        "UpdateRun",
    )
    return [
        Statement(
            "MLflow",
            "the image records the job in a run of managed MLflow",
            tuple(f"sagemaker-mlflow:{action}" for action in actions),
            (names.arn("sagemaker", f"mlflow-tracking-server/{names.mlflow}"),),
        )
    ]


def _clarify(names: Names) -> list[Statement]:
    """Return what Clarify's processing job needs in addition to reading data and writing results."""
    if not names.clarify:
        return []
    return [
        Statement(
            "Endpoint",
            "Clarify creates an endpoint of the model, sends it requests, and deletes it",
            (
                "sagemaker:AddTags",
                "sagemaker:CreateEndpoint",
                "sagemaker:CreateEndpointConfig",
                "sagemaker:DeleteEndpoint",
                "sagemaker:DeleteEndpointConfig",
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:DescribeModel",
                "sagemaker:InvokeEndpoint",
            ),
            (
                *(
                    names.arn("sagemaker", f"{kind}/{CLARIFY_ENDPOINT}*")
                    for kind in ("endpoint", "endpoint-config")
                ),
                names.arn("sagemaker", f"model/*{CLARIFY_SUFFIX}*"),
            ),
        ),
        Statement(
            "ClarifyLogs",
            "SageMaker writes the logs of the processing job and of the endpoint",
            ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (
                *names.log_group("/aws/sagemaker/ProcessingJobs"),
                *names.log_group(f"/aws/sagemaker/Endpoints/{CLARIFY_ENDPOINT}*"),
            ),
        ),
    ]


def codebuild(names: Names) -> list[Statement]:
    """Return the policy of CodeBuild's service role. `codebuild` or `image push` creates the repository beforehand."""
    repository = names.arn("ecr", f"repository/{names.repository}")
    log = f"log-group:/aws/codebuild/{names.project}"
    return [
        Statement(
            "Push",
            "the build pushes and pulls the image and its cache, and reads the digest and the scan's findings",
            (*PUSH, "ecr:DescribeImageScanFindings", "ecr:DescribeImages", "ecr:DescribeRepositories"),
            (repository,),
        ),
        _login("docker's login for the push"),
        Statement(
            "Logs",
            "CodeBuild writes the build's log",
            ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
            (names.arn("logs", log), names.arn("logs", f"{log}:*")),
        ),
        Statement(
            "Source",
            "CodeBuild downloads the commit's zip archive",
            ("s3:GetObject", "s3:GetObjectVersion"),
            names.below(names.bucket, SOURCES),
        ),
        Statement(
            "Artefact",
            "CodeBuild writes imageDetail.json to the bucket",
            ("s3:PutObject",),
            names.below(names.bucket, ARTEFACTS),
        ),
        Statement(
            "Bucket",
            "CodeBuild checks the bucket's owner and region",
            ("s3:GetBucketAcl", "s3:GetBucketLocation"),
            names.buckets(names.bucket, objects=False),
        ),
    ]


POLICIES = {"launcher": launcher, "job": job, "codebuild": codebuild}


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return the policy as an IAM policy document."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": statement.name,
                "Effect": "Allow",
                "Action": list(statement.actions),
                "Resource": list(statement.resources),
                **({"Condition": dict(statement.condition)} if statement.condition else {}),
            }
            for statement in statements
        ],
    }


def explanation(statements: Sequence[Statement]) -> str:
    """Return the policy as text, one paragraph for each statement."""
    return "\n\n".join(
        "\n".join(
            [
                f"{statement.name}: {statement.reason}",
                *(f"    {action}" for action in statement.actions),
                *(f"  on {resource}" for resource in statement.resources),
                *(
                    f"  if {key} is {value}"
                    for test in statement.condition.values()
                    for key, value in test.items()
                ),
            ]
        )
        for statement in statements
    )


def _login(reason: str) -> Statement:
    return Statement("Login", reason, ("ecr:GetAuthorizationToken",), ("*",))
