"""The part of report.html that explains errors in validation. Its HTML is in templates/errors.html."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from subset_trainer import pages
from subset_trainer.data.kinds.registry import BY_NAME
from subset_trainer.data.parts import Regions, Several, Words, Written
from subset_trainer.insight.explanations import METHOD, Explained, Explanations

FOR, AGAINST = (179, 74, 0), (0, 114, 178)
"""The page's orange and blue, of wrong and right, which look different to everybody."""
SIDE = 192
"""Pixels of an image's longer side, about."""
MOST_COLUMNS, MOST_WORDS, MOST_REGIONS = 10, 6, 4
"""Parts of an example that are named."""
MOST_CHARACTERS = 1_500
LEAST_SHARE = 0.1
"""Words that contribute less than this share of the largest contribution are not marked."""


@dataclass(frozen=True)
class Part:
    """One part of an example."""

    name: str
    contribution: float
    """To the log-odds of the predicted class."""
    share: float
    """-1 to 1, of the largest contribution."""
    value: str = ""


@dataclass(frozen=True)
class Painted:
    """An image, and its regions coloured by their contributions, as data URLs."""

    image: str
    regions: str


@dataclass(frozen=True)
class Marked:
    """A text in pieces."""

    pieces: Sequence[tuple[str, float]]
    """Text and its share of the largest contribution; 0: no word, or one that contributes hardly anything."""
    cut: bool
    """Whether the text continues."""


@dataclass(frozen=True)
class Error:
    """One explained error."""

    label: str
    predicted: str
    id: str
    probabilities: Sequence[tuple[str, float]]
    """The largest first."""
    strongest: Sequence[Part]
    rest: Sequence[Part]
    """The other parts, from the strongest."""
    shown: Painted | Marked | Sequence[tuple[str, Marked]] | None
    """Of a table with texts, each text with the name of its column. None: a table's row, which is its parts."""


@dataclass(frozen=True)
class Errors:
    """Some errors in validation: what templates/errors.html takes."""

    kind: str
    """Of the data: each error is shown by templates/explained/<kind>.html."""
    validated: int
    errors: int
    method: str
    absent: str
    examples: Sequence[Error]


def shown(found: Explanations) -> Errors:
    """The errors as the page shows them."""
    return Errors(
        found.kind,
        found.validated,
        found.errors,
        METHOD,
        BY_NAME[found.kind].stand_in,
        [_error(one) for one in found.examples],
    )


def _error(one: Explained) -> Error:
    shares = one.contributions / max(float(np.abs(one.contributions).max(initial=0)), 1e-12)
    picture: Painted | Marked | Sequence[tuple[str, Marked]] | None
    if isinstance(one.parts, Regions):
        most, picture = MOST_REGIONS, _painted(one.parts, shares)
    elif isinstance(one.parts, Words | Written):
        most, picture = MOST_WORDS, _marked(one.parts, shares.tolist())
    elif isinstance(one.parts, Several):
        most, picture = MOST_COLUMNS, _marked_each(one.parts, shares.tolist())
    else:
        most, picture = MOST_COLUMNS, None
    names = one.names
    values = one.values or [""] * len(names)
    parts = [
        Part(names[at], float(one.contributions[at]), float(shares[at]), values[at])
        for at in np.argsort(-np.abs(one.contributions), kind="stable").tolist()
    ]
    return Error(
        one.label,
        one.predicted,
        one.id,
        sorted(one.probabilities.items(), key=lambda item: -item[1]),
        parts[:most],
        parts[most:],
        picture,
    )


def _painted(parts: Regions, shares: np.ndarray) -> Painted:
    pixels = parts.pixels.permute(1, 2, 0).numpy()
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"), np.float64)[..., None]
    share = shares[parts.region.numpy()][..., None]
    colour = np.where(share > 0, FOR, AGAINST)
    # Brightened, so that colours show on black, too.
    painted = (96 + grey * 159 / 255) * (1 - 0.8 * np.abs(share)) + colour * 0.8 * np.abs(share)
    return Painted(_enlarged(pixels), _enlarged(painted.round().astype(np.uint8)))


def _enlarged(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    longer = max(image.size)
    if longer <= SIDE:
        # WebP keeps one colour for four pixels.
        times = math.ceil(SIDE / 2 / longer)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return pages.data_url(image, SIDE)


def _marked_each(several: Several, shares: Sequence[float]) -> list[tuple[str, Marked]]:
    found, done = [], 0
    for column, parts in several.several:
        if column is not None and isinstance(parts, Words | Written):
            found.append((column, _marked(parts, shares[done : done + parts.count])))
        done += parts.count
    return found


def _marked(parts: Words | Written, shares: Sequence[float]) -> Marked:
    pieces, done = [], 0
    for (begin, end), share in zip(parts.spans.tolist(), shares, strict=True):
        if end > MOST_CHARACTERS:
            break
        pieces.append((parts.text[done:begin], 0.0))
        pieces.append((parts.text[begin:end], share if abs(share) >= LEAST_SHARE else 0.0))
        done = end
    rest = parts.text[done:]
    cut = done + len(rest) > MOST_CHARACTERS
    return Marked(pieces if cut else [*pieces, (rest, 0.0)], cut)
