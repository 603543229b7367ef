"""Formats probabilities as the body of a response, in the requested content type."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from subset_trainer.data.requests import CSV, JSON, JSON_LINES
from subset_trainer.errors import shown
from subset_trainer.serving.errors import RequestError
from subset_trainer.serving.requests import SPELLINGS

DIGITS = 7
"""Significant digits, the precision of float32."""


def accepted(accept: str | None, form: str) -> tuple[str, bool]:
    """The content type of the response, and whether every example lists all classes by name (``verbose=true``).

    Args:
        accept: the header: media types in order of preference, unless their `q` says otherwise.
        form: the request's own, from ``requests.form_of``: the response's too if the header accepts any type.

    Raises:
        RequestError: none of the accepted types can be served.
    """
    usual = form if form in (CSV, JSON, JSON_LINES) else JSON
    wanted = [part for part in (accept or "*/*").split(",") if part.strip()]
    ranked = []
    for part in wanted:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        values = {
            name.strip(): value.strip() for name, _, value in (piece.partition("=") for piece in parameters)
        }
        ranked.append(
            (-_quality(values.get("q", "1")), SPELLINGS.get(kind, kind), values.get("verbose") == "true")
        )
    for negative, kind, verbose in sorted(ranked, key=lambda entry: entry[0]):
        if not negative:
            continue
        if kind in (CSV, JSON, JSON_LINES):
            return kind, verbose
        if kind == "*/*" or (kind.endswith("/*") and usual.startswith(kind[:-1])):
            return usual, verbose
        if kind in ("application/*", "text/*"):
            return (JSON if kind == "application/*" else CSV), verbose
    raise RequestError(
        406, f"request: Accept is {shown(accept, 80)}; expected {JSON}, {JSON_LINES} or {CSV}, or none of it."
    )


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0


def encode(probabilities: np.ndarray, classes: Sequence[str], content_type: str, verbose: bool) -> bytes:
    """Encode probabilities [N, C] as N lines, or as a JSON document of N predictions.

    CSV: the likeliest class, then the probability of each class, in the order of model.json. The last line has no line
    break, because batch transform can insert one between payloads (AssembleWith).
    """
    best = probabilities.argmax(axis=1)
    if content_type == CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for position, row in zip(best.tolist(), probabilities.tolist(), strict=True):
            writer.writerow([classes[position], *(f"{value:.{DIGITS}g}" for value in row)])
        return text.getvalue().removesuffix("\n").encode()
    predictions = []
    for position, row in zip(best.tolist(), probabilities.tolist(), strict=True):
        rounded = [float(f"{value:.{DIGITS}g}") for value in row]
        prediction: dict[str, Any] = {
            "predicted_label": classes[position],
            "probability": rounded[position],
            "probabilities": rounded,
        }
        if verbose:
            prediction["labels"] = list(classes)
        predictions.append(prediction)
    if content_type == JSON_LINES:
        return "\n".join(map(json.dumps, predictions)).encode()
    return json.dumps({"predictions": predictions}).encode()
