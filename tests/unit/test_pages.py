"""Pages from templates: what is shown is escaped, and what is missing is an error."""

from pathlib import Path

import jinja2
import pytest

from subset_trainer import pages

HOSTILE = "<script>alert(1)</script>\"'&{{ 1 + 1 }}"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;{{ 1 + 1 }}"


def test_every_text_is_escaped_and_none_is_a_template(tmp_path: Path) -> None:
    (tmp_path / "own.html").write_text(
        '{% extends "page.html" %}{% from "tables.html" import table %}'
        "{% block content %}{{ table(text, [text, ''], [[text, '1']]) }}{% endblock %}"
    )
    page = pages.render("own.html", tmp_path, title=HOSTILE, text=HOSTILE)
    assert HOSTILE not in page and "<script" not in page
    # The title and the heading; the table's label, heading and cell.
    assert page.count(ESCAPED) == 5
    # A heading without a name would be read aloud as nothing.
    assert page.count("<th") == 2


def test_a_value_that_is_not_given_is_an_error_and_no_gap(tmp_path: Path) -> None:
    (tmp_path / "own.html").write_text("<p>{{ found.accuracy }}</p>")
    with pytest.raises(jinja2.UndefinedError, match="accuracy"):
        pages.render("own.html", tmp_path, found={})
