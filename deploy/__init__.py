"""The host side: launches trainings on chosen fractions of the data, here or on SageMaker, and compares them.

`python -m deploy --help` lists the commands; `estimator` and `create_repository` are the same from Python.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.image import create_repository, push
    from deploy.launch import estimator

# SDK 2.x is the one with `Estimator`: its advice to move on helps nobody here.
os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")

__all__ = ["create_repository", "estimator", "push"]


def __getattr__(name: str) -> Any:
    # On demand: the SageMaker SDK takes seconds to import, and a local run needs none of it.
    if name == "estimator":
        from deploy.launch import estimator

        return estimator
    if name in ("create_repository", "push"):
        from deploy import image

        return getattr(image, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
