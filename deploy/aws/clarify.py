"""SageMaker Clarify explains what a training job has learned: SHAP values of a table's features, by a processing job.

Clarify starts an endpoint of the model for the time of its analysis, whose container is the image's own `serve`.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploy.aws import jobs
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from sagemaker.session import Session

DESCRIPTION = "model.json"
FORM = "application/jsonlines"
SUFFIX = "-clarify-"
"""In the names of models and processing jobs, after the training job's."""
ENDPOINT = "subset-trainer-clarify"
"""What the names of Clarify's endpoints and their configurations begin with, so that rights can be given for them."""


@dataclass(frozen=True)
class Analysis:
    """What to explain, and with what.

    data: CSV in S3, with the label where training's files had it. output: where results go. samples: rows that SHAP
    makes of each example; None leaves it to Clarify. baseline: rows of features alone, in S3; None: Clarify finds some.
    """

    data: str
    output: str
    instance_type: str = "ml.m5.xlarge"
    samples: int | None = None
    baseline: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A training job that has ended well: its archive, image and role, and what model.json says."""

    name: str
    archive: str
    image: str
    role: str
    description: Mapping[str, Any]


def find(sagemaker: Any, s3: Any, name: str) -> Trained:
    """Ask SageMaker for the job, and read its model's description.

    Raises:
        UserError: it has left no model, or one that Clarify cannot explain in this way.
    """
    job = sagemaker.describe_training_job(TrainingJobName=name)
    if job["TrainingJobStatus"] != jobs.ENDED_WELL:
        raise UserError(f"training job {name} is {job['TrainingJobStatus']}; expected one that is Completed")
    archive = job["ModelArtifacts"]["S3ModelArtifacts"]
    with TemporaryDirectory() as folder:
        jobs.fetch_results(s3, archive, Path(folder), (DESCRIPTION,))
        path = Path(folder) / DESCRIPTION
        if not path.exists():
            raise UserError(f"{archive} holds no {DESCRIPTION}; expected the model of a job of this image")
        try:
            description = json.loads(path.read_bytes())
            kind = description["preprocessing"]["kind"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(
                f"{DESCRIPTION} in {archive} is damaged; expected a model's description"
            ) from error
    if kind != "table":
        raise UserError(f"training job {name} has a model of {kind} data; explain --clarify is for tables")
    return Trained(name, archive, job["AlgorithmSpecification"]["TrainingImage"], job["RoleArn"], description)


def start(session: "Session", trained: Trained, analysis: Analysis) -> str:
    """Make a model of the job's archive, and start Clarify's processing job; its name."""
    from sagemaker import clarify

    # Names have 63 characters at most.
    stem = re.sub(r"[^A-Za-z0-9-]", "-", trained.name)[:40].strip("-")
    name = f"{stem}{SUFFIX}{time.strftime('%y%m%d-%H%M%S', time.gmtime())}"
    session.sagemaker_client.create_model(
        ModelName=name,
        PrimaryContainer={"Image": trained.image, "ModelDataUrl": trained.archive},
        ExecutionRoleArn=trained.role,
    )
    processor = clarify.SageMakerClarifyProcessor(
        role=trained.role,
        instance_count=1,
        instance_type=analysis.instance_type,
        sagemaker_session=session,
    )
    data, model, shap, scores = _configuration(trained, analysis, name)
    processor.run_explainability(data, model, shap, scores, wait=False, logs=False, job_name=name)
    return name


def _configuration(trained: Trained, analysis: Analysis, model_name: str) -> tuple[Any, Any, Any, Any]:
    """Data, model, SHAP and how scores are found in an answer."""
    from sagemaker import clarify

    preprocessing = trained.description["preprocessing"]
    # By its name where the files have a header, which Clarify reads.
    label = preprocessing["label_column"] if preprocessing["header"] else preprocessing["label_index"]
    data = clarify.DataConfig(
        s3_data_input_path=analysis.data,
        s3_output_path=analysis.output,
        label=label,
        dataset_type="text/csv",
    )
    model = clarify.ModelConfig(
        model_name=model_name,
        instance_count=1,
        instance_type=analysis.instance_type,
        content_type=FORM,
        content_template='{"features":$features}',
        accept_type=FORM,
        endpoint_name_prefix=ENDPOINT,
    )
    shap = clarify.SHAPConfig(
        baseline=analysis.baseline,
        num_samples=analysis.samples,
        agg_method="mean_abs",
        seed=analysis.seed,
        save_local_shap_values=True,
    )
    scores = clarify.ModelPredictedLabelConfig(
        probability="probabilities", label_headers=list(trained.description["classes"])
    )
    return data, model, shap, scores
