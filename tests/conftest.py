"""What every tier shares: the embedded digits, and an SDK that reports nothing to anybody."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from deploy.digits import write_digits
from tests.gpu import pytest_runtest_setup as pytest_runtest_setup

# A run shall not fail for what nobody has changed: properties are tried with the same examples every time, and the tier
# soak looks for others.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


def _of(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in tests)


# What another torch could change: the loop, gradients, selection, evaluation, checkpoints, devices, encoders, serving.
# Files, and of those that hold much else the tests. `pytest -m numerics` runs them, `make test-cuda12` under the other
# lock.
NUMERICS = (
    *(
        "unit/data/test_datasets.py",
        "unit/test_artifacts.py",
        "unit/test_augmentation.py",
        "unit/test_averaging.py",
    ),
    *("unit/test_checkpoints.py", "unit/test_compatibility.py", "unit/test_craig.py", "unit/test_devices.py"),
    *_of(
        "unit/test_distributed_selection.py",
        *("processes_choose_what_one_would[2]", "class_means_are_exact_whatever_the_order"),
    ),
    *("unit/test_divergence.py", "unit/test_embeddings.py"),
    *("unit/test_encoders.py", "unit/test_geometry.py", "unit/test_glister.py", "unit/test_gradients.py"),
    *("unit/test_gradmatch.py", "unit/test_imports.py", "unit/test_launcher.py", "unit/test_loop.py"),
    *("unit/test_library.py", "unit/test_library_loader.py"),
    *_of("unit/test_library_processes.py", "processes_choose_what_one_does_and_share_its_batches[2]"),
    *("unit/test_subset_loader.py", "unit/test_cords_drop_in.py", "unit/test_mislabelled.py"),
    *("unit/test_models.py", "unit/test_numerics.py", "unit/test_out_of_memory.py", "unit/test_parts.py"),
    "unit/test_pretrained.py",
    *("unit/test_record.py", "unit/test_rounds.py", "unit/test_saturated_coverage.py", "unit/test_scores.py"),
    *("unit/test_selection.py", "unit/test_shapley.py", "unit/test_shares.py", "unit/test_state.py"),
    *_of("unit/test_serving.py", "probabilities_are_those_of_the_logits_whatever_the_batches"),
    *_of(
        "functional/test_cords_backend.py",
        *("the_rules_hold", "glister_equals_the_native_one", "a_short_batch_is_completed_and_said"),
        *("what_per_class_picks_too_many_is_left_out_and_said", "a_job_trains_on_what_cords_chooses"),
    ),
    "functional/test_encoders.py",
    *_of(
        "functional/test_library_package.py",
        *(
            "in_a_clean_environment_the_readme_s_example_trains",
            "beyond_torch_an_import_loads_the_package_alone",
        ),
    ),
    *_of(
        "functional/test_ranks.py",
        *("as_many_processes_as_you_like_train_as_one", "images_and_uneven_shares", "two_hosts_train_as_one"),
        *(
            "parts_of_a_batch_are_exchanged_once",
            "killed_and_resumed",
            "an_error_of_one_process_is_the_job_s",
        ),
        *("a_process_that_is_killed_ends_the_job_with_its_name[1]", "a_host_that_is_lost[1]"),
        "a_stopped_process_is_named_and_sigterm_ends_the_job_in_seconds[1]",
    ),
    *_of(
        "functional/test_resume.py",
        *("killed_again_and_again", "every_place_within_an_epoch_is_one_to_go_on_from"),
        "images_that_are_mirrored_in_turn_by_an_optimizer_with_a_state_of_its_own",
        *("damaged_checkpoints_are_left_aside", "a_checkpoint_that_lacks_a_part_is_refused_by_name"),
        "a_malicious_checkpoint_runs_nothing",
    ),
    *_of(
        "functional/test_serving.py",
        "a_table_is_answered_as_the_saved_model_answers",
        "images",
        "many_at_once",
    ),
    *_of(
        "functional/test_training.py",
        *("glister_on_images_end_to_end", "every_strategy_trains_a_table", "reduced_precision_trains"),
        *("the_same_seed_gives_the_same_run", "deterministic_kernels_change_nothing_on_a_cpu"),
        *("what_training_can_be_told_reaches_it", "a_run_that_begins_with_an_earlier_one_s_weights"),
    ),
)
HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Other files than those of NUMERICS are not even imported."""
    files = {HERE / name.partition("::")[0] for name in NUMERICS}
    chosen = config.option.markexpr == "numerics" and collection_path.suffix == ".py"
    return True if chosen and collection_path not in files else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    whole = {HERE / name for name in NUMERICS if "::" not in name}
    single = {name for name in NUMERICS if "::" in name}
    if gone := [str(path) for path in whole if not path.exists()]:
        raise pytest.UsageError(f"tests/conftest.py, NUMERICS: {', '.join(gone)} is not there any more")
    collected, found = set(), set()
    for item in items:
        file = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        names = {f"{file}::{item.name}", f"{file}::{item.name.partition('[')[0]}"}
        collected.add(file)
        found |= names
        if item.path in whole or names & single:
            item.add_marker(pytest.mark.numerics)
    # Of files that are collected in part, as by `pytest FILE::TEST`, nothing can be said.
    if items and not any("::" in argument for argument in items[0].config.args):
        gone = sorted(name for name in single - found if name.partition("::")[0] in collected)
        if gone:
            raise pytest.UsageError(f"tests/conftest.py, NUMERICS: {', '.join(gone)} is not there any more")


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


@pytest.fixture(scope="session")
def schema_checked_once() -> Iterator[None]:
    """Of a configuration the SDK checks each time that it looks something up, some twenty times a job, not only that it
    fits the SDK's schema, but also that the schema is one: 0.1 s each, and most of what a command of ours takes.
    """
    from jsonschema.validators import validator_for
    from sagemaker.config.config_schema import SAGEMAKER_PYTHON_SDK_CONFIG_SCHEMA as SCHEMA

    kind: Any = validator_for(SCHEMA)
    check = kind.check_schema
    check(SCHEMA)

    def check_others(schema: Any, *arguments: Any, **options: Any) -> None:
        if schema is not SCHEMA:
            check(schema, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "check_schema", check_others)
        yield


@pytest.fixture
def quiet_sdk(sdk_config: Path, schema_checked_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
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
