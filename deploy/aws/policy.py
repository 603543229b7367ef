"""Least-privilege IAM policies: for whoever pushes and launches, for the training job's role, and for CodeBuild.

Each statement says why it is there. What a resource can be named for is named; eight actions know no resources at all.
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
"""Actions that IAM grants for `*` alone."""
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PUSH = (
    *PULL,
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
NAMESPACE = "/aws/sagemaker/TrainingJobs"
"""Of the jobs' logs and metrics."""


@dataclass(frozen=True)
class Names:
    """Whose things the policies are about."""

    account: str
    """Twelve digits."""
    region: str
    bucket: str
    """Where jobs leave their results, and scripts and local data are uploaded to."""
    role: str
    """The training job's role, by name."""
    repository: str = "subset-trainer"
    project: str = "subset-trainer"
    """CodeBuild's."""
    codebuild_role: str = "subset-trainer-codebuild"
    """CodeBuild's service role, by name."""
    data: tuple[str, ...] = ()
    """Further buckets that jobs read their channels from."""
    partition: str = "aws"
    mlflow: str | None = None
    """A managed MLflow tracking server, by name."""
    clarify: bool = False
    """Whether `explain --clarify` runs Clarify under the job's role."""

    def arn(self, service: str, resource: str, *, regional: bool = True) -> str:
        """The ARN of something in this account."""
        region = self.region if regional else ""
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{resource}"

    def buckets(self, *names: str, objects: bool) -> tuple[str, ...]:
        """The ARNs of buckets, or of everything in them."""
        return tuple(f"arn:{self.partition}:s3:::{name}{'/*' if objects else ''}" for name in names)

    def log_group(self, group: str) -> tuple[str, str]:
        """The ARNs of a log group and of its streams."""
        return self.arn("logs", f"log-group:{group}"), self.arn("logs", f"log-group:{group}:log-stream:*")

    def below(self, bucket: str, prefix: str) -> tuple[str, ...]:
        """The ARN of what lies below a prefix of a bucket."""
        return (f"arn:{self.partition}:s3:::{bucket}/{prefix}/*",)


@dataclass(frozen=True)
class Statement:
    """What is allowed, on what, and why."""

    name: str
    reason: str
    actions: Sequence[str]
    resources: Sequence[str]
    condition: Mapping[str, Any] = field(default_factory=dict)


def launcher(names: Names) -> list[Statement]:
    """For whoever runs `python -m deploy image`, `codebuild`, `launch`, `sweep`, `tune`, `compare`, `labels` and
    `explain`."""
    repository = names.arn("ecr", f"repository/{names.repository}")
    jobs = names.arn("sagemaker", "training-job/*")
    return [
        Statement(
            "Repository",
            "image push and codebuild make the repository, and bring it to its settings",
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
            "image push uploads the layers that are missing, and reads what ECR's scan has found; the digest is read, "
            "by image uri as well",
            (*PUSH, "ecr:DescribeImageScanFindings", "ecr:DescribeImages"),
            (repository,),
        ),
        _login("docker's login for the push"),
        *_builds(names),
        *_labels(names),
        Statement(
            "Explanations",
            "explain makes a model of a job's archive, and starts Clarify's processing job",
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
            "sweep looks for the jobs that it started before, tune for its own, and the SDK for their Runs",
            ("sagemaker:ListTrainingJobs", "sagemaker:Search"),
            ("*",),
        ),
        Statement(
            "Runs",
            "sweep and launch --experiment make an Experiment, and a Run for every job; compare reads them",
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
            "SageMaker takes on the job's role, and no other service does",
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
            "the SDK makes the bucket of results if there is none, and sees what was uploaded to it",
            ("s3:CreateBucket", "s3:ListBucket"),
            names.buckets(names.bucket, objects=False),
        ),
        Statement(
            "Channels",
            "launch looks whether the channels' buckets are there, and in the job's region",
            ("s3:ListBucket",),
            names.buckets(*names.data, objects=False) or names.buckets(names.bucket, objects=False),
        ),
        Statement(
            "Results",
            "data of this machine, scripts and codebuild's source are uploaded to it, and results fetched from it",
            ("s3:GetObject", "s3:PutObject"),
            names.buckets(names.bucket, objects=True),
        ),
        Statement(
            "Buckets",
            "the SDK looks in the list of buckets whether that one is there",
            ("s3:ListAllMyBuckets",),
            ("*",),
        ),
        Statement(
            "Account",
            "the default bucket has the account's number in its name",
            ("sts:GetCallerIdentity",),
            ("*",),
        ),
    ]


def _builds(names: Names) -> list[Statement]:
    """What `codebuild` needs beside the repository, the bucket and the account's number."""
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
            "CodeBuild takes on its role, and no other service does",
            ("iam:PassRole",),
            role,
            {"StringEquals": {"iam:PassedToService": "codebuild.amazonaws.com"}},
        ),
        Statement(
            "BuildRoleByName", "codebuild looks up the ARN of its role by name", ("iam:GetRole",), role
        ),
    ]


def _labels(names: Names) -> list[Statement]:
    """What `labels` needs beside the bucket of results, and what it has in common with `compare`."""
    return [
        Statement(
            "LabelingJobs",
            "labels status asks for a labelling job's state and counts",
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
            "labels consolidate and audit read manifests and workers' responses where the data lies",
            ("s3:GetObject",),
            names.buckets(*(names.data or (names.bucket,)), objects=True),
        ),
    ]


def job(names: Names) -> list[Statement]:
    """For the role that a training job runs under."""
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
            "SageMaker finds the channels' objects",
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
            "SageMaker writes model.tar.gz and output.tar.gz, and keeps checkpoints as they are in the container",
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
            "the image asks which Run of SageMaker Experiments its job belongs to",
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
    """The rights that MLflow's client uses its REST API by, at a managed server."""
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
    """What Clarify's processing job does under the role, beside reading data and writing results."""
    if not names.clarify:
        return []
    return [
        Statement(
            "Endpoint",
            "Clarify starts an endpoint of the model, asks it and deletes it",
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
            "SageMaker writes the processing job's log, and the endpoint's",
            ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (
                *names.log_group("/aws/sagemaker/ProcessingJobs"),
                *names.log_group(f"/aws/sagemaker/Endpoints/{CLARIFY_ENDPOINT}*"),
            ),
        ),
    ]


def codebuild(names: Names) -> list[Statement]:
    """For CodeBuild's service role; the repository is made beforehand, by `codebuild` or `image push`."""
    repository = names.arn("ecr", f"repository/{names.repository}")
    log = f"log-group:/aws/codebuild/{names.project}"
    return [
        Statement(
            "Push",
            "the image and the build's cache are pushed and pulled, the digest and the scan's findings read",
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
            "CodeBuild fetches the packed commit",
            ("s3:GetObject", "s3:GetObjectVersion"),
            names.below(names.bucket, SOURCES),
        ),
        Statement(
            "Artefact",
            "CodeBuild leaves imageDetail.json in the bucket",
            ("s3:PutObject",),
            names.below(names.bucket, ARTEFACTS),
        ),
        Statement(
            "Bucket",
            "CodeBuild makes sure whose the bucket is, and where",
            ("s3:GetBucketAcl", "s3:GetBucketLocation"),
            names.buckets(names.bucket, objects=False),
        ),
    ]


POLICIES = {"launcher": launcher, "job": job, "codebuild": codebuild}


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """The policy as IAM takes it."""
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
    """The same for people: a paragraph a statement."""
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
