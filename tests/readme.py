"""The README's commands, as a shell would read them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

README = Path(__file__).parents[1] / "README.md"
DEPLOY = [".venv/bin/python", "-m", "deploy"]


@dataclass(frozen=True)
class Line:
    """One of `NAME=value`, `NAME=$(command)` and `command > file`."""

    text: str
    variable: str | None
    words: list[str]
    file: str | None

    def arguments(self, variables: dict[str, str]) -> list[str]:
        """What comes after `python -m deploy`."""
        words = [Template(word).substitute(variables) for word in self.words]
        assert words[: len(DEPLOY)] == DEPLOY, self.text
        return words[len(DEPLOY) :]


def section(title: str) -> str:
    """From the heading to the next of its level."""
    level, text = title.split(" ", 1)[0], README.read_text(encoding="utf-8")
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[1]


def lines(text: str) -> Iterator[Line]:
    """Those of its `sh` blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
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
