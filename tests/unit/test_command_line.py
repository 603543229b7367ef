"""The command line of the host side, as people expect one: help, versions, completion, what was meant, JSON, widths."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy import text
from deploy.__main__ import COMMAND, commands, main, parse
from deploy.commands import declared
from tests.unit.test_compare import write_run

COMMANDS = {command.name: command for command in commands()}
GROUPS = ("", "image", "labels")


def started(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def in_a_terminal(arguments: list[str], environment: Mapping[str, str]) -> str:
    """What a program of ours prints to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "deploy", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                if not (part := os.read(ours, 65_536)):
                    break
            except OSError:  # Linux ends a terminal so
                break
            shown += part
        process.wait()
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_help_fits_eighty_columns_and_names_everything(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    # The sign of a name or a value that was cut; `…` after a URI's beginning is the text's own.
    assert not re.search(r"\w…", shown)
    if name not in COMMANDS:
        return
    for field, _, option in declared.fields(COMMANDS[name].options):
        if not option.hidden and not option.argument:
            assert f"{option.names(field)[0]} " in shown
    assert "Examples:" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_understood_and_fits_a_line(name: str) -> None:
    assert COMMANDS[name].examples
    for example in COMMANDS[name].examples:
        assert len(f"{COMMAND} {example}") <= 79
        assert example.startswith(name)
        assert parse(shlex.split(example.replace("$IMAGE", "image"))) is not None


@pytest.mark.parametrize("name", [*GROUPS, *(name for name, command in COMMANDS.items() if not command.bare)])
def test_what_is_called_bare_shows_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(name.split()) == 0
    shown = capsys.readouterr()
    assert "Usage:" in shown.out and shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("comapre x", "no such command 'comapre'; did you mean 'compare'?"),
        ("labels audt x", "no such command 'audt'; did you mean 'audit'?"),
        ("launch --trainin x", "no such option: --trainin; did you mean --training?"),
        ("launch --image_uri x", "did you mean --image-uri?"),
        ("sweep --fraction 0.1", "did you mean --fractions?"),
        ("compare --seed 1", "did you mean --seeds?"),
        ("launch --epochs 3", "it is a hyperparameter: give --set epochs=VALUE"),
        ("launch --strategy rs2", "it is a hyperparameter: give --set strategy=VALUE"),
        ("policy lancher --account 123456789012 --bucket abc", "did you mean 'launcher'?"),
        ("image build --cuda 14", "--cuda '14': expected one of 12, 13"),
        ("compare x --seeds 1,1", "--seeds '1,1': expected different whole numbers"),
        ("compare x --tolerance -1", "--tolerance '-1': expected percentage points"),
        ("compare x --prices ml.g5.xlarge=0", "--prices 'ml.g5.xlarge=0': expected dollars an hour"),
        ("compare x --set epochs", "--set 'epochs': expected NAME=VALUE"),
        ("explain job --seed x", "--seed 'x': expected a whole number"),
        ("launch --training x", "missing option '--image-uri'"),
        ("compare deploy --set epochs=ten", "--set: hyperparameter epochs='ten': expected a whole number"),
        (
            "compare deploy --set fractoin=0.3",
            "--set: unknown hyperparameter 'fractoin': did you mean --fractions?",
        ),
        ("compare x --training y", "x and --training y: expected only one of the two"),
        ("compare x --ascending", "--ascending goes with --sort-by"),
        ("compare potos --set epochs=3", "there is no file or folder 'potos'"),
        ("labels audit x --json audit.json", "--output FILE writes the JSON that --json FILE wrote"),
    ],
)
def test_a_mistake_is_one_sentence_with_what_was_meant(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert expected in shown.err


@pytest.mark.parametrize("command", ["compare", "explain"])
def test_a_mistyped_path_is_named_before_aws_is(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert main([command, "potos"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: there is no file or folder 'potos'; ") and shown.out == ""
    assert shown.err.count("\n") == 1


def test_options_of_training_are_not_ignored_beside_finished_runs(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs, "--settle"]) == 1
    assert "--settle only applies where runs are trained on data" in capsys.readouterr().err


def test_the_sdks_own_log_is_not_shown(tmp_path: Path) -> None:
    done = started(
        *("compare", "potos", "--region", "eu-west-1"),
        AWS_CONFIG_FILE=str(tmp_path / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no usable AWS credentials") and done.stderr.count("\n") == 1


def test_two_sets_of_data_are_not_taken_for_runs(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(digits / "training"), str(digits / "test")]) == 1
    assert "holds no runs; of data, one folder or file is compared at a time" in capsys.readouterr().err


def test_a_comparison_is_not_tested_on_what_it_trains_on(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(digits / "training")
    assert main(["compare", data, "--test", data, "--output", str(tmp_path / "out")]) == 1
    assert (
        "channel 'test': " in (said := capsys.readouterr().err) and "the same files as the training" in said
    )
    assert not (tmp_path / "out").exists()


def test_several_values_follow_an_option_or_repeat_it() -> None:
    given: dict[str, Any] = {}

    def run(options: declared.Options) -> None:
        given.update(vars(options))

    command = declared.Command("compare", run, COMMANDS["compare"].options, "Compare.", ())
    app = typer.Typer(cls=declared.Group)
    app.callback()(lambda: None)
    declared.add(app, command, "x")
    words = "compare a b --set epochs=3 seed=1 --strategy rs2 --set seed=2 --baselines --no-baselines"
    app(words.split(), standalone_mode=False)()
    assert given["runs"] == ("a", "b") and given["set"] == {"epochs": "3", "seed": "2"}
    assert given["strategies"] == {"rs2": {"strategy": "rs2"}} and not given["baselines"]
    app(["compare", "a"], standalone_mode=False)()
    assert given["baselines"] and given["fractions"] == (1, 0.5, 0.3, 0.1) and given["set"] == {}


def test_the_shell_completes_commands_options_and_choices() -> None:
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; sys.argv[0] = 'subset-trainer'; from deploy.__main__ import main; main()",
            ],
            env={
                **os.environ,
                "_SUBSET_TRAINER_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    assert completed("subset-trainer la") == ["launch", "labels"]
    assert "--strategies" in completed("subset-trainer compare --str")
    assert completed("subset-trainer labels audit --method ma") == ["majority"]


def test_help_imports_nothing_slow_and_takes_less_than_two_fifths_of_a_second() -> None:
    slow = (
        "boto3",
        "botocore",
        "matplotlib",
        "numpy",
        "pandas",
        "sagemaker",
        "scipy",
        "torch",
    )
    program = (
        "import sys, time; from deploy.__main__ import main; code = main(sys.argv[1:]); "
        f"print([name for name in {slow} if name in sys.modules], time.process_time(), file=sys.stderr)"
    )
    for arguments in (["--help"], ["compare", "--help"]):
        seconds = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
            )
            imported, _, taken = done.stderr.strip().rpartition(" ")
            assert imported == "[]"
            seconds.append(float(taken))
        # Of the processor's time: others may have the machine.
        assert min(seconds) < 0.4


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    shapes = {"full": ("full", 1.0, 10), "rs2-0.5": ("rs2", 0.5, 10), "full-at-0.5": ("full", 1.0, 5)}
    return [str(write_run(tmp_path / name, *shape, seconds=4.0)) for name, shape in shapes.items()]


def test_json_is_all_that_stdout_has(runs: list[str]) -> None:
    done = started("compare", *runs, "--json")
    answer = json.loads(done.stdout)
    assert [row["run"] for row in answer["runs"]] == ["full", "rs2-0.5", "full-at-0.5"]
    assert answer["answer"] and answer["answer"] in done.stderr and "speed-up" in done.stderr


def test_inspect_takes_the_channels_that_lie_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rows", "validation-rows", "test-rows"):
        (tmp_path / name).mkdir()
        rows = "".join(f"{'ab'[n % 2]},{n}.5,{n % 7}.25\n" for n in range(40))
        (tmp_path / name / "rows.csv").write_text(f"label,x,y\n{rows}")
    elsewhere = [f"--{name}={tmp_path / name}-rows" for name in ("validation", "test")]
    assert main(["inspect", str(tmp_path / "rows"), "--json", *elsewhere]) == 0
    shown = capsys.readouterr().out
    assert all(f'"{name}"' in shown for name in ("training", "validation", "test"))
    assert main(["inspect", str(tmp_path / "rows"), "--test", str(tmp_path / "nowhere")]) == 1
    assert "there is no file or folder" in capsys.readouterr().err
    # A table by itself, as `compare` takes it.
    assert main(["inspect", str(tmp_path / "rows/rows.csv")]) == 0
    assert f"to train on it: subset-trainer compare {tmp_path}/rows/rows.csv --set" in (
        shown := capsys.readouterr().out
    )
    assert "training: csv (by 'rows.csv'), 40 examples in 2 classes" in shown


def test_every_command_that_answers_has_json() -> None:
    without = [
        name for name, command in COMMANDS.items() if not issubclass(command.options, declared.Answering)
    ]
    assert without == ["image build"]  # whose output is Docker's


def test_a_terminal_of_eighty_columns_gets_fewer_columns_and_no_wrapped_rows(runs: list[str]) -> None:
    done = started("compare", *runs, COLUMNS="80")
    lines = done.stdout.splitlines()
    (rule,) = (number for number, line in enumerate(lines) if line.startswith("──"))
    assert max(map(len, lines[rule - 2 : rule + 4])) <= 80
    assert [line.split()[0] for line in lines if re.match("(full|rs2)", line)] == [
        "full",
        "rs2-0.5",
        "full-at-0.5",
    ]
    assert (
        "speed-up" in done.stdout and "left out, for lack of width: epochs, training time (s)" in done.stdout
    )
    wide = started("compare", *runs, COLUMNS="200").stdout
    assert "evaluation" in wide and "left out" not in wide


def test_a_terminal_breaks_the_answer_between_words_and_a_pipe_does_not(runs: list[str]) -> None:
    piped = started("compare", *runs, "--json")
    answer = json.loads(piped.stdout)["answer"]
    narrow = started("compare", *runs, COLUMNS="40").stdout
    lines = narrow.strip().split("\n\n")[0].splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 40 and " ".join(lines) == answer
    # Whole names, and fewer columns.
    assert max(map(len, narrow.splitlines())) <= 40 and "full-at-0.5 " in narrow


@pytest.mark.parametrize("name", [*GROUPS, "compare", "inspect"])
def test_help_names_no_types_of_python(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert not re.search(r"<\w+(\[\w+\])?>", capsys.readouterr().out)


def test_names_are_shortened_in_their_middle_where_no_column_is_left_to_leave_out() -> None:
    shown = text.table([["run", "accuracy"]], [["a-very-long-name-of-a-run-seed-1", "91%"]], width=24)
    assert shown.splitlines()[-1].split() == ["a-very-…seed-1", "91%"]
    assert max(map(len, shown.splitlines())) <= 24


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_and_no_color_turns_them_off(
    environment: dict[str, str], coloured: bool
) -> None:
    shown = in_a_terminal(["launch", "--help"], environment)
    assert bool(re.search(r"\x1b\[[0-9;]*3\d", shown)) == coloured
    piped = started("launch", "--help", FORCE_COLOR="").stdout
    assert "\x1b" not in piped
