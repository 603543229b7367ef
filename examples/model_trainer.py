"""Launches the image with version 3 of the SageMaker SDK, where `ModelTrainer` takes the place of `Estimator`.

    pip install 'sagemaker>=3,<4'
    python examples/model_trainer.py --image-uri URI --role ROLE --training s3://…/training --test s3://…/test \
        --set strategy=glister fraction=0.3

On this machine, in Docker, with folders for channels: `--local FOLDER` instead of `--role ROLE`; what the job leaves
lies in FOLDER then. Before it starts a job, the SDK has IAM simulate what it thinks a training job needs, which is more
than this one does; SAGEMAKER_VALIDATE_ROLE=false in the environment leaves that out.
"""

import argparse
import json
from typing import Any

from sagemaker.core.shapes import MetricDefinition
from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig
from sagemaker.train import ModelTrainer
from sagemaker.train.model_trainer import Mode

METRICS = [
    *("train:loss", "train:accuracy"),
    *(
        "validation:loss",
        "validation:accuracy",
        "validation:macro_f1",
        "validation:balanced_accuracy",
        "validation:auc",
    ),
    *("test:loss", "test:accuracy", "test:macro_f1", "test:balanced_accuracy", "test:auc"),
    *("epoch:seconds", "selection:seconds", "samples:visited"),
]
# From the line's beginning, so that a class or file whose name reads as a metric is none.
BEFORE = r"^epoch=[0-9]+ (?:[a-z0-9_:]+=\S+ )*"


def value(text: str) -> Any:
    """A number, true or false, or else the text itself: the SDK takes all of these."""
    try:
        return json.loads(text)
    except ValueError:
        return text


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--image-uri", required=True)
parser.add_argument("--role", help="ARN of the job's role")
parser.add_argument("--training", required=True, help="s3://… (with --local a folder), as the other channels")
parser.add_argument("--validation")
parser.add_argument("--test")
parser.add_argument("--output", help="s3://… for the results; default: the session's bucket")
parser.add_argument("--instance-type", default="ml.g5.xlarge")
parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="hyperparameters")
parser.add_argument("--local", metavar="FOLDER", help="run the image in Docker here")
options = parser.parse_args()

channels = {name: getattr(options, name) for name in ("training", "validation", "test")}
if options.local:
    where: dict[str, Any] = {"training_mode": Mode.LOCAL_CONTAINER, "local_container_root": options.local}
    compute = Compute(instance_type="local_cpu", instance_count=1)
else:
    where = {"role": options.role}
    compute = Compute(instance_type=options.instance_type, instance_count=1)
    if options.output:
        where["output_data_config"] = OutputDataConfig(s3_output_path=options.output)

trainer = ModelTrainer(
    training_image=options.image_uri,
    base_job_name="subset-trainer",
    compute=compute,
    hyperparameters={name: value(text) for name, text in (pair.split("=", 1) for pair in options.set)},
    **where,
).with_metric_definitions(
    [MetricDefinition(name=name, regex=rf"{BEFORE}{name}=([0-9.eE+-]+)(?: |$)") for name in METRICS]
)
trainer.train(
    input_data_config=[
        InputData(channel_name=name, data_source=source) for name, source in channels.items() if source
    ]
)
