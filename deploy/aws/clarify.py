"""Explains a training job's model of a table with SageMaker Clarify: a processing job computes SHAP values of features.

Clarify deploys the model to a temporary endpoint for its analysis. The endpoint's container is the image's `serve`.
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
"""Follows the training job's name in the names of models and processing jobs."""
ENDPOINT = "subset-trainer-clarify"
"""Prefix of the names of Clarify's endpoints and their configurations, so that an IAM policy can name them."""


@dataclass(frozen=True)
class Analysis:
    """What to explain, and how.

    Args:
        data: S3 URI of CSV, with the label in the same column as in training.
        output: S3 URI of the folder for results.
        instance_type: of the processing job and of the endpoint.
        samples: synthetic rows that SHAP draws for each example; None uses Clarify's default.
        baseline: S3 URI of CSV with SHAP's baseline rows, without labels; None lets Clarify compute a baseline.
        seed: of SHAP's samples.
    """

    data: str
    output: str
    instance_type: str = "ml.m5.xlarge"
    samples: int | None = None
    baseline: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A completed training job: its model archive, image, role, and the content of model.json."""

    name: str
    archive: str
    image: str
    role: str
    description: Mapping[str, Any]


def find(sagemaker: Any, s3: Any, name: str) -> Trained:
    """Query SageMaker for the job, and read its model's description.

    Raises:
        UserError: the job has no model, or one that Clarify cannot explain in this way.
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
    """Create a model from the job's archive, start Clarify's processing job, and return the name of both."""
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
    """Return Clarify's configurations of the data, the model, SHAP, and the scores in a response."""
    from sagemaker import clarify

    preprocessing = trained.description["preprocessing"]
    # Clarify reads the header if there is one, and then needs the label's name.
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
