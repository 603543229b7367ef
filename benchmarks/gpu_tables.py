"""The tables of docs/explanation/gpu.md, from the JSON file of a GPU proof.

    python -m benchmarks.gpu_tables                       # from docs/measured/gpu.json, where it is there
    python -m benchmarks.gpu_tables --json build/gpu.json --page /tmp/gpu.md

The page's text stays; the part between `<!-- gpu:NAME -->` and `<!-- /gpu -->` is replaced. A row that was not measured
is marked so, with the reason. A test checks that the page matches the file in the repository, or its absence.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu.runner import MEASURED, NOT_MEASURED, ROOT, Values, measured_values
from benchmarks.gpu.stages import STAGES, article_ratio, judge

PAGE = ROOT / "docs/explanation/gpu.md"
FILE = ROOT / "docs/measured/gpu.json"
BLOCK = re.compile(r"(<!-- gpu:([a-z-]+) -->\n).*?(<!-- /gpu -->)", re.DOTALL)
NO_FILE = "no GPU has run the proof yet"

Column = tuple[str, Callable[[Values], str]]
"""A column: its heading, and the cell for the values of a part."""


def read(path: Path) -> Values:
    """A proof's file; where there is none, one in which nothing is measured.

    Parts that the file lacks, since they were not asked for or are newer, are entered as not measured.
    """
    content: Values = json.loads(path.read_text()) if path.exists() else {"stages": {}}
    reason = "the file has no such part" if path.exists() else NO_FILE
    for stage in STAGES:
        parts = content["stages"].setdefault(stage.name, {"parts": {}})["parts"]
        for part in stage.parts:
            parts.setdefault(part.name, {"status": NOT_MEASURED, "reason": reason})
    return content


def fill(page: str, content: Values) -> str:
    """The page with its blocks made anew.

    Raises:
        KeyError: it has a block of a name that there is no table for.
    """
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]](content) + "\n" + found[3], page)


def machine_line(content: Values) -> str:
    """What the figures hold for, and what of it was reached at best."""
    known = measured_values(content["stages"]).get("machine", {})
    if "identity" not in known:
        return f"Not measured: {content['stages']['machine']['parts']['identity']['reason']}."
    of = known["identity"]
    rehearsal = "**A rehearsal on a CPU: none of this is a figure of a GPU.** " if content.get("dry") else ""
    sentences = [
        f"{rehearsal}{of['device']} (compute capability {of['capability']}, {of['memory_gib']:g} GiB), driver "
        f"{of['driver']}, CUDA {of['cuda']}, torch {of['torch']}, Python {of['python']}, {of['processor']} with "
        f"{of['processors']} processors; commit {content['commit'][:10]}, {content['written']}"
    ]
    if "matrix" in known:
        matrix = known["matrix"]
        sentences.append(
            f"A product of {matrix['size']:,}² matrices reaches {matrix['reduced_flops'] / 1e12:,.0f} TFLOP/s in "
            f"{matrix['reduced_dtype']} and {matrix['float32_flops'] / 1e12:,.0f} in float32"
        )
    if "copy" in known:
        sentences.append(
            f"a copy moves {known['copy']['bytes_per_second'] / 1e12:.2f} TB/s, read and written"
        )
    if "launches" in known:
        sentences.append(f"a kernel costs at least {known['launches']['seconds_per_kernel'] * 1e6:.1f} µs")
    return "; ".join(sentences) + "."


def target_table(content: Values) -> str:
    """What was asked, what was reached."""
    rows = [
        (
            target["name"],
            ("≥ " if target["at_least"] else "≤ ") + _quantity(target["bound"], target["unit"]),
            "" if target["value"] is None else _quantity(target["value"], target["unit"]),
            target["verdict"],
        )
        for target in judge(content["stages"])
    ]
    return _markdown(("target", "asked", "measured", "verdict"), rows)


def _quantity(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value:.2%}"
    return f"{value:.3g}{' s' if unit == 's' else unit}"


def _table(stage: str, columns: Sequence[Column], wanted: str = "") -> Callable[[Values], str]:
    """One row a part of the stage whose name matches."""

    def made(content: Values) -> str:
        rows = []
        for name, entry in content["stages"][stage]["parts"].items():
            if not re.search(wanted, name):
                continue
            if entry["status"] == MEASURED:
                cells = [take(entry["values"]) for _, take in columns]
            else:
                cells = [_missing(entry), *[""] * (len(columns) - 1)]
            rows.append((name, *cells))
        return _markdown(("", *(heading for heading, _ in columns)), rows)

    return made


def _missing(entry: Values) -> str:
    """Why there is no figure: a table's cell has no room for a traceback, which stays in the file."""
    status = "not measured" if entry["status"] == NOT_MEASURED else f"not measured, {entry['status']}"
    reason = " ".join(str(entry.get("reason", "")).split()).replace("|", "/")[:160]
    return f"{status}: {reason}" if reason else status


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(name: str, form: str, unit: str = "", scale: float = 1) -> Callable[[Values], str]:
    return lambda values: "–" if values[name] is None else f"{values[name] * scale:{form}}{unit}"


def _said(name: str) -> Callable[[Values], str]:
    return lambda values: {True: "yes", False: "**no**"}.get(values[name], str(values[name]))


def article_table(content: Values) -> str:
    """The article's loop, with the ratio to ours where both are measured."""
    known = measured_values(content["stages"])

    def ratio(values: Values) -> str:
        found = article_ratio(known, values["batch_size"], values["fraction"])
        return "not measured" if found is None else f"{found:.1f}"

    columns: list[Column] = [
        ("a step, ms", _number("seconds_per_step", ".1f", scale=1e3)),
        ("an epoch, s", _number("article_seconds_per_epoch", ".2f")),
        ("as long as ours, ×", ratio),
        ("steps", _said("steps")),
    ]
    return _table("loop", columns, "^article")(content)


def step_table(content: Values) -> str:
    """The ways of a step, with what each would save in the article's run of 100 epochs of 45,000 images."""
    known = measured_values(content["stages"]).get("step", {})

    def saved(values: Values) -> str:
        eager = known.get(f"batch {values['batch_size']}, eager")
        if not eager or values["way"] == "eager":
            return "" if values["way"] == "eager" else "not measured"
        steps = 100 * -(-45_000 // values["batch_size"])
        whole = eager["seconds_per_step"] * steps
        gain = whole - values["seconds_per_step"] * steps
        gain -= values["preparing_seconds"] - eager["preparing_seconds"]
        return f"{gain:+.0f} s of {whole:.0f}"

    columns: list[Column] = [
        ("a step, ms", _number("seconds_per_step", ".2f", scale=1e3)),
        ("fastest, ms", _number("fastest_seconds_per_step", ".2f", scale=1e3)),
        ("before it, s", _number("preparing_seconds", ".1f")),
        ("mean loss", _number("mean_loss", ".3f")),
        ("saved in 100 epochs", saved),
    ]
    return _table("step", columns)(content)


def failures(content: Values) -> str:
    """The tests that need a GPU."""
    (entry,) = content["stages"]["tests"]["parts"].values()
    if entry["status"] != MEASURED:
        return f"Not measured: {entry['reason']}."
    values = entry["values"]
    lines = [f"{values['passed']} passed, {len(values['failed'])} failed, {values['skipped']} skipped."]
    lines += [f"- `{name}`: {' '.join(message.split())}" for name, message in values["failed"].items()]
    return "\n".join(lines)


def _places(values: Values) -> str:
    return ", ".join(f"`{place}` ({count})" for place, count in values["places_within"].items()) or "none"


TABLES: dict[str, Callable[[Values], str]] = {
    "machine": machine_line,
    "targets": target_table,
    "tests": failures,
    "loop": _table(
        "loop",
        [
            ("an epoch, s", _number("seconds_per_epoch", ".3f")),
            ("bare, s", _number("bare_seconds_per_epoch", ".3f")),
            ("ours / bare", _number("ratio_bare", ".2f")),
            ("images/s", _number("images_per_second", ",.0f")),
            ("of the peak", _number("peak_share", ".0%")),
            ("input, s", _number("input_seconds", ".3f")),
            ("forward and backward, s", _number("forward_backward_seconds", ".3f")),
            ("optimiser, s", _number("optimizer_seconds", ".3f")),
            ("evaluation, s", _number("evaluation_seconds", ".3f")),
        ],
        "^batch",
    ),
    "article": article_table,
    "synchronisations": _table(
        "loop",
        [
            ("steps", _said("steps")),
            ("within them", _said("within")),
            ("of which reads of the loss", _said("reads_of_the_loss")),
            ("where", _places),
        ],
        "^synchron",
    ),
    "step": step_table,
    "selection": _table(
        "selection",
        [("seconds", _number("seconds", ".3f")), ("peak memory, MiB", _number("peak_mib", ",.0f"))],
    ),
    "experiment": _table(
        "experiment",
        [
            ("test accuracy", _number("test_accuracy", ".2%")),
            ("epochs", _said("epochs")),
            ("samples seen", _number("samples", ",d")),
            ("total time, s", _number("total_seconds", ".1f")),
            ("training, s", _number("training_seconds", ".1f")),
            ("selection, s", _number("selection_seconds", ".1f")),
            ("an epoch, s", _number("epoch_seconds", ".3f")),
        ],
    ),
    "resumed": _table(
        "exactness",
        [
            ("resumed from a checkpoint", _said("resumed")),
            ("same history", _said("history_same")),
            ("same weights", _said("weights_same")),
        ],
        "^killed",
    ),
    "memory": _table(
        "exactness",
        [
            ("batch", _said("batch_size")),
            ("memory, GiB", _said("gib")),
            ("taken in parts of", lambda values: ", then ".join(map(str, values["parts_of"]))),
            ("run completed", _said("halved_and_completed")),
        ],
        "^out of memory",
    ),
    "code": _table("exactness", [("exit code", _said("exit_code")), ("said", _said("said"))], "^no code"),
    "encoder": _table(
        "encoder",
        [
            ("steps/s", _number("steps_per_second", ".1f")),
            ("texts/s", _number("texts_per_second", ",.0f")),
            ("batch", _said("batch_size")),
            ("tokens", _said("max_tokens")),
        ],
    ),
}
"""Block of the page → its content."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the page; 1 where its file or page cannot be read."""
    line = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    line.add_argument(
        "--json", type=Path, default=FILE, metavar="FILE", help="default: docs/measured/gpu.json"
    )
    line.add_argument(
        "--page", type=Path, default=PAGE, metavar="FILE", help="default: docs/explanation/gpu.md"
    )
    options: Any = line.parse_args(arguments)
    if not options.page.exists():
        print(f"error: --page {options.page}: there is no such file", file=sys.stderr)
        return 1
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(fill(page, read(options.json)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
