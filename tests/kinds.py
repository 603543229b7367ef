"""Casts of what was fitted on the data to the kind of data that a test expects."""

from subset_trainer.data import ImageKind, Kind, TableKind, TextKind


def image_kind(learned: Kind) -> ImageKind:
    assert isinstance(learned, ImageKind)
    return learned


def table_kind(learned: Kind) -> TableKind:
    assert isinstance(learned, TableKind)
    return learned


def text_kind(learned: Kind) -> TextKind:
    assert isinstance(learned, TextKind)
    return learned
