"""What was learned of the data, as the kind of data that a test knows it to be."""

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
