"""The mark `gpu`: a test that has it needs a GPU, and is skipped where there is none."""

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A hook of pytest: tests/conftest.py takes it over, and `-p tests.gpu` does where conftest files are left out."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch  # takes seconds, which a run without such tests need not wait for

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
