"""The library's reference has every public name, and each says what it is."""

import logging
from typing import Any

import pytest

import subset_selection
from docs import library

LOADED = library.load()


def test_the_page_has_every_public_name_once() -> None:
    named = [name for names in library.GROUPS.values() for name in names]
    assert sorted(named) == sorted(subset_selection.__all__)
    headings = [line[4:] for line in library.page("").splitlines() if line.startswith("### ")]
    assert [name for name in named if headings.count(name) != 1] == []


@pytest.mark.parametrize("name", subset_selection.__all__)
def test_a_public_name_and_its_members_say_what_they_are(name: str) -> None:
    thing: Any = LOADED[name].final_target
    silent = [thing.path] if library.docstring(thing) is None else []
    if thing.is_class:
        own = [member for key, member in thing.members.items() if not key.startswith("_")]
        silent += [member.path for member in own if member.docstring is None]
    assert silent == []


def test_the_docstrings_have_the_form_that_the_page_is_made_from(caplog: pytest.LogCaptureFixture) -> None:
    """Arguments are those of the signature, and a line that goes on is indented."""
    with caplog.at_level(logging.WARNING):
        library.page("")
    assert [record.getMessage() for record in caplog.records] == []
