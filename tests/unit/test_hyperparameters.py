import subprocess
import sys
from typing import get_args

import pytest

from subset_trainer.config import Hyperparameters, parse
from subset_trainer.config.parsing import canonical, expectation
from subset_trainer.config.selection import StrategyName
from subset_trainer.errors import UserError


@pytest.mark.parametrize("quoted", ["glister", '"glister"', '"\\"glister\\""', " glister "])
def test_text_arrives_in_every_quoting(quoted: str) -> None:
    assert parse({"strategy": quoted}).strategy == "glister"


@pytest.mark.parametrize("quoted", ["0.3", '"0.3"', '"\\"0.3\\""', 0.3])
def test_numbers_arrive_in_every_quoting(quoted: object) -> None:
    assert parse({"fraction": quoted}).fraction == 0.3


@pytest.mark.parametrize(
    ("given", "expected"), [("True", "true"), ("true", "true"), ('"False"', "false"), (True, "true")]
)
def test_booleans_of_both_sdk_generations(given: object, expected: str) -> None:
    assert parse({"csv_header": given}).csv_header == expected


@pytest.mark.parametrize("absent", ["", '""', "None", None, "null", '"null"', '"\\"None\\""', " null "])
@pytest.mark.parametrize("name", ["epochs", "label_column", "strategy", "scope"])
def test_absent_values_leave_the_default(name: str, absent: object) -> None:
    found = parse({name: absent})
    assert found == Hyperparameters() and not found.model_fields_set


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("strategy", "GLISTER", "glister"),
        ("strategy", '"Glister"', "glister"),
        ("strategy", "GradMatch_PB", "gradmatch-pb"),
        ("strategy", "loss filter", "loss-filter"),
        ("strategy", "RS2", "rs2"),
        ("backend", "CORDS", "cords"),
        ("balance", "None", "none"),
        ("balance", "NONE", "none"),
        ("scope", "Per_Class", "per-class"),
        ("label_check", "Training_Signals", "training-signals"),
        ("precision", "BFloat16", "bfloat16"),
        ("csv_header", "TRUE", "true"),
        ("model", "ResNet18", "resnet18"),
        ("model", "ViT-B-16", "vit_b_16"),
    ],
)
def test_a_choice_is_understood_in_any_case_and_with_any_separator(name: str, given: str, meant: str) -> None:
    assert getattr(parse({"strategy": "glister", name: given}), name) == meant


def test_every_choice_of_every_hyperparameter_is_understood_in_capitals_and_with_underscores() -> None:
    fields = Hyperparameters.model_fields
    choices = {name: expectation(field) for name, field in fields.items() if "one of " in expectation(field)}
    assert len(choices) > 12
    for name, listed in choices.items():
        for choice in listed.removeprefix("one of ").split(", "):
            assert canonical(choice.upper().replace("-", "_"), fields[name]) == choice


def test_a_choice_that_is_not_known_is_shown_as_it_was_given() -> None:
    with pytest.raises(UserError, match=r"strategy='GLISTR': .*did you mean 'glister'"):
        parse({"strategy": "GLISTR"})


def test_text_that_is_no_choice_keeps_its_case() -> None:
    assert parse({"label_column": "My_Label"}).label_column == "My_Label"


def test_the_platforms_own_names_are_ignored() -> None:
    raw = {"sagemaker_job_name": "x", "_tuning_objective_metric": "validation:accuracy", "epochs": "2"}
    assert parse(raw).epochs == 2


def test_a_number_may_name_a_column() -> None:
    assert parse({"label_column": 3}).label_column == "3"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "fraction",
            "0",
            "hyperparameter fraction='0': expected a number greater than 0 and at most 1, or auto",
        ),
        (
            "fraction",
            "1.5",
            "hyperparameter fraction='1.5': expected a number greater than 0 and at most 1, or auto",
        ),
        (
            "fraction",
            "abc",
            "hyperparameter fraction='abc': expected a number greater than 0 and at most 1, or auto",
        ),
        (
            "fraction",
            "nan",
            "hyperparameter fraction='nan': expected a number greater than 0 and at most 1, or auto",
        ),
        (
            "strategy",
            "glistr",
            f"hyperparameter strategy='glistr': expected one of {', '.join(get_args(StrategyName))}; "
            "did you mean 'glister'?",
        ),
        ("epochs", "0", "hyperparameter epochs='0': expected a whole number at least 1"),
        ("epochs", "1.5", "hyperparameter epochs='1.5': expected a whole number at least 1"),
        ("fractoin", "0.1", "unknown hyperparameter 'fractoin': did you mean 'fraction'?"),
        ("batch-size", "8", "unknown hyperparameter 'batch-size': did you mean 'batch_size'?"),
    ],
)
def test_a_fault_is_one_sentence_with_name_value_and_expectation(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse({name: value})
    assert str(caught.value) == sentence


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse({"fraction": "2", "epochs": "-1", "lerning_rate": "0.1"})
    assert [word in str(caught.value) for word in ("fraction='2'", "epochs='-1'", "'lerning_rate'")] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            {"backend": "cords", "strategy": "rs2"},
            "backend='cords' supports only .*glister, gradmatch, .* got strategy='rs2'",
        ),
        ({"backend": "cords", "mislabelled": "drop"}, "require backend='native'"),
        (
            {"scope": "per-batch", "strategy": "craig"},
            "scope='per-batch' works only with glister; got strategy='craig'",
        ),
        (
            {"scope": "supervised", "strategy": "rs2"},
            "scope='supervised' works only with glister, craig; got strategy='rs2'",
        ),
        (
            {"greedy": "rgreedy", "strategy": "craig"},
            "greedy='rgreedy' works only with glister; got strategy='craig'",
        ),
        (
            {"balance": "class", "strategy": "infobatch"},
            "balance='class' does not work with strategy='infobatch'",
        ),
        ({"balance": "class", "scope": "per-batch"}, "balance='class' does not work with scope='per-batch'"),
        (
            {"mislabelled": "drop", "strategy": "full"},
            "mislabelled='drop' does not work with strategy='full'",
        ),
        ({"candidates_per_pick": "3", "backend": "cords"}, "works neither with backend='cords' nor with"),
        ({"candidates_per_pick": "3", "mislabelled": "drop"}, "nor with mislabelled='drop'"),
        ({"test_time_flip": "perhaps"}, "test_time_flip='perhaps': expected true or false"),
        ({"scope": "per-clas"}, "expected one of supervised, .* did you mean 'per-class'"),
        ({"strategy": "gradmach"}, "did you mean 'gradmatch'"),
        ({"candidates_per_pick": "1"}, "candidates_per_pick='1': expected a number greater than 1"),
    ],
)
def test_what_does_not_go_together_is_refused(raw: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse({"strategy": "glister", **raw})


def test_validating_needs_no_torch() -> None:
    code = (
        "import sys, subset_trainer.config.hyperparameters, subset_trainer.tracking.metrics; "
        "print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "value",
    ["9" * 5_000, "x" * 1_000_000, [0] * 100_000, 10**5_000, [10**5_000]],
    ids=["digits", "letters", "list", "integer", "list of an integer"],
)
def test_a_value_without_end_is_named_in_a_short_sentence(value: object) -> None:
    with pytest.raises(UserError, match="hyperparameter fraction=") as caught:
        parse({"fraction": value})
    assert len(str(caught.value)) < 400


def test_an_unknown_name_that_is_near_none_is_not_answered_with_all_names() -> None:
    with pytest.raises(UserError) as raised:
        parse({"qqqqq": "1"})
    assert str(raised.value) == (
        "unknown hyperparameter 'qqqqq': `python -m subset_trainer.config` lists all of them"
    )
