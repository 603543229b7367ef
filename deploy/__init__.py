"""The host side: launches training runs on fractions of the data, locally or on SageMaker, and compares them.

`python -m deploy --help` lists the commands. The names in `__all__` are the Python API.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.aws.channels import upload
    from deploy.aws.image import create_repository, push
    from deploy.aws.launch import estimator
    from deploy.results.experiments import experiment_frame

# Version 2 of the SDK is required, because version 3 has no `Estimator`. So its warning about version 2 is no help.
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
    # Imported on demand: the SageMaker SDK takes seconds to import, and local runs do not need it.
    if name in _PLACES:
        return getattr(importlib.import_module(f"deploy.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
