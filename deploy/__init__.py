"""The host side: launches trainings on chosen fractions of the data, here or on SageMaker, and compares them.

`python -m deploy --help` lists the commands; what is named here is for Python.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.aws.channels import upload
    from deploy.aws.image import create_repository, push
    from deploy.aws.launch import estimator
    from deploy.results.experiments import experiment_frame

# SDK 2.x is the one with `Estimator`: its advice to move on helps nobody here.
os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")

__all__ = ["create_repository", "estimator", "experiment_frame", "push", "upload"]
_PLACES = {
    "create_repository": "aws.image",
    "estimator": "aws.launch",
    "experiment_frame": "results.experiments",
    "push": "aws.image",
    "upload": "aws.channels",
}


def __getattr__(name: str) -> Any:
    # On demand: the SageMaker SDK takes seconds to import, and a local run needs none of it.
    if name in _PLACES:
        return getattr(importlib.import_module(f"deploy.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
