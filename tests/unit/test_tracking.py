"""The trackers' common thread, and the hyperparameters that switch trackers on."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from subset_trainer.config import parse
from subset_trainer.errors import UserError
from subset_trainer.tracking import background
from subset_trainer.tracking.background import Background, Backlog


class Recorder:
    """Takes one metric at a time; raises what it is told to, before the metric that is numbered so."""

    def __init__(self, errors: dict[int, list[Exception]] | None = None) -> None:
        self.errors = errors or {}
        self.taken: list[float] = []
        self.parameters: dict[str, object] = {}
        self.outcome: str | None = None

    def send(self, backlog: Backlog) -> None:
        self.parameters.update(backlog.parameters)
        backlog.parameters.clear()
        while backlog.metrics:
            if errors := self.errors.get(len(self.taken)):
                raise errors.pop(0)
            self.taken.append(backlog.metrics.pop(0).value)
        self.outcome = backlog.outcome

    def passing(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_all_arrives_in_order_with_the_outcome(warnings: Callable[[], list[str]]) -> None:
    recorder = Recorder()
    tracker = Background("here", lambda: recorder)
    tracker.parameters({"a": 1, "b": None})
    for epoch in range(1, 6):
        tracker.metrics(epoch, {"m": epoch})
    tracker.close(outcome="stopped")
    assert (recorder.taken, recorder.outcome) == ([1, 2, 3, 4, 5], "stopped")
    assert recorder.parameters == {"a": 1}
    assert warnings() == []


def test_a_passing_fault_loses_nothing_and_is_said_once(
    warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PAUSE", 0.0)
    recorder = Recorder({1: [ConnectionError("away")], 2: [ConnectionError("away")]})
    tracker = Background("here", lambda: recorder)
    for epoch in range(1, 4):
        tracker.metrics(epoch, {"m": epoch})
    tracker.close()
    assert (recorder.taken, recorder.outcome) == ([1, 2, 3], "completed")
    assert warnings() == ["here: away; trying again; training continues, and its metrics are in the log"]


def test_what_stays_away_is_given_up_at_the_end(
    warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PAUSE", 0.0)
    errors: list[Exception] = [ConnectionError("away") for _ in range(100)]
    tracker = Background("here", lambda: Recorder({0: errors}))
    tracker.metrics(1, {"m": 1})
    tracker.close(5)
    assert 100 - len(errors) in (background.LAST_ATTEMPTS, background.LAST_ATTEMPTS + 1)
    assert len(warnings()) == 1


def test_a_refusal_ends_it(warnings: Callable[[], list[str]]) -> None:
    errors: list[Exception] = [ValueError("no"), ValueError("no")]
    tracker = Background("here", lambda: Recorder({0: errors}))
    tracker.metrics(1, {"m": 1})
    while len(errors) == 2:
        time.sleep(0.01)
    tracker.metrics(2, {"m": 2})
    tracker.close(5)
    assert len(errors) == 1
    assert warnings() == ["here: no; training continues, and its metrics are in the log"]


def test_a_hanging_tracker_holds_up_neither_training_nor_for_long_the_end(
    warnings: Callable[[], list[str]],
) -> None:
    hanging = threading.Event()

    def connect() -> Recorder:
        hanging.wait(30)
        return Recorder()

    tracker = Background("here", connect)
    start = time.monotonic()
    for epoch in range(1000):
        tracker.metrics(epoch, {"m": 1})
    tracker.close(0.2)
    assert time.monotonic() - start < 5
    assert "not everything was sent within 0.2 s" in warnings()[0]
    hanging.set()


def test_a_package_that_is_not_there_is_said(warnings: Callable[[], list[str]]) -> None:
    tracker = Background("here", Recorder, imports=["no_such_package"])
    tracker.metrics(1, {"m": 1})
    tracker.close()
    assert warnings() == [
        "here: No module named 'no_such_package'; training continues, and its metrics are in the log"
    ]


def test_a_password_in_an_address_is_not_repeated() -> None:
    error = ConnectionError("request to http://user:secret@host:80/path failed\nmore")
    assert background.reason(error) == "request to http://host:80/path failed"


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/base/",
        "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/mine",
        "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:mlflow-app/app-AB12",
    ],
)
def test_servers_that_a_job_can_name(uri: str) -> None:
    assert parse({"mlflow_tracking_uri": uri}).mlflow_tracking_uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "mine",
        "file:///tmp/runs",
        "https://user:secret@mlflow.example.org",
        "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/mine",
        "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/",
    ],
)
def test_anything_else_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(
        UserError, match=r"^hyperparameter mlflow_tracking_uri: expected http://… or"
    ) as refused:
        parse({"mlflow_tracking_uri": uri})
    assert "secret" not in str(refused.value)
