"""The user's own script, through the toolkit: its output, exit code, signals and stderr."""

import json
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from subset_trainer import script_mode
from subset_trainer.errors import PlatformError
from tests.functional.conftest import Job, write_table

SCRIPT = """
import argparse, json, os, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--fraction", type=float)
parser.add_argument("--then")
arguments = parser.parse_args()

def stop(number, frame):
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "stopped"), "w") as file:
        file.write("in order")
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
print("fraction", arguments.fraction, "channel", os.environ["SM_CHANNEL_TRAINING"], flush=True)
if arguments.then == "import":
    import cords, subset_trainer
    import helper
    print(helper.__name__, "imported", cords.__name__, subset_trainer.__name__)
if arguments.then == "raise":
    print("a warning of before", file=sys.stderr)
    raise ValueError("the third file is odd")
if arguments.then == "exit":
    sys.exit(42)
if arguments.then == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if arguments.then == "long":
    sys.exit("TheReason: " + "x" * 5000)
if arguments.then == "own-failure":
    with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as file:
        file.write("my own words")
    sys.exit(5)
if arguments.then == "wait":
    print("waiting", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def script(job: Job, tmp_path: Path) -> Job:
    source = tmp_path / "source"
    source.mkdir()
    (source / "own.py").write_text(SCRIPT, encoding="utf-8")
    (source / "helper.py").write_text("", encoding="utf-8")
    job.channel("training")
    for folder in ("model", "output"):
        (job.base / folder).mkdir()
    return job


def hyperparameters(job: Job, then: str) -> dict[str, Any]:
    # As the SDK sends them with an entry_point: each value JSON-encoded once more.
    values = {
        "sagemaker_program": "own.py",
        "sagemaker_submit_directory": str(job.base.parent / "source"),
        "fraction": 0.3,
        "then": then,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def test_a_script_sees_its_hyperparameters_channels_and_our_packages(script: Job) -> None:
    script.run(hyperparameters(script, "import"))
    assert (script.exit_code, script.failure) == (0, None), script.log
    assert f"fraction 0.3 channel {script.base}/input/data/training" in script.log
    assert "helper imported cords subset_trainer" in script.log


def test_the_last_lines_of_stderr_become_the_failure_reason(script: Job) -> None:
    script.run(hyperparameters(script, "raise"))
    assert script.exit_code == 1
    assert str(script.failure).startswith("own.py ended with exit code 1: ")
    assert str(script.failure).endswith("ValueError: the third file is odd")
    assert len(str(script.failure)) <= 1024


def test_the_exit_code_is_passed_on(script: Job) -> None:
    script.run(hyperparameters(script, "exit"))
    assert (script.exit_code, script.failure) == (42, "own.py ended with exit code 42")


def test_a_failure_file_that_the_script_wrote_is_kept(script: Job) -> None:
    script.run(hyperparameters(script, "own-failure"))
    assert (script.exit_code, script.failure) == (5, "my own words")


def test_sigterm_reaches_the_script_and_its_exit_code_comes_back(script: Job) -> None:
    seconds = script.terminate_when(hyperparameters(script, "wait"), "waiting")
    assert script.exit_code == 7, script.log
    assert seconds < 15
    assert (script.base / "model" / "stopped").read_text() == "in order"


def test_requirements_beside_the_script_are_installed(script: Job) -> None:
    """Without an index, so that it fails at once: what counts is that pip runs, and that its reason arrives."""
    source = script.base.parent / "source"
    (source / "requirements.txt").write_text("subset-trainer-test-missing==99\n", encoding="utf-8")
    script.environment = {"PIP_NO_INDEX": "1"}
    script.run(hyperparameters(script, "import"))
    assert script.exit_code == 1
    assert str(script.failure).startswith("requirements.txt could not be installed: ")
    assert "subset-trainer-test-missing" in str(script.failure)


def test_mpi_is_refused_and_not_ignored(script: Job) -> None:
    script.run({**hyperparameters(script, "import"), "sagemaker_mpi_enabled": "true"})
    assert script.exit_code == 1
    assert "distribution='mpi'" in str(script.failure)


def test_the_last_line_of_stderr_is_cut_and_not_dropped(script: Job) -> None:
    script.run(hyperparameters(script, "long"))
    assert script.exit_code == 1
    assert str(script.failure).startswith("own.py ended with exit code 1: TheReason: xxx")
    assert str(script.failure).endswith("x…") and len(str(script.failure)) == 1024


def test_an_end_by_signal_9_says_what_that_usually_is(script: Job) -> None:
    script.run(hyperparameters(script, "kill"))
    assert script.exit_code == 137
    assert str(script.failure).startswith(
        "own.py was ended by signal 9 (SIGKILL, exit code 137): usually the machine is out of memory"
    )


@pytest.mark.parametrize("missing", ["resourceconfig", "inputdataconfig"])
def test_a_configuration_file_may_be_missing(script: Job, missing: str) -> None:
    script.configure(hyperparameters(script, "import"))
    (script.base / f"input/config/{missing}.json").unlink()
    process = script.start()
    script.log, _ = process.communicate(timeout=120)
    assert process.returncode == 0, script.log
    assert f"fraction 0.3 channel {script.base}/input/data/training" in script.log
    assert not (script.base / f"input/config/{missing}.json").exists()


def test_a_single_host_needs_no_name(script: Job) -> None:
    started = time.monotonic()
    script.run(hyperparameters(script, "import"), ("no-such-host.invalid",))
    assert script.exit_code == 0, script.log
    assert time.monotonic() - started < 60


def test_a_host_that_does_not_resolve_is_said_and_sigterm_ends_the_wait(script: Job) -> None:
    script.configure(hyperparameters(script, "import"), ("localhost", "no-such-host.invalid"))
    process = script.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for the names of hosts to resolve: no-such-host.invalid" in line:
            break
    else:
        pytest.fail("it is not said")
    process.terminate()
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and "SIGTERM received" in rest, rest


def test_a_host_that_never_resolves_ends_the_job_with_its_name() -> None:
    with pytest.raises(
        PlatformError, match=r"1 of 2 hosts do not resolve within 0\.01 .*no-such-host\.invalid"
    ):
        script_mode.wait_for_hosts(("localhost", "no-such-host.invalid"), minutes=0.01)


@pytest.mark.parametrize("form", ["folder", "archive", "script"])
def test_a_source_may_be_named_by_a_file_uri(script: Job, form: str) -> None:
    source = script.base.parent / "source"
    place = source
    if form == "archive":
        place = script.base.parent / "the source.tar.gz"
        with tarfile.open(place, "w:gz") as archive:
            for file in source.iterdir():
                archive.add(file, file.name)
    elif form == "script":
        place = source / "own.py"
    values = {**hyperparameters(script, "import" if form != "script" else "none")}
    script.run({**values, "sagemaker_submit_directory": json.dumps(place.as_uri())})
    assert script.exit_code == 0, script.log
    assert "fraction 0.3" in script.log


def test_another_source_replaces_the_earlier_job_s_and_keeps_what_its_script_wrote(script: Job) -> None:
    script.run(hyperparameters(script, "import"))
    assert script.exit_code == 0, script.log
    (script.base / "code/cache.txt").write_text("the script's")
    source = script.base.parent / "source"
    (source / "own.py").write_text("print('the second one')")
    (source / "helper.py").unlink()
    script.run(hyperparameters(script, "import"))
    assert script.exit_code == 0 and "the second one" in script.log, script.log
    assert (script.base / "code/cache.txt").exists() and not (script.base / "code/helper.py").exists()


def test_a_mounted_source_is_taken_as_it_is(script: Job) -> None:
    (script.base / "code").mkdir()
    (script.base / "code/own.py").write_text("print('the mounted one')")
    script.run({**hyperparameters(script, "import"), "sagemaker_submit_directory": "file:///not/in/here"})
    assert script.exit_code == 0 and "the mounted one" in script.log, script.log
    assert (script.base / "code/own.py").exists()


@pytest.mark.parametrize("uri", ["/no/such/place", "file:///no/such/place.tar.gz"])
def test_a_source_that_is_not_there_is_named(script: Job, uri: str) -> None:
    script.run({**hyperparameters(script, "import"), "sagemaker_submit_directory": uri})
    assert script.exit_code == 1
    assert f"sagemaker_submit_directory={uri!r}: there is no such file or folder" in str(script.failure)


def test_a_source_that_is_no_archive_is_named(script: Job) -> None:
    place = script.base.parent / "source.tar.gz"
    with tarfile.open(place, "w") as archive:  # not compressed
        archive.add(script.base.parent / "source/own.py", "own.py")
    script.run({**hyperparameters(script, "import"), "sagemaker_submit_directory": str(place)})
    assert script.exit_code == 1
    assert f"sagemaker_submit_directory={str(place)!r} is no archive" in str(script.failure)


@pytest.fixture
def s3(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers every request as S3 does where it refuses."""

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("s3", "what"),
    [(404, "there is no such object (404)"), (403, "access is denied (403), or there is no such object")],
    indirect=["s3"],
)
def test_a_source_in_s3_that_is_refused_is_named_with_the_rights_that_it_takes(
    script: Job, s3: str, what: str
) -> None:
    script.environment = {"S3_ENDPOINT_URL": s3, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    script.environment |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "NO_PROXY": "127.0.0.1"}
    uri = "s3://my-bucket/job/source/sourcedir.tar.gz"
    script.run({**hyperparameters(script, "import"), "sagemaker_submit_directory": uri})
    assert script.exit_code == 1, script.log
    assert str(script.failure) == (
        f"hyperparameter sagemaker_submit_directory={uri!r}: {what}; expected the .tar.gz that the SDK uploads, and a "
        "role with the rights s3:GetObject on arn:aws:s3:::my-bucket/job/source/sourcedir.tar.gz and s3:ListBucket on "
        "arn:aws:s3:::my-bucket"
    )
    assert script.last_line.endswith(str(script.failure))


@pytest.mark.parametrize("name", ["other.py", "code/own.py", "own.sh"])
def test_a_program_that_the_source_lacks_is_named_with_what_it_holds(script: Job, name: str) -> None:
    script.run({**hyperparameters(script, ""), "sagemaker_program": json.dumps(name)})
    assert (script.exit_code, script.failure) == (
        1,
        f"hyperparameter sagemaker_program={name!r}: there is no such file in the source, which holds 'helper.py', "
        "'own.py'; expected its path within sagemaker_submit_directory",
    )


@pytest.mark.parametrize("null", ["null", "None", '"null"'])
def test_a_program_that_is_null_is_not_given(script: Job, null: str) -> None:
    write_table(script.channel("training") / "train.csv")
    script.run({"sagemaker_program": null, "epochs": 1, "report": False})
    assert script.exit_code == 0, script.log
    assert len(script.history) == 1
