"""HTML pages from templates. A page is one file that needs no network, and every text in it is escaped."""

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
        template: its path below one of `folders` or, if none has it, below this package's `templates`.
        folders: of further templates, which may extend and include this package's.
        values: what the template shows, by name.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    return _environment(*folders).get_template(template).render(values)


@cache
def _environment(*folders: Path) -> "Environment":
    # Only a process that writes a page imports it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A number by Python's format specification: {{ share|form(".1%") }}.
    environment.filters["form"] = format
    return environment


def data_url(image: "Image", side: int) -> str:
    """An image as a page holds it, made smaller in place where one of its sides has more than `side` pixels."""
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
