"""What every tier shares: the embedded digits, and an SDK that reports nothing to anybody."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from deploy.digits import write_digits
from tests.gpu import pytest_runtest_setup as pytest_runtest_setup

# A run shall not fail for what nobody has changed: properties are tried with the same examples every time, and the tier
# soak looks for others.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

# What another torch could change: the loop, gradients, selection, evaluation, checkpoints, devices, encoders, serving.
# `pytest -m numerics` runs these files, `make test-cuda12` under the other lock.
NUMERICS = (
    *(
        "unit/data/test_datasets.py",
        "unit/test_artifacts.py",
        "unit/test_augmentation.py",
        "unit/test_averaging.py",
    ),
    *("unit/test_checkpoints.py", "unit/test_compatibility.py", "unit/test_craig.py", "unit/test_devices.py"),
    *("unit/test_distributed_selection.py", "unit/test_divergence.py", "unit/test_embeddings.py"),
    *("unit/test_encoders.py", "unit/test_geometry.py", "unit/test_glister.py", "unit/test_gradients.py"),
    *("unit/test_gradmatch.py", "unit/test_imports.py", "unit/test_launcher.py", "unit/test_loop.py"),
    *("unit/test_library.py", "unit/test_library_loader.py", "unit/test_library_processes.py"),
    *("unit/test_subset_loader.py", "unit/test_cords_drop_in.py", "unit/test_mislabelled.py"),
    *("unit/test_models.py", "unit/test_numerics.py", "unit/test_out_of_memory.py", "unit/test_parts.py"),
    "unit/test_pretrained.py",
    *("unit/test_record.py", "unit/test_rounds.py", "unit/test_saturated_coverage.py", "unit/test_scores.py"),
    *("unit/test_selection.py", "unit/test_serving.py", "unit/test_shapley.py", "unit/test_shares.py"),
    *("unit/test_state.py", "functional/test_cords_backend.py", "functional/test_encoders.py"),
    *("functional/test_ranks.py", "functional/test_resume.py", "functional/test_serving.py"),
    *("functional/test_training.py", "functional/test_library_package.py"),
)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if gone := [name for name in NUMERICS if not (HERE / name).exists()]:
        raise pytest.UsageError(f"tests/conftest.py, NUMERICS: {', '.join(gone)} is not there any more")
    numerics = {HERE / name for name in NUMERICS}
    for item in items:
        if item.path in numerics:
            item.add_marker(pytest.mark.numerics)


def pytest_configure(config: pytest.Config) -> None:
    """Each of several workers (`pytest -n`) has processors of its own, so that a training's threads wait for nobody. No
    test depends on the terminal's width, which workers pass on as COLUMNS."""
    os.environ.pop("COLUMNS", None)
    config.addinivalue_line("markers", "numerics: computes what another torch could change")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, processors[number::count] or processors)


# The SageMaker SDK sends a usage report with every call, and prints tracebacks where it cannot.
SDK_CONFIG = """\
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the channels `training` (1,437 images) and `test` (360), ten classes each."""
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    return directory


@pytest.fixture(scope="session")
def sdk_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sdk") / "config.yaml"
    path.write_text(SDK_CONFIG)
    return path


@pytest.fixture
def quiet_sdk(sdk_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(sdk_config))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless one; skips where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium: `make test` installs it as root on Debian")
    with sync_playwright() as playwright:
        # As root it has no sandbox; the pages are our own.
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()
