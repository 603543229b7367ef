"""What the README and docs/ hold: their commands as a shell would read them, their Python, their links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[1]
PROGRAMS = ([".venv/bin/subset-trainer"], ["subset-trainer"], ["python", "-m", "deploy"])
"""How the host side's program is called."""
TESTED_BY = re.compile(r"<!-- tested by ((?:tests/[\w/]+\.py::\w+(?:, )?)+) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of one of the pages."""

    page: str
    line: int
    """Where it begins, from 1."""
    language: str
    text: str
    tests: tuple[str, ...]
    """`tests/FILE.py::NAME` of the tests that run it, as given by the comment before it."""


@dataclass(frozen=True)
class Line:
    """One of `NAME=value`, `NAME=$(command)` and `command > file`."""

    text: str
    variable: str | None
    words: list[str]
    file: str | None

    @property
    def is_ours(self) -> bool:
        """Whether it calls the host side's program."""
        assigned = self.variable is not None and len(self.words) == 1
        return not assigned and any(self.words[: len(program)] == program for program in PROGRAMS)

    def arguments(self, variables: dict[str, str]) -> list[str]:
        """What comes after the program's name."""
        words = [Template(word).substitute(variables) for word in self.words]
        for program in PROGRAMS:
            if words[: len(program)] == program:
                return words[len(program) :]
        raise AssertionError(self.text)


def pages() -> list[Path]:
    """Every page that a reader is given."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def blocks() -> tuple[Block, ...]:
    """Every fenced block of every page, in order."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            before = text[: match.start()]
            named = TESTED_BY.search(before)
            found.append(
                Block(
                    page=str(page.relative_to(ROOT)),
                    line=before.count("\n") + 1,
                    language=match[1],
                    text=match[2],
                    tests=tuple(named[1].split(", ")) if named else (),
                )
            )
    return tuple(found)


def blocks_of(test: str, language: str = "sh") -> list[Block]:
    """Those that a test runs, page by page.

    Args:
        test: `tests/FILE.py::NAME`, as given by the comments before the blocks.
    """
    found = [block for block in blocks() if test in block.tests and block.language == language]
    assert found, f"no page says that {test} runs a block of its"
    return found


def lines(text: str) -> Iterator[Line]:
    """The commands of an `sh` block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "export":
            words = words[1:]
        file = words[-1] if len(words) > 2 and words[-2] == ">" else None
        words = words[:-2] if file else words
        if match := re.match(r"(\w+)=\$\((.*)\)", line):
            yield Line(line, match[1], shlex.split(match[2]), None)
        elif match := re.fullmatch(r"(\w+)=(.*)", words[0]):
            yield Line(line, match[1], [match[2]], None)
        else:
            yield Line(line, None, words, file)


def without_code(text: str) -> str:
    """A page without its fenced blocks and `code`."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: list[str] = []
    for title in re.findall(r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(
            one == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", one) is not None for one in found
        )
        found.append(f"{anchor}-{count}" if count else anchor)
    return set(found)


def links(text: str) -> list[str]:
    """Every target of a link or an image."""
    return re.findall(r"\[[^]]*\]\(([^)\s]+)\)", without_code(text))
