"""The real ``train`` program, killed for as long as there is time.

`make test` does the least that each test must, with jobs forked from a warm parent; `make soak` starts each cold, but
for those that are told where to halt.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.conftest import Job


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str], Job]:
    return lambda name: Job(tmp_path / name, cold="SOAK_MINUTES" in os.environ)


@pytest.fixture(scope="session")
def minutes() -> float:
    """How long to go on, SOAK_MINUTES; 0: each test does the least that it must."""
    return float(os.environ.get("SOAK_MINUTES") or 0)
