"""What is decided by the kind of data, or by its format, is decided in the kind's file, or the format's."""

import ast
from pathlib import Path

import pytest

from subset_trainer.data.formats.registry import FORMATS
from subset_trainer.data.kinds.registry import KINDS, from_json

SOURCES = Path(__file__).parents[3] / "container_src" / "subset_trainer"


def comparisons(source: str, names: set[str]) -> list[int]:
    """Lines that compare something with one of these texts, or with a collection that holds one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts: list[ast.AST] = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        texts = {one.value for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant)}
        if texts & names:
            found.append(node.lineno)
    return sorted(found)


@pytest.mark.parametrize(
    ("folder", "names"),
    [("kinds", {kind.name for kind in KINDS}), ("formats", {form.name for form in FORMATS})],
)
def test_nobody_else_compares_its_name(folder: str, names: set[str]) -> None:
    own = SOURCES / "data" / folder
    found = {
        str(path.relative_to(SOURCES)): lines
        for path in sorted(SOURCES.rglob("*.py"))
        if own not in path.parents and (lines := comparisons(path.read_text(encoding="utf-8"), names))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'kind == "image"',
        '"text" != a.kind',
        'if kind in ("table", "image"): pass',
        'match k:\n case "text": pass',
    ],
)
def test_a_comparison_is_found(source: str) -> None:
    assert comparisons(source, {"image", "table", "text"})


def test_names_are_all_different() -> None:
    for names in ([kind.name for kind in KINDS], [form.name for form in FORMATS]):
        assert len(set(names)) == len(names)


def test_a_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="kind: 'sound'"):
        from_json({"kind": "sound", "classes": ["a", "b"]})
