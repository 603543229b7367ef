"""HTML pages from templates. A page is a single file that needs no network, and all text in it is escaped."""

import base64
import io
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subset_trainer.readable import number

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from PIL.Image import Image

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *folders: Path, **values: Any) -> str:
    """Fill in a template.

    Args:
        template: path relative to one of `folders` or, if none contains it, to this package's `templates`.
        folders: folders of further templates, which may extend and include this package's templates.
        values: the template's variables.

    Raises:
        jinja2.UndefinedError: the template uses a variable that is not in `values`.
    """
    return _environment(*folders).get_template(template).render(values)


@cache
def _environment(*folders: Path) -> "Environment":
    # Imported here, because most processes write no page.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Formats a number with Python's format specification: {{ share|form(".1%") }}. For SVG and CSS: {{ x|at }}.
    # A name, a file's or an example's: {{ card.id|name }}.
    environment.filters["form"] = number
    environment.filters["at"] = "{:.4g}".format
    environment.filters["name"] = wrapped
    return environment


SHORT = 16
"""Characters of a word, or of a part between separators, that fit on a line everywhere."""
_SEPARATOR = re.compile(
    r"(?<=[/\\_()<>=&+@|;])(?=[\w.('\"<+-])(?!_)|(?<=\w-)(?<!\de-)(?=\w)|(?<=[^\W\d][.:,])(?=\w)|(?<=\w[.:,])(?=[^\W\d])"
)
"""After one of these, but not within a number."""
_ANYWHERE = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
)
"""Scripts without blanks (Chinese, Japanese, Korean, Thai, …), whose lines browsers know how to break."""


def wrapped(text: str) -> "Markup":
    """A text whose words may be wrapped after separators (`/ _ - . : ,` and brackets), and nowhere else.

    A word with a part that is too long for a line scrolls by itself; see `.long` in page.css.
    """
    from markupsafe import Markup

    def word(text: str) -> Markup:
        parts = _SEPARATOR.split(text)
        whole = Markup("<wbr>").join(parts)
        longest = max(len(run) for part in parts for run in _ANYWHERE.split(part))
        return Markup('<span class="long" tabindex="0">{}</span>').format(whole) if longest > SHORT else whole

    pieces = re.split(r"(\s+)", text)
    return Markup("").join(word(piece) if len(piece) > SHORT else piece for piece in pieces)


def data_url(image: "Image", side: int) -> str:
    """Encode an image as a data URL. The image is shrunk in place so that no side has more than `side` pixels."""
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
