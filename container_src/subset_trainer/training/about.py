"""What the run has learned of its data: examples.parquet and report.html."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image

from subset_trainer.artifacts import Column
from subset_trainer.data import Dataset, Preprocessing, Splits
from subset_trainer.quality import duplicates, labels
from subset_trainer.report import Findings
from subset_trainer.training.evaluation import Judgement
from subset_trainer.training.record import Record

THUMBNAIL = 96
"""Pixels of the longer side, at most."""
LEAST = 1e-12
"""Probability that a label is given, so that its loss is finite."""
MOST_FEATURES = 8
"""Of a table's row, that a card shows."""


def findings(
    splits: Splits,
    record: Record,
    judged: Judgement,
    validated: Judgement,
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
    device: torch.device,
) -> Findings:
    """Put together what the page shows.

    Args:
        judged, validated: of the training and the validation set, by the model at the end.
        device: to compare fingerprints on.
    """
    given = splits.train.labels
    excess = labels.excess(record.excess_losses(), -judged.own.clamp(min=LEAST).log())
    share = labels.wrong_share(splits.validation.labels, validated.probabilities)
    return Findings(
        title="What training has learned of the data",
        facts=facts,
        history=history,
        classes=splits.preprocessing.classes,
        ids=splits.train_ids,
        labels=given.numpy(),
        probable=judged.predicted(given).numpy(),
        selected=record.visits_N.numpy(),
        margin=judged.margins.numpy(),
        mislabelled=excess.sigmoid().numpy(),
        suspect=labels.suspects(excess, share).numpy(),
        groups=duplicates.groups(judged.fingerprints, given, device).numpy(),
        validation_labels=splits.validation.labels.numpy(),
        validation_predicted=validated.predicted(splits.validation.labels).numpy(),
        show=lambda rows: show(splits.train, rows, splits.preprocessing),
    )


def columns(found: Findings, record: Record) -> dict[str, Column]:
    """Name → a value for each training example, in data order."""
    classes = np.array(found.classes, object)
    return {
        "id": found.ids,
        "label": classes[found.labels],
        "selected": found.selected,
        "weight": record.weights_N.numpy(),
        "running_loss": record.running_losses_N.numpy(),
        "margin": found.margin,
        "probable_label": classes[found.probable],
        "mislabelled": found.mislabelled,
        "suspect": found.suspect,
        "duplicate_group": found.groups,
    }


def show(dataset: Dataset, rows: Sequence[int], preprocessing: Preprocessing) -> list[str]:
    """HTML for each of some examples: its picture, or the beginning of a table's row."""
    if not rows:
        return []
    (inputs,) = dataset.batches([torch.tensor(rows)], torch.device("cpu"))
    if preprocessing.kind == "image":
        return [_picture(pixels.permute(1, 2, 0).numpy()) for pixels in inputs]
    return [_row(values.tolist(), preprocessing) for values in inputs]


def _picture(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75)
    encoded = base64.b64encode(file.getvalue()).decode()
    # The caption beside it says what there is to say.
    return f'<img alt="" src="data:image/webp;base64,{encoded}">'


def _row(values: Sequence[float], preprocessing: Preprocessing) -> str:
    """As it stood in the table: scaled back, and the category that is encoded as 1."""
    cells, at = [], 0
    for column in preprocessing.columns[:MOST_FEATURES]:
        own = values[at : at + column.width]
        if column.kind == "numeric":
            text = f"{own[0] * column.std + column.mean:.5g}"
        else:
            text = column.categories[own.index(max(own))] if any(own) else "–"
        cells.append(f"<dt>{escape(column.name)}</dt><dd>{escape(text)}</dd>")
        at += column.width
    more = len(preprocessing.columns) - len(cells)
    return f"<dl>{''.join(cells)}</dl>" + (f"<div>and {more:,} more</div>" if more > 0 else "")
