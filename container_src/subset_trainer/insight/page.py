"""report.html: one page that shows what a run has learned of its data; self-contained, read without a network."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from subset_trainer.data import Ids
from subset_trainer.insight import errors_section
from subset_trainer.insight.explanations import Explanations

MOST_SUSPECTS, MOST_USEFUL, MOST_GROUPS, MOST_OF_A_GROUP = 24, 12, 8, 4
"""What is shown with its picture, so that the page stays small."""
MOST_CLASSES = 20
"""Up to which the confusion matrix is shown whole; beyond, what is confused most."""
MOST_BARS = 40
SURE = 0.9
"""Validation accuracy below which what a model cannot learn is no sign of a wrong label by itself."""
BLUE, ORANGE = "#0072b2", "#b34a00"
RIGHT, WRONG = "0,114,178", "179,74,0"
"""The same, of a confusion matrix's cells: on and off its diagonal."""
WIDTH, HEIGHT, LEFT, BOTTOM = 360, 210, 46, 34
"""Of a chart, in its own units; a phone shows it at about this size."""
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; color: #1a1a1a; background: #fff;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.3rem; }
h3 { font-size: 1rem; margin: 0.5rem 0 0; }
.first { border-left: 0.3rem solid #0072b2; padding: 0.6rem 1rem; background: #eef5fa; }
.first h2 { margin-top: 0; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 34rem; }
figcaption, .note { color: #444; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #1a1a1a; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; max-width: 14rem; overflow-wrap: anywhere; }
ul.cards { list-style: none; margin: 0.5rem 0; padding: 0; display: grid; gap: 0.8rem;
           grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); }
.cards li { border: 1px solid #ddd; padding: 0.5rem; font-size: 0.875rem; min-width: 0; }
.cards img { display: block; width: 6rem; height: 6rem; object-fit: contain; background: #eee;
             image-rendering: pixelated; }
.cards blockquote { margin: 0; overflow-wrap: anywhere; }
.cards dl { margin: 0; display: grid; grid-template-columns: auto auto; gap: 0 0.5rem; }
.cards dd { margin: 0; text-align: right; }
.group { border: 1px solid #ddd; padding: 0.5rem; margin: 0.5rem 0; }
summary { cursor: pointer; }
:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
"""


@dataclass(frozen=True)
class Findings:
    """What the page shows. N training examples, M validation examples; labels are positions in `classes`."""

    title: str
    facts: Mapping[str, str]
    """Name → value, for the table of what was run."""
    history: Sequence[Mapping[str, Any]]
    """As in history.jsonl."""
    classes: Sequence[str]
    ids: Ids
    labels: np.ndarray
    """[N] int64."""
    probable: np.ndarray
    """[N] int64: what the model takes each for."""
    selected: np.ndarray
    """[N] int32: epochs that trained on it."""
    margin: np.ndarray
    """[N] float32, -1 to 1: by how much the model at the end is for the label."""
    mislabelled: np.ndarray
    """[N] float32, 0 to 1; 0.5: losses in training as others'."""
    suspect: np.ndarray
    """[N] bool: whether it is counted as mislabelled."""
    groups: np.ndarray
    """[N] int32: of (nearly) equal examples; -1: of none."""
    validation_labels: np.ndarray
    """[M] int64."""
    validation_predicted: np.ndarray
    """[M] int64."""
    show: Callable[[Sequence[int]], Sequence[str]]
    """Training examples → HTML that shows each."""
    explained: Explanations | None = None
    """Errors in validation; None: that was not asked for."""

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def suspects(self) -> np.ndarray:
        """Positions, the most suspect first."""
        rows = np.flatnonzero(self.suspect)
        return rows[np.argsort(-self.mislabelled[rows], kind="stable")]


def page(found: Findings) -> str:
    """The page's HTML. Every text of the data's is escaped."""
    body = [
        f"<h1>{escape(found.title)}</h1>",
        _first(found),
        "<h2>How it went</h2>",
        _curves(found.history),
        "<h2>How often examples were selected</h2>",
        _selected(found),
        "<h2>The classes</h2>",
        _classes(found),
        "<h2>What is taken for what</h2>",
        _confusion(found),
        *([] if found.explained is None else [errors_section.section(found.explained)]),
        "<h2>Probably mislabelled</h2>",
        _suspects(found),
        *_useful(found),
        "<h2>There more than once</h2>",
        _duplicates(found),
        "<details>\n<summary>What was run</summary>",
        _table("What was run", ["", "value"], [[name, value] for name, value in found.facts.items()]),
        "</details>",
    ]
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An icon of nothing: a browser would ask for one.
        f'<link rel="icon" href="data:,">\n<title>{escape(found.title)}</title>\n'
        f"<style>{STYLE}{errors_section.STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def _first(found: Findings) -> str:
    """What to look at first, in sentences."""
    said = []
    count, suspects = len(found.labels), found.suspects
    if len(suspects):
        worst = int(suspects[0])
        said.append(
            f"<b>{len(suspects):,} of {count:,}</b> training examples ({len(suspects) / count:.1%}) may be "
            f"mislabelled; most of all <code>{escape(found.ids[worst])}</code>, labelled "
            f"{_name(found, found.labels[worst])} and taken for {_name(found, found.probable[worst])}."
        )
    contrary = _contrary(found)
    if len(contrary):
        said.append(
            f"<b>{len(contrary):,}</b> groups of (nearly) equal examples have different labels: one of each is wrong."
        )
    grouped = found.groups[found.groups >= 0]
    if len(grouped):
        spare = len(grouped) - len(np.unique(grouped))
        said.append(
            f"<b>{spare:,}</b> training examples ({spare / count:.1%}) are (nearly) copies of others."
        )
    accuracies = _accuracies(found)
    if accuracies:
        label, (right, total) = min(accuracies.items(), key=lambda item: item[1][0] / item[1][1])
        said.append(
            f"The class {_name(found, label)} is recognised worst: {right / total:.1%} of its {total:,} "
            "validation examples."
        )
    pairs = _confused(found)
    if pairs:
        given, taken, number = pairs[0]
        said.append(
            f"{_name(found, given)} is taken for {_name(found, taken)} most often: {number:,} validation examples."
        )
    sizes = np.bincount(found.labels, minlength=len(found.classes))
    present = sizes[sizes > 0]
    if present.max() >= 3 * present.min():
        small, large = int(np.where(sizes > 0, sizes, sizes.max() + 1).argmin()), int(sizes.argmax())
        said.append(
            f"The classes are uneven: {_name(found, large)} has {sizes[large]:,} examples, {_name(found, small)} "
            f"{sizes[small]:,}."
        )
    never = int((found.selected == 0).sum())
    if never:
        said.append(f"<b>{never:,}</b> examples ({never / count:.1%}) were never trained on.")
    items = "".join(f"<li>{sentence}</li>" for sentence in said) or "<li>Nothing stands out.</li>"
    return f'<section class="first">\n<h2>What to look at first</h2>\n<ol>{items}</ol>\n</section>'


def _name(found: Findings, label: int) -> str:
    return f"<b>{escape(found.classes[int(label)])}</b>"


# Charts


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    epochs = [row["epoch"] for row in history]
    figures = []
    for what, form in (("accuracy", ".0%"), ("loss", ".3g")):
        series = {
            name: [float(row[f"{part}:{what}"]) for row in history]
            for name, part in (("Training", "train"), ("Validation", "validation"))
        }
        figures.append(_lines(what.capitalize(), epochs, series, form))
    rows = [
        [
            str(row["epoch"]),
            *(
                f"{row[f'{part}:{what}']:.4g}"
                for what in ("accuracy", "loss")
                for part in ("train", "validation")
            ),
        ]
        for row in history
    ]
    head = ["epoch", "training accuracy", "validation accuracy", "training loss", "validation loss"]
    return (
        f'<div class="charts">\n{"".join(figures)}\n</div>\n'
        '<p class="note">Training: over the batches as they were trained on, augmented and with label smoothing.</p>\n'
        f"<details>\n<summary>The numbers</summary>\n{_table('Epoch by epoch', head, rows)}\n</details>"
    )


def _lines(title: str, xs: Sequence[int], series: Mapping[str, Sequence[float]], form: str) -> str:
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    low, high = min([0.0, *values]), max([*values, 1e-9])
    if form.endswith("%"):
        high = 1.0
    across = max(1, xs[-1] - xs[0]) if xs else 1

    def place(x: int, y: float) -> str:
        left = LEFT + (x - xs[0]) / across * (WIDTH - LEFT - 10)
        return f"{left:.1f},{HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - 26):.1f}"

    parts = _axes(low, high, form)
    for number, (name, line) in enumerate(series.items()):
        colour = (BLUE, ORANGE)[number]
        points = [place(x, y) for x, y in zip(xs, line, strict=True) if math.isfinite(y)]
        dash = ' stroke-dasharray="6 3"' if number else ""
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{" ".join(points)}"/>'
        )
        # One point makes no line.
        parts += [
            f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="2.5" fill="{colour}"/>'
            for point in points[-1:]
        ]
        at = LEFT + 110 * number
        parts.append(
            f'<line x1="{at}" x2="{at + 24}" y1="10" y2="10" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(f'<text x="{at + 30}" y="14">{escape(name)}</text>')
    if xs:
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - BOTTOM + 16}">{xs[0]}</text>')
        parts.append(f'<text x="{WIDTH - 10}" y="{HEIGHT - BOTTOM + 16}" text-anchor="end">{xs[-1]}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    last = ", ".join(f"{name.lower()} {line[-1]:{form}}" for name, line in series.items() if line)
    return _figure(title, f"{title} per epoch; at the end: {last}", parts)


def _axes(low: float, high: float, form: str) -> list[str]:
    bottom, top = HEIGHT - BOTTOM, 26
    parts = [f'<line x1="{LEFT}" x2="{WIDTH}" y1="{bottom}" y2="{bottom}" stroke="#666"/>']
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        if share:
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        value = low + share * (high - low)
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{value:{form}}</text>')
    return parts


def _figure(title: str, description: str, parts: Iterable[str]) -> str:
    return (
        f"<figure>\n<h3>{escape(title)}</h3>\n"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>\n'
        "</figure>"
    )


def _selected(found: Findings) -> str:
    most = int(found.selected.max(initial=0))
    width = max(1, math.ceil((most + 1) / MOST_BARS))
    counts = np.bincount(found.selected // width)
    names = [
        str(start) if width == 1 else f"{start}–{min(start + width - 1, most)}"
        for start in range(0, most + 1, width)
    ]
    parts = _axes(0, int(counts.max()), ",.0f")
    each = (WIDTH - LEFT - 10) / len(counts)
    for number, count in enumerate(counts.tolist()):
        height = count / counts.max() * (HEIGHT - BOTTOM - 26)
        parts.append(
            f'<rect x="{LEFT + number * each + 1:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" '
            f'width="{max(1, each - 2):.1f}" height="{height:.1f}" fill="{BLUE}"/>'
        )
    for number in sorted({0, len(counts) // 2, len(counts) - 1}):
        x = LEFT + (number + 0.5) * each
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{names[number]}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epochs that trained on it</text>'
    )
    mean = found.selected.mean()
    rows = [[name, f"{count:,}"] for name, count in zip(names, counts.tolist(), strict=True)]
    return (
        f'<div class="charts">\n{_figure("Training examples by how often", "A bar chart; the numbers follow", parts)}\n'
        f"</div>\n<p class='note'>Of {found.epochs:,} epochs, {mean:.3g} trained on an example on average.</p>\n"
        f"<details>\n<summary>The numbers</summary>\n"
        f"{_table('How often', ['epochs that trained on it', 'examples'], rows)}\n</details>"
    )


# Classes


def _accuracies(found: Findings) -> dict[int, tuple[int, int]]:
    """Class → right and all, of the validation examples; those that it has."""
    right = found.validation_labels == found.validation_predicted
    return {
        int(label): (
            int(right[found.validation_labels == label].sum()),
            int((found.validation_labels == label).sum()),
        )
        for label in np.unique(found.validation_labels)
    }


def _confused(found: Findings) -> list[tuple[int, int, int]]:
    """Label, what it is taken for, and how often; the most often first."""
    wrong = found.validation_labels != found.validation_predicted
    pairs, counts = np.unique(
        np.stack([found.validation_labels[wrong], found.validation_predicted[wrong]]),
        axis=1,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")
    return [(int(pairs[0, at]), int(pairs[1, at]), int(counts[at])) for at in order]


def _classes(found: Findings) -> str:
    accuracies = _accuracies(found)
    sizes = np.bincount(found.labels, minlength=len(found.classes))
    ever = np.bincount(found.labels[found.selected > 0], minlength=len(found.classes))
    visits = np.bincount(found.labels, found.selected, minlength=len(found.classes))
    suspects = np.bincount(found.labels[found.suspect], minlength=len(found.classes))
    rows = []
    for label, name in enumerate(found.classes):
        right, total = accuracies.get(label, (0, 0))
        size = max(1, int(sizes[label]))
        rows.append(
            [
                name,
                f"{sizes[label]:,}",
                f"{ever[label] / size:.1%}",
                f"{visits[label] / size / max(1, found.epochs):.1%}",
                f"{right / total:.1%}" if total else "–",
                f"{total:,}",
                f"{suspects[label]:,}",
            ]
        )
    head = [
        "class",
        "examples",
        "ever selected",
        "selected an epoch",
        "validation accuracy",
        "of",
        "suspect labels",
    ]
    return _table("The classes", head, rows)


def _confusion(found: Findings) -> str:
    if len(found.classes) > MOST_CLASSES:
        rows = [
            [found.classes[given], found.classes[taken], f"{count:,}"]
            for given, taken, count in _confused(found)[:30]
        ]
        note = f'<p class="note">Of {len(found.classes):,} classes: what is confused most, in validation.</p>'
        return note + _table("What is confused most", ["labelled", "taken for", "examples"], rows)
    size = len(found.classes)
    matrix = np.bincount(found.validation_labels * size + found.validation_predicted, minlength=size * size)
    matrix = matrix.reshape(size, size)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found.classes)
    lines = []
    for label, name in enumerate(found.classes):
        cells = "".join(
            f'<td style="background:rgba({RIGHT if label == taken else WRONG},{0.5 * share:.2f})">{count:,}</td>'
            for taken, (count, share) in enumerate(
                zip(matrix[label].tolist(), shares[label].tolist(), strict=True)
            )
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        '<p class="note">Validation examples: a row a label, a column what the model takes them for.</p>\n'
        + _scrolling(
            "Confusion matrix", f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>{''.join(lines)}</tbody>"
        )
    )


def _table(label: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # An empty header has nothing to say to whoever hears it.
    header = "".join(f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return _scrolling(label, f"<thead><tr>{header}</tr></thead>\n<tbody>{lines}</tbody>")


def _scrolling(label: str, table: str) -> str:
    """Too wide a table scrolls by itself, also by the keyboard."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">\n'
        f"<table>\n{table}\n</table>\n</div>"
    )


# Examples


def _suspects(found: Findings) -> str:
    suspects = found.suspects
    if not len(suspects):
        return "<p>None stands out.</p>"
    shown = suspects[:MOST_SUSPECTS]
    more = f", the first {len(shown)} of {len(suspects):,}" if len(suspects) > len(shown) else ""
    captions = [f"{_name(found, found.labels[row])} or {_name(found, found.probable[row])}?" for row in shown]
    right = float((found.validation_labels == found.validation_predicted).mean())
    doubt = (
        f" The model is right in {right:.0%} of the validation examples only: many of these are hard, not wrong."
        if right < SURE
        else ""
    )
    return (
        f'<p class="note">The most suspect first{more}; all in <code>examples.parquet</code>.{doubt}</p>\n'
        + _cards(found, shown, captions)
    )


def _useful(found: Findings) -> list[str]:
    """The trusted examples that were selected most and least; of equals, those that the model knows least and best."""
    trusted = np.flatnonzero(~found.suspect)
    order = trusted[np.lexsort((found.margin[trusted], -found.selected[trusted]))]
    most, least = order[:MOST_USEFUL], order[::-1][: min(MOST_USEFUL, len(order) // 2)]
    sections = []
    for title, note, rows in (
        (
            "Most useful",
            "Selected most often, and among equals those that the model knows least.",
            most,
        ),
        (
            "Least useful",
            "Selected least often, and among equals those that the model knows best.",
            least,
        ),
    ):
        captions = [
            f"{_name(found, found.labels[row])}, {found.selected[row]} of {found.epochs} epochs, "
            f"margin {found.margin[row]:.2f}"
            for row in rows
        ]
        sections.append(f'<h2>{title}</h2>\n<p class="note">{note} Suspect labels are left out.</p>')
        sections.append(_cards(found, rows, captions))
    return sections


def _contrary(found: Findings) -> np.ndarray:
    """Groups whose examples have different labels."""
    rows = np.flatnonzero(found.groups >= 0)
    pairs = np.unique(np.stack([found.groups[rows], found.labels[rows]]), axis=1)
    groups, labels = np.unique(pairs[0], return_counts=True)
    return groups[labels > 1]


def _duplicates(found: Findings) -> str:
    rows = np.flatnonzero(found.groups >= 0)
    if not len(rows):
        return "<p>No example resembles another so much.</p>"
    sizes = np.bincount(found.groups[rows])
    contrary = np.isin(np.arange(len(sizes)), _contrary(found))
    order = np.lexsort((-sizes, ~contrary))[:MOST_GROUPS]
    more = f", the first {len(order)} of {len(sizes):,}" if len(sizes) > len(order) else ""
    parts = [f'<p class="note">Groups with different labels first, then the largest{more}.</p>']
    for group in order:
        members = rows[found.groups[rows] == group]
        captions = [_name(found, found.labels[row]) for row in members[:MOST_OF_A_GROUP]]
        differ = ", with different labels" if contrary[group] else ""
        parts.append(f'<div class="group"><h3>Group {group}: {sizes[group]:,} examples{differ}</h3>')
        parts.append(_cards(found, members[:MOST_OF_A_GROUP], captions) + "</div>")
    return "\n".join(parts)


def _cards(found: Findings, rows: np.ndarray, captions: Sequence[str]) -> str:
    """captions: HTML."""
    items = "".join(
        f"<li>{picture}<div>{caption}</div><code>{escape(found.ids[int(row)])}</code></li>"
        for row, picture, caption in zip(rows, found.show(rows.tolist()), captions, strict=True)
    )
    return f'<ul class="cards">{items}</ul>'
