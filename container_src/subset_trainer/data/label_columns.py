"""The names by which a column, or a key, is recognised as the label: one list for all formats.

The page on data formats lists them, and a test compares the two.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from subset_trainer.data.understanding import Decision, refuse_open

NAMES = (
    *("label", "labels", "class", "classes", "target", "targets", "groundtruth", "gt", "ytrue", "classlabel"),
    *("labelname", "classname", "targetname", "labelid", "classid", "classidx", "targetclass", "goldlabel"),
    *("finelabel", "cls"),
)
"""Names of a label, as `plain_name` writes them, the first ones first where one has to be chosen."""
OF_IMAGES = ("category", "categoryid", "species", "breed", "diagnosis", "y")
"""Further names beside images, whose other columns are no inputs."""
OF_TABLES = (
    *(
        "y",
        "category",
        "outcome",
        "response",
        "sentiment",
        "species",
        "diagnosis",
        "verdict",
        "survived",
        "churn",
    ),
    *("churned", "isfraud", "fraud", "isspam", "spam", "default", "result", "output", "dependent", "variety"),
)
"""Further names in tables where no column has one of `NAMES` and the column can be a label."""


def plain_name(name: str) -> str:
    """A name as it stands in the lists: without case, spaces, underscores, hyphens and points."""
    return re.sub(r"[\s_\-.]", "", name.casefold())


def beside_images(names: Iterable[str]) -> list[str]:
    """Those of the names of columns or keys beside images that are a label's, the likeliest first."""
    rank = {name: at for at, name in enumerate((*NAMES, *OF_IMAGES))}
    return sorted(
        (name for name in names if plain_name(name) in rank), key=lambda name: rank[plain_name(name)]
    )


def refuse_rivals(channel: str, file: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse columns with a label's name that tell the images apart in different ways, the chosen one first.

    Numbers and names of the same classes agree.

    Raises:
        UserError: two columns disagree; the message names both and the setting that chooses.
    """
    (chosen, values), *others = columns.items()
    for name, rival in others:
        pairs = set(zip(values, rival, strict=True))
        if len(pairs) > len(set(values)) or len(pairs) > len(set(rival)):
            reason = (
                f"the columns {chosen!r} and {name!r} are both named like a label, and give other classes"
            )
            setting = f"label_column={chosen} or label_column={name}"
            refuse_open(channel, [Decision("label", "", reason, "open", name=file, setting=setting)])
