"""HTML pages from templates. A page is a single file that needs no network, and all text in it is escaped."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
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
    # Formats a number with Python's format specification: {{ share|form(".1%") }}.
    environment.filters["form"] = format
    return environment


def data_url(image: "Image", side: int) -> str:
    """Encode an image as a data URL. The image is shrunk in place so that no side has more than `side` pixels."""
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
