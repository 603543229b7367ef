"""What every tier shares: the embedded digits, and an SDK that reports nothing to anybody."""

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
