"""report.html: one page about what a run has learned of its data. Its HTML is in templates/report.html."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subset_trainer import pages
from subset_trainer.data import Ids
from subset_trainer.insight import charts, errors_section, learning_curve_section
from subset_trainer.insight.explanations import Explanations
from subset_trainer.insight.issues import Issue, Issues

MOST_SUSPECTS, MOST_USEFUL, MOST_GROUPS, MOST_OF_A_GROUP, MOST_OF_AN_ISSUE = 24, 12, 8, 4, 3
"""Examples that are shown with their pictures. More would make the page large."""
MOST_CLASSES, MOST_PAIRS = 20, 30
"""Up to MOST_CLASSES the confusion matrix is shown whole, and beyond them the pairs that are confused most."""
LONGEST_HEADING = 8
"""Characters. Where a class has a longer name, the confusion matrix's columns have numbers."""
UNEVEN = 3
"""The page mentions classes of unequal size from this ratio of the largest to the smallest on."""


@dataclass(frozen=True)
class Row:
    """A table's row as a card shows it."""

    cells: Sequence[tuple[str, str]]
    """Column and value; an empty value: there was none."""
    more: int
    """Further columns."""


Shown = str | Row
"""An image as a data URL, the beginning of a text, or a row: what templates/shown/<kind>.html takes."""


@dataclass(frozen=True)
class About:
    """What the page says of the run itself."""

    title: str
    """Names the run, its strategy and its data."""
    lead: str
    """What came of it, in a sentence."""
    facts: Mapping[str, str]
    """Name → value, of what was run."""
    answer: Mapping[str, Any] | None = None
    """Of a search for the fraction, as in summary.json."""


@dataclass(frozen=True)
class Findings:
    """What the page shows. N training examples, M validation examples; labels are positions in `classes`."""

    about: About
    kind: str
    """Of the data: image, table or text."""
    history: Sequence[Mapping[str, Any]]
    """As in history.jsonl."""
    classes: Sequence[str]
    ids: Ids
    labels: np.ndarray
    """[N] int64."""
    probable: np.ndarray
    """[N] int64: the model's prediction; for a suspect, the class that it favours among the others."""
    selected: np.ndarray
    """[N] int32: epochs that trained on the example."""
    margin: np.ndarray
    """[N] float32, -1 to 1: how much the final model favours the label."""
    mislabelled: np.ndarray
    """[N] float32, 0 to 1; 0.5: losses in training like the others'."""
    suspect: np.ndarray
    """[N] bool: counted as mislabelled."""
    suspects_known: bool
    """Whether the number of mislabelled examples could be estimated."""
    groups: np.ndarray
    """[N] int32: the group of duplicates and near-duplicates; -1: none."""
    validation_labels: np.ndarray
    """[M] int64."""
    validation_predicted: np.ndarray
    """[M] int64."""
    issues: Issues
    show: Callable[[Sequence[int]], Sequence[Shown]]
    """Training examples → what their cards show."""
    explained: Explanations | None = None
    """Errors in validation; None: explanations were not requested."""
    understood: Sequence[str] = ()
    """Lines on what the data was taken to be."""

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def suspects(self) -> np.ndarray:
        """Positions, the most suspect first. If their number is not known, these are the examples that the final model
        takes for another class."""
        rows = np.flatnonzero(self.suspect if self.suspects_known else self.probable != self.labels)
        return rows[np.argsort(-self.mislabelled[rows], kind="stable")]


@dataclass(frozen=True)
class Card:
    """One training example."""

    row: int
    id: str
    label: str
    probable: str
    selected: int
    margin: float


@dataclass(frozen=True)
class Group:
    """Duplicates and near-duplicates."""

    number: int
    size: int
    contrary: bool
    """Whether their labels differ."""
    cards: Sequence[Card]


@dataclass(frozen=True)
class Cards:
    """The training examples that the page shows."""

    suspects: Sequence[Card]
    most_useful: Sequence[Card]
    least_useful: Sequence[Card]
    groups: Sequence[Group]
    issues: Sequence[tuple[Issue, Sequence[Card]]]

    @property
    def rows(self) -> list[int]:
        """Positions of the examples, each once."""
        several = (
            self.suspects,
            self.most_useful,
            self.least_useful,
            *(group.cards for group in self.groups),
            *(cards for _, cards in self.issues),
        )
        return sorted({card.row for cards in several for card in cards})


@dataclass(frozen=True)
class OfClass:
    """One class. Shares are None where there is nothing to take a share of."""

    name: str
    examples: int
    ever_selected: float | None
    """Share of its examples."""
    selected: float | None
    """The same in an epoch, on average."""
    accuracy: float | None
    validation: int
    """Validation examples."""
    suspects: int


@dataclass(frozen=True)
class Pair:
    """Validation examples of one class that are taken for another."""

    label: str
    predicted: str
    examples: int


def page(found: Findings) -> str:
    """The page's HTML."""
    cards = cards_of(found)
    classes = _classes(found)
    present = [one for one in classes if one.examples]
    worst = sorted(
        (one for one in classes if one.validation), key=lambda one: (one.accuracy, -one.validation)
    )
    grouped = found.groups[found.groups >= 0]
    selected = charts.bins(found.selected)
    return pages.render(
        "report.html",
        **{name: getattr(found, name) for name in ("about", "kind", "history", "epochs", "understood")},
        title=found.about.title,
        searched=found.about.answer and learning_curve_section.shown(found.about.answer),
        cards=cards,
        shown=dict(zip(cards.rows, found.show(cards.rows), strict=True)),
        classes=classes,
        largest=max(present, key=lambda one: one.examples),
        smallest=min(present, key=lambda one: one.examples),
        worst=worst[:MOST_CLASSES],
        as_bad=sum(one.accuracy == worst[0].accuracy for one in worst[1:]),
        confused=_confused(found),
        numbered=max(map(len, found.classes)) > LONGEST_HEADING,
        matrix=_matrix(found) if len(classes) <= MOST_CLASSES else None,
        curves=_curves(found.history),
        selected=selected,
        selected_chart=charts.bars("Training examples by how often", "epochs that trained on it", selected),
        selected_mean=float(found.selected.mean()),
        examples=len(found.labels),
        suspects=int(found.suspect.sum()),
        suspects_known=found.suspects_known,
        spare=len(grouped) - len(np.unique(grouped)),
        groups=len(np.unique(grouped)),
        contrary=len(_contrary(found)),
        never=int((found.selected == 0).sum()),
        accuracy=float((found.validation_labels == found.validation_predicted).mean()),
        explained=found.explained and errors_section.shown(found.explained),
        uneven=UNEVEN,
        most_pairs=MOST_PAIRS,
    )


# Charts


def _curves(history: Sequence[Mapping[str, Any]]) -> list[charts.Chart]:
    epochs = [row["epoch"] for row in history]
    return [
        charts.curves(
            what.capitalize(),
            epochs,
            {
                name: [float(row[f"{part}:{what}"]) for row in history]
                for name, part in (("Training", "train"), ("Validation", "validation"))
            },
            percent=what == "accuracy",
        )
        for what in ("accuracy", "loss")
    ]


# Classes


def _classes(found: Findings) -> list[OfClass]:
    def counted(labels: np.ndarray, weights: np.ndarray | None = None) -> list[Any]:
        counts: list[Any] = np.bincount(labels, weights, minlength=len(found.classes)).tolist()
        return counts

    right = found.validation_labels == found.validation_predicted
    columns = (
        counted(found.labels),
        counted(found.labels[found.selected > 0]),
        counted(found.labels, found.selected),
        counted(found.validation_labels),
        counted(found.validation_labels[right]),
        counted(found.labels[found.suspect]),
    )
    return [
        OfClass(
            name,
            size,
            ever_selected=ever / size if size else None,
            selected=visits / size / max(1, found.epochs) if size else None,
            accuracy=correct / validated if validated else None,
            validation=validated,
            suspects=suspects,
        )
        for name, size, ever, visits, validated, correct, suspects in zip(
            found.classes, *columns, strict=True
        )
    ]


def _confused(found: Findings) -> list[Pair]:
    """The most frequent first."""
    wrong = found.validation_labels != found.validation_predicted
    pairs, counts = np.unique(
        np.stack([found.validation_labels[wrong], found.validation_predicted[wrong]]),
        axis=1,
        return_counts=True,
    )
    return [
        Pair(found.classes[pairs[0, at]], found.classes[pairs[1, at]], int(counts[at]))
        for at in np.argsort(-counts, kind="stable")
    ]


def _matrix(found: Findings) -> list[list[tuple[int, float]]]:
    """[C, C], label by prediction: how many, and their share of the label's validation examples."""
    size = len(found.classes)
    flat = np.bincount(found.validation_labels * size + found.validation_predicted, minlength=size * size)
    matrix = flat.reshape(size, size)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    return [list(zip(*rows, strict=True)) for rows in zip(matrix.tolist(), shares.tolist(), strict=True)]


# Examples


def cards_of(found: Findings) -> Cards:
    """Choose the examples that are worth a look."""
    # The trusted ones by how often they were selected; among equals, those with the smallest margin first.
    trusted = np.flatnonzero(~found.suspect)
    order = trusted[np.lexsort((found.margin[trusted], -found.selected[trusted]))]
    return Cards(
        suspects=_cards(found, found.suspects[:MOST_SUSPECTS]),
        most_useful=_cards(found, order[:MOST_USEFUL]),
        least_useful=_cards(found, order[::-1][: min(MOST_USEFUL, len(order) // 2)]),
        groups=_groups(found),
        issues=[(issue, _cards(found, issue.rows[:MOST_OF_AN_ISSUE])) for issue in found.issues.found],
    )


def _cards(found: Findings, rows: np.ndarray) -> list[Card]:
    return [
        Card(
            row,
            found.ids[row],
            found.classes[found.labels[row]],
            found.classes[found.probable[row]],
            int(found.selected[row]),
            float(found.margin[row]),
        )
        for row in rows.tolist()
    ]


def _groups(found: Findings) -> list[Group]:
    """Those with different labels first, then the largest."""
    rows = np.flatnonzero(found.groups >= 0)
    sizes = np.bincount(found.groups[rows])
    contrary = np.isin(np.arange(len(sizes)), _contrary(found))
    return [
        Group(
            number,
            int(sizes[number]),
            bool(contrary[number]),
            _cards(found, rows[found.groups[rows] == number][:MOST_OF_A_GROUP]),
        )
        for number in np.lexsort((-sizes, ~contrary))[:MOST_GROUPS].tolist()
    ]


def _contrary(found: Findings) -> np.ndarray:
    """Groups whose examples have different labels."""
    rows = np.flatnonzero(found.groups >= 0)
    pairs = np.unique(np.stack([found.groups[rows], found.labels[rows]]), axis=1)
    groups, labels = np.unique(pairs[0], return_counts=True)
    return groups[labels > 1]
