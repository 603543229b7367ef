"""The reference of the library's public names, from their docstrings: docs/reference/library.md."""

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import griffe

PROJECT = Path(__file__).resolve().parents[1] / "container_src/subset_selection"
GROUPS = {
    "Loaders": ("SubsetLoader", "SubsetSampler", "Selection", "Reading", "Loss"),
    "Selections by hand": ("embed", "Pool", "create", "Settings", "Subset"),
    "The catalogue": ("CATALOGUE", "names", "Spec", "Refresh"),
    "Strategies of one's own": (
        "Strategy",
        "SoftPruning",
        "BatchFilter",
        "NotFiniteError",
        "state_of",
        "load_state",
    ),
}
"""Heading → public names of ``subset_selection``, in the order of the page."""
HOOK = re.compile(r"See ``(lightning|transformers)\.")
"""How a method's docstring begins that the class of another package calls and describes."""
INTRODUCTION = """\
What `import subset_selection` offers. [A plain loop](../how-to/select-in-a-plain-loop.md) and [your own
loop](../tutorials/your-own-loop.md) show it at work; [strategies](strategies.md) says what each strategy does.
Letters in brackets are shapes: N examples, M validation examples, C classes, D features of the last linear
layer's input, K picks, B examples of a batch, S examples at a time. Names are imported on first use; the
catalogue is read without torch."""


def page(note: str) -> str:
    """The page, in Markdown."""
    library = load()
    titles = ["Options", *(name for names in GROUPS.values() for name in names)]
    shown = _Shown(anchors={title: title.lower() for title in titles})
    parts = ["# Library", note, INTRODUCTION]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += shown.named(name, _final(library[name]))
            if name == "SubsetSampler":
                parts += shown.options(library)
    for name in ("hf", "lightning", "cords"):
        if name in library.members:
            parts += shown.module(_final(library[name]))
    # As `make lint` wants code in pages.
    written = "\n\n".join(parts) + "\n"
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "library.md", "-"]
    return subprocess.run(ruff, input=written, capture_output=True, text=True, check=True).stdout


def load() -> griffe.Module:
    """The library as griffe reads it, without importing it."""
    found = griffe.load("subset_selection", search_paths=[str(PROJECT)], docstring_parser="google")
    assert isinstance(found, griffe.Module)
    return found


def public(thing: Any) -> Iterator[tuple[str, Any]]:
    """The members of a class or module that it defines and describes itself, by name."""
    for name, member in thing.members.items():
        if not (name.startswith("_") or member.is_alias or member.docstring is None):
            yield name, member


def docstring(thing: Any) -> Any:
    """Its own docstring, or that of the first class that it inherits from; None: there is none."""
    if thing.docstring is not None or thing.kind.value != "class":
        return thing.docstring
    return next((base.docstring for base in thing.mro() if base.docstring is not None), None)


class _Shown:
    """Writes things down, with links to those that have a heading."""

    def __init__(self, anchors: dict[str, str]) -> None:
        self.anchors = anchors

    def named(self, name: str, thing: Any, level: str = "###") -> list[str]:
        parts = [f"{level} {name}", *self.described(thing)]
        if any(each.name != "self" for each in getattr(thing, "parameters", ())):
            parts.insert(1, _wrapped(f"`{_call(name, thing)}`"))
        elif thing.kind.value == "attribute" and str(thing.annotation) != "Mapping[str, Spec]":
            parts.append(_wrapped(f"`{thing.value}`"))
        if thing.kind.value == "class" and (rows := list(self._members(thing))):
            parts.append(_table(("member", "type", "meaning"), rows))
        return parts

    def described(self, thing: Any) -> list[str]:
        """The docstring's paragraphs, its arguments as a table."""
        parts = []
        given = {each.name: each for each in getattr(thing, "parameters", ())}
        for section in _sections(thing):
            if section.kind.value == "parameters":
                rows = [
                    (f"`{each.name}`", _type(given.get(each.name)), self.text(each.description))
                    for each in section.value
                ]
                parts.append(_table(("argument", "type", "meaning"), rows))
            else:
                parts += self._section(section)
        return parts

    def options(self, library: griffe.Module) -> list[str]:
        """The options of both loaders, which are fields of a TypedDict."""
        of_loader = library["loader"]["LoaderOptions"]
        named = [f"`{name}`" for name, member in of_loader.members.items() if member.docstring is None]
        intro = (
            "`SubsetLoader` and `SubsetSampler` take these by name, and the fields of [`Settings`](#settings) that the "
            f"strategy reads. `SubsetLoader` also takes `DataLoader`'s {', '.join(named)}."
        )
        where = docstring(library["items"]["Fields"]["split"]).parsed[0].value
        found = "The input and the label are found as follows. " + where.partition("\n\n")[2]
        for name in ("LABELS", "INPUTS", "TOKENS"):
            values = ast.literal_eval(str(library["items"][name].value))
            listed = ", ".join(f"``{value}``" for value in ([values] if isinstance(values, str) else values))
            found = found.replace(f"of :data:`{name}`", f"of {listed}").replace(f":data:`{name}`", listed)
        rows = [
            (f"`{name}`", _type(member), self.text(member.docstring.value))
            for name, member in [
                *public(of_loader),
                *public(library["sampler"]["Options"]),
            ]
        ]
        return [
            "### Options",
            _wrapped(intro),
            _table(("option", "type", "meaning"), rows),
            self.prose(found),
        ]

    def module(self, module: Any) -> list[str]:
        """A module of the package, for which an extra installs something."""
        parts = [f"## subset_selection.{module.name}", *self.described(module)]
        if module.name == "cords":
            rows = [(f"`{name}`", self._folded(_final(module[name]))) for name in module.exports]
            return [*parts, _table(("loader", "meaning"), rows)]
        for name, thing in public(module):
            if thing.kind.value in ("class", "function"):
                parts += self.named(name, thing)
        return parts

    def _members(self, thing: Any) -> Iterator[tuple[str, str, str]]:
        for name, member in public(thing):
            if HOOK.match(member.docstring.value):
                continue
            called = _call(name, member) if member.kind.value == "function" else name
            yield f"`{called}`", _type(member), self._folded(member)

    def _folded(self, thing: Any) -> str:
        """A docstring in one line, for a table."""
        parts = []
        for section in _sections(thing):
            if section.kind.value == "parameters":
                parts += [
                    f"`{each.name}`: {self.text(each.description).rstrip('.')}." for each in section.value
                ]
            else:
                parts += self._section(section)
        return " ".join(" ".join(part.split()) for part in parts)

    def _section(self, section: Any) -> list[str]:
        kind = section.kind.value
        if kind == "text":
            return self._paragraphs(section.value)
        if kind == "returns":
            return [_wrapped("Returns " + self.text(" ".join(each.description for each in section.value)))]
        assert kind == "raises", kind
        each = [
            f"`{_short(one.annotation)}`: {self.text(one.description).rstrip('.')}." for one in section.value
        ]
        return [_wrapped("Raises " + " ".join(each))]

    def _paragraphs(self, text: str) -> list[str]:
        """Paragraphs and lists wrapped, literal blocks fenced."""
        parts = []
        for block in re.split(r"\n\n(?! )", text.strip()):
            prose, _, code = block.partition("::\n\n")
            if code:
                parts += [
                    _wrapped(self.text(prose) + ":"),
                    f"```python\n{textwrap.dedent(code).strip()}\n```",
                ]
            elif block.startswith("- "):
                items = re.split(r"\n(?=- )", block)
                parts.append("\n".join(_wrapped(self.text(item), "  ") for item in items))
            else:
                parts.append(self.prose(block))
        return parts

    def prose(self, text: str) -> str:
        """A paragraph of a docstring."""
        return _wrapped(self.text(text))

    def text(self, text: str) -> str:
        """Markdown of a docstring's prose."""
        text = " ".join(text.split())
        text = re.sub(r":\w+:`([^`]*?) ?<[^`]*>`", lambda found: self._linked(found[1]), text)
        text = re.sub(r":\w+:`~?([^`]*)`", lambda found: self._linked(_short(found[1])), text)
        return re.sub(r"``([^`]*)``", r"`\1`", text)

    def _linked(self, name: str) -> str:
        anchor = self.anchors.get(name.partition(".")[0])
        return f"[`{name}`](#{anchor})" if anchor else f"`{name}`"


def _final(thing: Any) -> Any:
    return thing.final_target if thing.is_alias else thing


def _sections(thing: Any) -> Sequence[Any]:
    found = docstring(thing)
    return found.parsed if found is not None else ()


def _short(name: Any) -> str:
    return re.sub(r"[\w.]+\.(\w+)$", r"\1", str(name))


def _type(thing: Any) -> str:
    """The type of a parameter or attribute, or of what a function returns."""
    shown = str(getattr(thing, "annotation", None)).replace("'", '"')
    return "" if shown == "None" or shown.startswith("Unpack[") else f"`{shown}`"


def _call(name: str, thing: Any) -> str:
    """How it is called, without types, which the table of its arguments has."""
    shown: list[str] = []
    keywords = False
    for each in thing.parameters:
        kind = each.kind.value
        if each.name in ("self", "cls") or each.name.startswith("_"):
            continue
        if kind == "keyword-only" and not keywords:
            shown.append("*")
        keywords |= kind in ("keyword-only", "variadic positional")
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        default = "" if stars or each.default is None else f"={_default(each.default)}"
        shown.append(f"{stars}{each.name}{default}")
    return f"{name}({', '.join(shown)})"


def _default(value: Any) -> str:
    """A default; … for a name, which tells a reader nothing."""
    return (
        "…"
        if re.fullmatch(r"_?[A-Za-z_]\w*", str(value)) and str(value) not in ("None", "True", "False")
        else str(value)
    )


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 110, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
