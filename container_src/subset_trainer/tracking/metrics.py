"""The metrics' names, the log line that carries them, and the regexes by which CloudWatch reads it.

This module does not import torch, so that host-side programs can import the definitions.
"""

from collections.abc import Mapping

FORMATS = {
    "train:loss": ".4f",
    "train:accuracy": ".4f",
    "validation:loss": ".4f",
    "validation:accuracy": ".4f",
    "validation:macro_f1": ".4f",
    "validation:balanced_accuracy": ".4f",
    "validation:auc": ".4f",
    "test:loss": ".4f",
    "test:accuracy": ".4f",
    "test:macro_f1": ".4f",
    "test:balanced_accuracy": ".4f",
    "test:auc": ".4f",
    "epoch:seconds": ".3f",
    "selection:seconds": ".3f",
    "samples:visited": "d",
}
"""Name → format specification. Losses are means in nats, and the other measures are fractions; ``auc`` is of two
classes only. ``epoch:seconds`` is the epoch's training time without selection and evaluation. ``samples:visited``
counts samples seen since the start of the run."""

SPOKEN = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
}
"""Measure → its name in a sentence. Larger is better for all of them."""


def spoken_time(seconds: float) -> str:
    """Return a time as all sentences say it: `40 s`, `12 min` or `3 h 05 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def line(epoch: int, values: Mapping[str, float]) -> str:
    """A log line, ``epoch=3 train:loss=0.5123 …``, with the available metrics in the order of ``FORMATS``."""
    metrics = [f"{name}={values[name]:{form}}" for name, form in FORMATS.items() if name in values]
    return " ".join([f"epoch={epoch}", *metrics])


def metric_definitions() -> list[dict[str, str]]:
    """For the estimator's ``metric_definitions``: SageMaker searches each line of the log for each regex.

    A regex matches within a line of :func:`line` alone, which no other line of the log begins like. Names of classes,
    columns and files, which may read as metrics, stand in other lines.
    """
    return [
        {"Name": name, "Regex": rf"^epoch=[0-9]+ (?:[a-z0-9_:]+=\S+ )*{name}=([0-9.eE+-]+)(?: |$)"}
        for name in FORMATS
    ]
