"""The README and docs/: links lead somewhere, commands are run by tests, and what is generated follows the code."""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from deploy.__main__ import parse
from docs import generate
from subset_selection.catalogue import CATALOGUE
from subset_trainer.config.hyperparameters import Hyperparameters
from tests.documentation import ROOT, Block, anchors, blocks, blocks_of, lines, links, pages

PAGES = [str(page.relative_to(ROOT)) for page in pages()]
SHELL = [block for block in blocks() if block.language in ("sh", "bash")]
PYTHON = [block for block in blocks() if block.language == "python"]
UNDERSTOOD = "tests/unit/test_docs.py::test_what_takes_long_or_a_network_is_understood"


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("name", generate.FILES)
def test_what_is_generated_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generate.FILES[name](), "run `make docs`"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_there_are(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = []
    for link in links(text):
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_every_page_of_docs_can_be_reached_from_its_index() -> None:
    reached, waiting = set(), [ROOT / "docs/README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in links(page.read_text(encoding="utf-8")):
            if not re.match(r"https?://", link) and (file := link.partition("#")[0]):
                waiting.append(page.parent / file)
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} <= reached


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(text) <= 150
    assert [line for line in text if len(line) > 110] == []


@pytest.mark.parametrize("page", [page for page in PAGES if "/" in page])
def test_prose_keeps_within_the_line(page: str) -> None:
    """Of tables, links' targets and what is generated nobody can ask it."""
    inside, long = False, []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        inside ^= line.lstrip().startswith("```")
        if len(line) > 120 and not inside and not re.match(r"\s*(\||!\[|<!--|> )", line) and page not in RUNS:
            long.append(number)
    assert long == []


RUNS = tuple(f"docs/explanation/{name}.md" for name in ("evidence", "robustness", "held-out", "recipe"))
"""Pages that a benchmark writes."""


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_every_command_names_the_test_that_runs_it(block: Block) -> None:
    assert block.tests, f"{place(block)}: say before it <!-- tested by tests/FILE.py::NAME -->"
    for test in block.tests:
        file, name = test.split("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_python_is_python(block: Block) -> None:
    ast.parse(block.text)


class Parsed(BaseException):
    """A program has read its arguments and would now begin."""


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs stop once they have understood their arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any, **named: Any) -> NoReturn:
        parse(self, *given, **named)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def understood() -> Iterator[tuple[str, str]]:
    for block in blocks_of(UNDERSTOOD):
        for line in block.text.replace("\\\n", " ").splitlines():
            if command := line.partition("  #")[0].strip():
                yield place(block), command


@pytest.mark.parametrize(("where", "command"), list(understood()), ids=lambda text: text[:60])
def test_what_takes_long_or_a_network_is_understood(
    where: str, command: str, only_parsed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the program's own parser, or as a target of make, and that program's parser where it has OPTIONS."""
    words = shlex.split(command)
    if words[0] == "make":
        done = subprocess.run(
            ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        programs = re.findall(
            r"^\S*python\S* (benchmarks/\w+\.py .*|-m benchmarks\.\w+ .*)$", done.stdout, re.MULTILINE
        )
        if not any(word.startswith("OPTIONS=") for word in words):
            return
        assert programs, done.stdout
        words = ["python", *shlex.split(programs[-1])]
    program, *rest = words
    if program.endswith("subset-trainer") or rest[:2] == ["-m", "deploy"]:
        assert parse(rest if program.endswith("subset-trainer") else rest[2:]) is not None
        return
    assert program.endswith("python"), command
    module, arguments = (rest[1], rest[2:]) if rest[0] == "-m" else (rest[0], rest[1:])
    name = module.removesuffix(".py").replace("/", ".")
    assert name.startswith("benchmarks."), command
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(Parsed):
        importlib.import_module(name).main()


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_the_hosts_program_understands_its_commands(block: Block) -> None:
    for line in lines(block.text):
        if line.is_ours:
            words = [re.sub(r"\$\w+", "word", word) for word in line.arguments(AnyWord())]
            assert parse(words) is not None or "--help" in words


class AnyWord(dict[str, str]):
    """A value for every variable of a shell."""

    def __missing__(self, name: str) -> str:
        return "word"


def test_every_hyperparameter_in_a_command_is_one() -> None:
    unknown = []
    for block in SHELL:
        for line in lines(block.text):
            if "--set" not in line.words:
                continue
            for word in line.words[line.words.index("--set") + 1 :]:
                name, equals, _ = word.partition("=")
                if not equals:
                    break
                if name not in Hyperparameters.model_fields:
                    unknown.append(f"{place(block)}: {name}")
    assert unknown == []


def test_the_readme_says_what_the_image_promises() -> None:
    """The names that a reader copies are the code's: channels, files and the article, introduced once."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("AWS's article on training with less data") == 1
    assert f"[{len(CATALOGUE)} strategies](" in text
    assert Path(ROOT / "LICENSE").read_text(encoding="utf-8").count("Apache License") >= 2
