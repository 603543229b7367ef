"""Pages from templates: what is shown is escaped, and what is missing is an error."""

from pathlib import Path

import jinja2
import pytest

from subset_trainer import pages

HOSTILE = "<script> alert(1) </script> \"'&{{ 1 + 1 }}"
ESCAPED = "&lt;script&gt; alert(1) &lt;/script&gt; &#34;&#39;&amp;{{ 1 + 1 }}"


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short_name.png", "short_name.png"),
        (
            "copy_of_a-very.long_20240101_name.png",
            "copy_|of_|a-|very.|long_|20240101_|name.|png",
        ),
        ("classes/red and/folder_of_images_1.png", "classes/red and/|folder_|of_|images_|1.|png"),
        ("(by reviews_of-2023(1).csv), and", "(by reviews_|of-|2023(|1)|.csv), and"),
        ("value=-0.123;1.25e-05;7,000", "value=|-0.123;|1.25e-05;|7,000"),
        ("日本語の長いクラス名で空白がないものです", "日本語の長いクラス名で空白がないものです"),
    ],
)
def test_long_words_wrap_after_separators_and_not_within_numbers(text: str, expected: str) -> None:
    assert str(pages.wrapped(text)).replace("<wbr>", "|") == expected


def test_a_part_that_no_line_holds_scrolls_by_itself() -> None:
    name = "x" * 80
    assert str(pages.wrapped(f"a {name} b")) == f'a <span class="long" tabindex="0">{name}</span> b'
    hostile = "<script>" * 9 + "y" * 30
    assert "<script" not in pages.wrapped(hostile)
