"""Every way to select, killed within its first epochs and resumed; `make test` has one of each shape."""

from collections.abc import Callable

import pytest

from tests.functional.conftest import Job
from tests.functional.test_resume import SHAPES, STRATEGIES, test_killed_again_and_again

killed_again_and_again = test_killed_again_and_again
del test_killed_again_and_again  # not collected here


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in SHAPES])
def test_the_others_resume_too(strategy: str, make_job: Callable[[str], Job]) -> None:
    killed_again_and_again(strategy, make_job)
