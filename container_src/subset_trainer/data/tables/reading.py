"""Makes a Table of the cells of files: as they are interpreted in training, or as training's were."""

import re

import numpy as np

from subset_trainer.data.classes import coded, looks_continuous, spelt_classes
from subset_trainer.data.ids import Ids
from subset_trainer.data.tables.cells import Cells, Coded
from subset_trainer.data.tables.interpret import Read, Rules, as_trained, interpret, matches, of_label
from subset_trainer.data.tables.label import choose_label
from subset_trainer.data.tables.numbers import plain
from subset_trainer.data.tables.table import MISSING, TEXTUAL, Table, TrainedTable, column_title
from subset_trainer.data.understanding import Decision, OpenDecisionsError, refuse_open
from subset_trainer.errors import UserError, shown


def table_of(cells: Cells, ids: Ids, label_column: str | None, rules: Rules) -> Table:
    """Interpret the cells of a training channel.

    Raises:
        UserError: the label or a column allows two readings or is not usable; all such columns are named at once.
    """
    _check_named(cells, rules)
    ignored = [p for p in range(len(cells.names)) if matches(rules.ignored, cells.names[p])]
    cells.prefetch(p for p in range(len(cells.names)) if p not in ignored)
    nameless = [p for p in range(len(cells.names)) if _is_index(cells, p)]
    usable = [p for p in range(len(cells.names)) if p not in ignored and p not in nameless]
    if not usable:
        raise cells.channel.error("every column is left out; expected a label and at least one feature.")
    label, chosen = choose_label(cells, label_column, usable)
    features = [p for p in range(len(cells.names)) if p != label]
    if not features:
        raise cells.channel.error(
            f"file '{cells.files[0]}' has one column; expected a label and at least one feature."
        )
    labels, classes = label_classes(cells, label, None)
    found = interpret(cells, features, rules)
    for position, read in found.items():
        found[position] = of_label(read, cells.names[position], cells.names[label], labels, rules)
    _check_any(cells, found)
    refuse_open(cells.channel.name, [read.decision(cells.names[p]) for p, read in found.items()])
    kept = [p for p in features if found[p].kind != "identifier"]
    decisions = (
        chosen,
        *(found[p].decision(_title(cells, p)) for p in features),
    )
    return Table(
        names=tuple(cells.names[p] for p in kept),
        columns=tuple(_values(found[p]) for p in kept),
        labels=labels,
        classes=classes,
        ids=ids,
        header=cells.header,
        label_column=cells.names[label],
        label_index=label,
        text_columns=tuple(cells.names[p] for p in kept if found[p].is_text),
        decisions=decisions,
        spellings={cells.names[p]: spelling for p in kept if (spelling := found[p].spelling)},
        left_out=tuple(p for p in features if found[p].kind == "identifier"),
    )


def as_training(cells: Cells, ids: Ids, like: TrainedTable) -> Table:
    """Read the cells of another channel as training's were read, by name or, without names, by position."""
    label, features = matched(cells, like)
    cells.prefetch([label, *features])
    labels, classes = label_classes(cells, label, like)
    columns = tuple(as_trained(cells, p, column) for p, column in zip(features, like.columns, strict=True))
    return Table(
        names=tuple(column.name for column in like.columns),
        columns=columns,
        labels=labels,
        classes=classes,
        ids=ids,
        header=cells.header,
        label_column=cells.names[label],
        label_index=label,
        spellings={column.name: column.spelling for column in like.columns if column.spelling},
        text_columns=tuple(column.name for column in like.columns if column.kind in TEXTUAL),
    )


def matched(cells: Cells, like: TrainedTable) -> tuple[int, list[int]]:
    """The positions of training's label and features."""
    label, names = like.label_column or "0", [column.name for column in like.columns]
    if cells.header and like.header:
        position = {name: at for at, name in enumerate(cells.names)}
        for name in (label, *names):
            if name not in position:
                raise cells.channel.error(
                    f"file '{cells.files[0]}' lacks the column {name!r}, which training has."
                )
        return position[label], [position[name] for name in names]
    positions = [p for p in range(len(cells.names)) if not _is_index(cells, p)]
    width = len(names) + 1 + len(like.left_out)
    if len(positions) == width and len(positions) == len(cells.names):
        positions = [p for p in positions if p not in like.left_out]
        label_at = like.label_index
    elif len(positions) == len(names) + 1:
        label_at = positions[like.label_index - sum(p < like.label_index for p in like.left_out)]
    else:
        raise cells.channel.error(
            f"file '{cells.files[0]}' has {len(positions)} columns; expected {width}, as in training."
        )
    return label_at, [p for p in positions if p != label_at]


def label_classes(
    cells: Cells, position: int, like: TrainedTable | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N] int64: positions in the classes; and the classes.

    Raises:
        UserError: a label is missing, is a text among numbers, or the labels of training are measurements.
    """
    values = cells.coded(position)
    present = [text for at, text in enumerate(values.distinct) if values.counts[at]]
    numeric = [text for text in present if plain(text) is not None]
    rows = {text: int(values.counts[values.distinct.index(text)]) for text in present}
    numbers = sum(rows[text] for text in numeric)
    others = [text for text in present if text not in set(numeric)]
    odd = sum(rows[text] for text in others)
    as_numbers = (
        all(plain(name) is not None for name in like.classes)
        if like is not None
        else numbers > odd
        and (odd <= max(1, len(values.codes) // 100) or all(t.lower() in MISSING for t in others))
    )
    if "" in present or (as_numbers and others):
        bad = min(
            values.first_row(text) for text in present if text == "" or (as_numbers and text in set(others))
        )
        expected = "expected a number, as in other rows" if as_numbers else "expected a class"
        lacking = sum(
            rows[text] for text in present if text == "" or (as_numbers and text.lower() in MISSING)
        )
        if values.distinct[values.codes[bad]].lower() in MISSING:
            count = f"{lacking:,} of {len(values.codes):,}"
            expected = f"{expected}, so leave out the rows without a label ({count})"
        cells.fail(position, bad, expected, "label")
    names = spelt_classes(present) if as_numbers or like is None else None
    if as_numbers and names is None:
        bad = values.first_row(next(text for text in present if abs(plain(text) or 0) == float("inf")))
        cells.fail(position, bad, "expected a finite number", "label")
    if names is not None and like is None:
        numbers_of_rows = np.array([float(text) if text else np.nan for text in values.distinct])[
            values.codes
        ]
        if looks_continuous(numbers_of_rows):
            raise cells.channel.error(
                f"the label, {column_title(cells.names[position], cells.header)}, has {len(present):,} different "
                f"values such as {present[len(present) // 2]}; expected classes, because regression is not supported "
                "(label_column names another column as the label)."
            )
    if names is not None:
        trained = set(like.classes) if like is not None else set()
        # Training's own spelling counts: its classes may be codes such as 01.
        names = {text: text if text in trained else name for text, name in names.items()}
    labels, classes = coded(
        [names[text] if names is not None else text for text in values.distinct if rows.get(text)]
    )
    lookup = np.full(len(values.distinct), -1)
    lookup[[at for at, text in enumerate(values.distinct) if rows.get(text)]] = labels
    return lookup[values.codes], classes


def _values(read: Read) -> np.ndarray:
    assert read.values is not None
    return read.values


def _title(cells: Cells, position: int) -> str:
    return cells.names[position] if cells.header else f"{position} (counted from 0)"


def _is_index(cells: Cells, position: int) -> bool:
    """Whether a column is pandas's index, by its name and its place or by the file's own metadata."""
    name = cells.names[position]
    if name in cells.indexes:
        return True
    if not cells.header or not re.fullmatch(r"|Unnamed: ?\d+|index|level_\d+", name):
        return False
    values = cells.column(position)
    if isinstance(values, Coded):
        return name == "" and position == 0
    return (
        not np.isnan(values).any() and bool((values == np.floor(values)).all()) and len(set(values[:50])) > 1
    ) or (position == 0 and name == "")


def _check_named(cells: Cells, rules: Rules) -> None:
    """Whether the columns that the user names exist."""
    for setting, patterns in (
        ("ignore_columns", rules.ignored),
        ("keep_columns", rules.kept),
        ("text_column", rules.texts),
        ("number_columns", rules.numbers),
    ):
        for pattern in patterns:
            if not any(matches((pattern,), name) for name in cells.names):
                known = ", ".join(repr(name) for name in cells.names[:8]) + (
                    ", …" if len(cells.names) > 8 else ""
                )
                raise UserError(
                    f"{setting}={shown(pattern)}: the {cells.channel.name} channel has no such column; expected some "
                    f"of {known}."
                )


def _check_any(cells: Cells, found: dict[int, Read]) -> None:
    """Whether any feature is left."""
    if all(read.kind == "identifier" and read.certainty != "open" for read in found.values()):
        left = "; ".join(read.decision(_title(cells, p)).sentence() for p, read in list(found.items())[:5])
        settings = [read.setting for read in found.values() if read.setting]
        why, hint = f"no feature is left beside the label: {left}", f"; set {settings[0]}" if settings else ""
        settled = tuple(Decision("left out", "", why, "open", setting=setting) for setting in settings[:1])
        raise OpenDecisionsError(str(cells.channel.error(f"{why}{hint}.")), cells.channel.name, settled)
