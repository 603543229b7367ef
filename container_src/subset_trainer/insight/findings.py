"""What a run has learned about its data: the content of examples.parquet and report.html."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from subset_trainer import pages
from subset_trainer.artifacts import Column
from subset_trainer.data import Dataset, Ids, Kind, Splits, overview
from subset_trainer.data.images.unreadable import LeftOut
from subset_trainer.insight import duplicates, issues, labels
from subset_trainer.insight.cleaning import NOISY, Examined
from subset_trainer.insight.explanations import Explanations
from subset_trainer.insight.page import About, Findings, Row, Shown
from subset_trainer.training.evaluation import Judgement
from subset_trainer.training.record import Record

THUMBNAIL = 96
"""Pixels of the longer side, at most."""
MOST_CHARACTERS = 300
UNREADABLE = "unreadable"
"""In the column `removed` of examples.parquet: an image that on_unreadable=skip left out."""


def findings(
    splits: Splits,
    examined: Examined,
    record: Record,
    judged: Judgement,
    validated: Judgement,
    history: Sequence[Mapping[str, Any]],
    about: About,
    device: torch.device,
    explained: Explanations | None = None,
) -> Findings:
    """Collect what the page shows about the training examples.

    Args:
        splits: the splits that the run was trained on.
        judged, validated: the final model's outputs for the training and the validation set.
        device: the device that compares fingerprints.
        explained: errors in validation; None: explanations were not requested.
    """
    given = splits.train.labels
    kept = torch.from_numpy(examined.kept)
    known = True
    if examined.suspect is not None and examined.mislabelled is not None and not examined.counts()[NOISY]:
        mislabelled, suspect = examined.mislabelled[kept], examined.suspect[kept]
    else:
        excess = labels.excess(record.excess_losses(), judged.losses)
        verdict = labels.judge(
            excess,
            record.early_hit_rates(),
            record.surest_missed(),
            judged.margins >= 0,
            splits.validation.labels,
            validated.probabilities,
        )
        mislabelled, suspect, known = excess.sigmoid(), verdict.suspect, verdict.known
    # The model may have memorised a suspect's label in the end. The class that it would choose otherwise is shown.
    probable = judged.predicted(given).where(~suspect, judged.rival_class)
    if examined.groups is None:
        groups = duplicates.groups(judged.fingerprints, given, device)
    else:
        groups = _of_several(examined.groups[kept])
    return Findings(
        about=about,
        kind=splits.preprocessing.name,
        history=history,
        classes=splits.preprocessing.classes,
        ids=splits.train_ids,
        labels=given.numpy(),
        probable=probable.numpy(),
        selected=record.visits_N.numpy(),
        margin=judged.margins.numpy(),
        mislabelled=mislabelled.numpy(),
        suspect=suspect.numpy(),
        suspects_known=known,
        groups=groups.numpy(),
        validation_labels=splits.validation.labels.numpy(),
        validation_predicted=validated.predicted(splits.validation.labels).numpy(),
        show=lambda rows: show(splits.train, rows, splits.preprocessing, splits.train_texts),
        issues=issues.find(
            splits,
            judged.observed,
            validated.observed,
            (validated.margins >= 0).numpy(),
            judged.margins.numpy(),
            device,
        ),
        explained=explained,
        understood=overview.overview(splits.understandings),
    )


def _of_several(groups_K: torch.Tensor) -> torch.Tensor:
    """int32 [K]: -1 where no other of the group is there."""
    sizes = groups_K.long().add(1).bincount()
    return torch.where(sizes[groups_K.long() + 1] > 1, groups_K, -1)


def columns(found: Findings, examined: Examined, record: Record) -> dict[str, Column]:
    """Name → a value for each training example, in data order, those that were left out among them: what training did
    not see of these is NaN, and text is null."""
    classes = np.array(found.classes, object)
    whole = {
        "selected": found.selected,
        "weight": record.weights_N.numpy(),
        "running_loss": record.running_losses_N.numpy(),
        "margin": found.margin,
        "probable_label": classes[found.probable],
        "mislabelled": found.mislabelled,
        "suspect": found.suspect,
        "duplicate_group": found.groups,
        "outlier": found.issues.remoteness,
        "image_issue": found.issues.image_issue,
        "odd_size": found.issues.odd_size,
        "weak_group": found.issues.weak_group,
    }
    kept, count = examined.kept, len(examined.removed)
    if len(kept) < count:
        whole = {name: _among(values, kept, count) for name, values in whole.items()}
        whole["duplicate_group"][examined.removed != None] = -1  # noqa: E711  element by element
        gone = np.setdiff1d(np.arange(count), kept)
        for name, known in (("mislabelled", examined.mislabelled), ("suspect", examined.suspect)):
            if known is not None:
                whole[name][gone] = known.numpy()[gone]
    if examined.groups is not None:
        whole["duplicate_group"] = examined.groups.numpy()
    return {
        "id": examined.ids,
        "label": classes[examined.labels.numpy()],
        **whole,
        "removed": examined.removed,
    }


def with_unreadable(columns: Mapping[str, Column], out: LeftOut) -> dict[str, Column]:
    """The columns with a further row for each image that could not be read, after those of the training examples."""
    ids = columns["id"]
    assert isinstance(ids, Ids)
    kept, count = len(ids), len(ids) + len(out)
    known: dict[str, Any] = {"label": out.classes, "removed": UNREADABLE, "duplicate_group": -1}
    whole: dict[str, Column] = {
        "id": Ids(lambda row: ids[row] if row < kept else out.ids[row - kept], np.arange(count))
    }
    for name, values in columns.items():
        if not isinstance(values, Ids):
            longer = _among(values, np.arange(kept), count)
            if name in known:
                longer[kept:] = known[name]
            whole[name] = longer
    return whole


def _among(values_K: np.ndarray, kept_K: np.ndarray, count: int) -> np.ndarray:
    """[N]: the values at their places among all, and nothing at the others'."""
    nothing: dict[str, Any] = {"f": np.nan, "i": 0, "b": False, "O": None}
    whole = np.full(count, nothing[values_K.dtype.kind], values_K.dtype)
    whole[kept_K] = values_K
    return whole


def show(
    dataset: Dataset, rows: Sequence[int], preprocessing: Kind, texts: np.ndarray | None = None
) -> list[Shown]:
    """What the cards of some examples show: a picture, the first columns of a table's row, the beginning of a text."""
    if not rows:
        return []
    return list(map(_CARDS[preprocessing.name], preprocessing.show(dataset, rows, texts)))


def _picture(pixels: np.ndarray) -> str:
    return pages.data_url(Image.fromarray(np.ascontiguousarray(pixels)), THUMBNAIL)


def _beginning(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _row(shown: tuple[list[tuple[str, str]], int]) -> Row:
    cells, more = shown
    return Row([(name, _beginning(value)) for name, value in cells], more=more)


_CARDS: dict[str, Callable[[Any], Shown]] = {
    "image": _picture,
    "table": _row,
    "table_and_text": _row,
    "text": _beginning,
}
"""By the kind of data, whose template in templates/shown is called so."""
