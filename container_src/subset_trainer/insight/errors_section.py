"""The part of report.html that says why the model errs: each explained error with what speaks for it and against it."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from subset_trainer.data.parts import Columns, Regions, Words, Written
from subset_trainer.insight.explanations import ABSENT, METHOD, Explained, Explanations

FOR, AGAINST = (179, 74, 0), (0, 114, 178)
"""Orange-red and blue: the page's colours of wrong and right, which look different to everybody."""
STRONGEST = 0.5
"""Opacity of the largest contribution's colour, behind letters."""
SIDE = 192
"""Pixels of an image's longer side, about."""
MOST_COLUMNS, MOST_WORDS, MOST_REGIONS = 10, 6, 4
"""What is told of an example in words."""
MOST_CHARACTERS = 1_500
STYLE = """
ul.why { list-style: none; margin: 0.5rem 0; padding: 0; display: grid; gap: 1rem;
         grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.why > li { border: 1px solid #ddd; padding: 0.6rem; min-width: 0; font-size: 0.9rem; }
.why h3 { margin: 0; }
.why .pictures { display: flex; gap: 0.5rem; margin: 0.4rem 0; }
.why img { width: calc(50% - 0.25rem); max-width: 12rem; aspect-ratio: 1; object-fit: contain; background: #eee;
           image-rendering: pixelated; }
.why table { width: 100%; table-layout: fixed; margin: 0.4rem 0; }
.why th, .why td { padding: 0.1rem 0.3rem; overflow-wrap: anywhere; }
.why tbody th { text-align: left; font-weight: normal; }
.why thead th:first-child { width: 34%; }
.why thead td { width: 30%; }
.why .bar { display: flex; height: 0.9rem; background: linear-gradient(90deg, #0000 49%, #666 49% 51%, #0000 51%); }
.why .bar span { display: block; }
.why blockquote { margin: 0.4rem 0; white-space: pre-wrap; }
.why mark { color: inherit; background: none; }
.for { border-bottom: 3px solid #b34a00; }
.against { border-bottom: 3px dashed #0072b2; }
"""


def section(found: Explanations) -> str:
    """HTML. Every text of the data's is escaped."""
    heading = "<h2>Why it errs</h2>\n"
    if not found.errors:
        return f"{heading}<p>It does not: all {found.validated:,} validation examples are taken for what they are.</p>"
    examples = found.examples
    note = (
        f'<p class="note">{len(examples):,} of the {found.errors:,} errors in {found.validated:,} validation examples: '
        "of each class in turn, those that the model is surest of. "
        f"{_WHAT[found.kind]} <span class='for'>speak for</span> or <span class='against'>against</span> what it is "
        f"taken for, by {METHOD}: the numbers are contributions to the log-odds of that class (+0.69 for twice the "
        "odds), and add up to the difference to an example of which every part is absent. What takes its place is "
        f"{ABSENT[found.kind]}. All numbers are in <code>explanations.json</code>.</p>\n"
    )
    return f'{heading}{note}<ul class="why">{"".join(map(_example, examples))}</ul>'


_WHAT = {
    "image": "The regions of an image",
    "table": "The columns of a row",
    "text": "The words of a text",
}


def _example(one: Explained) -> str:
    if isinstance(one.parts, Regions):
        shown = _image(one, one.parts)
    elif isinstance(one.parts, Columns):
        shown = _row(one)
    else:
        assert isinstance(one.parts, Words | Written)
        shown = _text(one, one.parts)
    probabilities = ", ".join(
        f"{escape(name)} {probability:.1%}"
        for name, probability in sorted(one.probabilities.items(), key=lambda item: -item[1])
    )
    return (
        f"<li><h3>{escape(one.label)}, taken for {escape(one.predicted)}</h3>\n<div>{probabilities}</div>\n{shown}\n"
        f"<code>{escape(one.id)}</code></li>\n"
    )


def signed(contribution: float) -> str:
    """With two decimals and a true minus."""
    return f"{contribution:+.2f}".replace("-", "−")


def _shares(contributions: np.ndarray) -> np.ndarray:
    """-1 to 1, of the largest."""
    return contributions / max(float(np.abs(contributions).max(initial=0)), 1e-12)


def _strongest(one: Explained, most: int) -> list[tuple[str, float]]:
    order = np.argsort(-np.abs(one.contributions), kind="stable")[:most]
    names = one.names
    return [(names[at], float(one.contributions[at])) for at in order]


def _image(one: Explained, parts: Regions) -> str:
    """As it is, and in grey below the colours of its regions."""
    pixels = parts.pixels.permute(1, 2, 0).numpy()
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"), np.float64)[..., None]
    share = _shares(one.contributions)[parts.region.numpy()][..., None]
    colour = np.where(share > 0, FOR, AGAINST)
    # Brightened, so that colours show on black, too.
    painted = (96 + grey * 159 / 255) * (1 - 0.8 * np.abs(share)) + colour * 0.8 * np.abs(share)
    told = ", ".join(f"{name} {signed(value)}" for name, value in _strongest(one, MOST_REGIONS))
    return (
        f'<div class="pictures"><img alt="The image as it is" src="{_data(pixels)}">'
        f'<img alt="Its regions, the strongest: {escape(told)}" src="{_data(painted.round().astype(np.uint8))}"></div>'
        f"<div>Strongest regions: {escape(told)}</div>"
    )


def _data(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    longer = max(image.size)
    if longer > SIDE:
        image.thumbnail((SIDE, SIDE))
    else:
        # WebP keeps one colour for four pixels.
        times = math.ceil(SIDE / 2 / longer)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _row(one: Explained) -> str:
    order = np.argsort(-np.abs(one.contributions), kind="stable")
    names, shares = one.names, _shares(one.contributions)
    lines = [
        f'<tr><th scope="row">{escape(names[at])}</th><td>{escape(one.values[at] or "–")}</td>'
        f"<td>{signed(one.contributions[at])}</td><td>{_bar(float(shares[at]))}</td></tr>"
        for at in order[:MOST_COLUMNS]
    ]
    rest = order[MOST_COLUMNS:]
    if len(rest):
        lines.append(
            f'<tr><th scope="row">{len(rest):,} more</th><td></td><td>{signed(one.contributions[rest].sum())}</td>'
            "<td></td></tr>"
        )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("column", "value", "log-odds"))
    return f"<table><thead><tr>{head}<td></td></tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _bar(share: float) -> str:
    """From the middle, to the right what is for."""
    left = 50 if share > 0 else 50 * (1 + share)
    colour = FOR if share > 0 else AGAINST
    return (
        f'<div class="bar" aria-hidden="true"><span style="margin-left:{left:.1f}%;width:{50 * abs(share):.1f}%;'
        f'background:rgb{colour}"></span></div>'
    )


def _text(one: Explained, parts: Words | Written) -> str:
    told = ", ".join(f"<i>{escape(name)}</i> {signed(value)}" for name, value in _strongest(one, MOST_WORDS))
    return (
        f"<blockquote>{_marked(parts, _shares(one.contributions).tolist())}</blockquote>\n"
        f"<div>Strongest: {told or '–'}</div>"
    )


def _marked(parts: Words | Written, shares: Sequence[float]) -> str:
    pieces, done = [], 0
    for (begin, end), share in zip(parts.spans.tolist(), shares, strict=True):
        if end > MOST_CHARACTERS:
            break
        pieces.append(escape(parts.text[done:begin]))
        word, done = escape(parts.text[begin:end]), end
        colour = ",".join(map(str, FOR if share > 0 else AGAINST))
        # What is hardly anything is left as it is.
        pieces.append(
            f'<mark class="{"for" if share > 0 else "against"}" '
            f'style="background:rgba({colour},{STRONGEST * abs(share):.2f})">{word}</mark>'
            if abs(share) >= 0.1
            else word
        )
    rest = parts.text[done:]
    return "".join(pieces) + (escape(rest) if done + len(rest) <= MOST_CHARACTERS else "…")
