"""`labels`: consolidates and audits workers' answers, chooses examples to label again, and shows labelling jobs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import options
from deploy.commands.declared import Answering, Command, Option
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from deploy.aws.labeling_jobs import Status
    from deploy.aws.storage import Storage
    from deploy.labels.agreement import Audit
    from deploy.labels.answers import Labelling
    from deploy.labels.relabel import Example

METHODS = ("dawid-skene", "majority")
NAMED = 3
"""Largest number of items that a message names."""


@dataclass(frozen=True, kw_only=True)
class Answers(options.Region, Answering):
    """Workers' answers, and how they become labels."""

    input: Annotated[
        str,
        Option(
            "output folder of a labelling job (with annotations/worker-response), or a manifest with several workers' "
            "answers: a path, or s3://…",
            argument=True,
        ),
    ]
    manifest: Annotated[
        str | None,
        Option(
            "for a folder: the input manifest of the labelling job (the folder's own output manifest)", "FILE"
        ),
    ] = None
    answers: Annotated[
        str | None, Option("for a manifest: the attribute with the answers, if there are several", "NAME")
    ] = None
    method: Annotated[str, Option("method of consolidation", choices=METHODS)] = METHODS[0]
    classes: Annotated[
        tuple[str, ...],
        Option(
            "classes in the order of their indices, separated by commas (those answered, sorted)",
            "LIST",
            options.names,
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Consolidate(Answers):
    """What `labels consolidate` takes."""

    output: Annotated[str, Option("the manifest to write: a path, or s3://…", argument=True)]
    attribute: Annotated[
        str | None,
        Option("attribute of the label (the one that held a manifest's answers, or `label`)", "NAME"),
    ] = None
    unresolved: Annotated[
        str | None,
        Option(
            "also write an input manifest of the items without an answer and of the ties, to be labelled again",
            "FILE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Checked(Answers):
    """What `labels audit` takes."""

    disputed: Annotated[int, Option("number of disputed items to list", "N", options.count)] = 10
    output: Annotated[
        str | None, Option("also write everything as JSON: a path, or s3://… (it was --json FILE)", "FILE")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Next(options.Region, Answering):
    """What `labels next` takes."""

    run: Annotated[
        str,
        Option(
            "name of a training job, or its output.tar.gz or output folder, here or at s3://…", argument=True
        ),
    ]
    output: Annotated[str, Option("the manifest to write: a path, or s3://…", argument=True)]
    budget: Annotated[int, Option("largest number of examples to label", "N", options.count)]
    prefix: Annotated[str | None, Option("s3://… folder with the files of the training channel", "URI")] = (
        None
    )
    rows: Annotated[
        Path | None,
        Option(
            "folder with a table's files, to show workers the text of a column; with --column", "FOLDER", Path
        ),
    ] = None
    column: Annotated[
        str | None,
        Option("column of the text: its name in the first line, or its position from 0", "NAME"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Followed(options.Region, Answering):
    """What `labels status` takes."""

    job: Annotated[str, Option("name of the labelling job", argument=True)]
    lines: Annotated[int, Option("lines of the log to show", "N", options.count)] = 20


def consolidate(given: Consolidate) -> Any:
    """Write the manifest, and report the items without a label and those with a tie."""
    import datetime

    from deploy.aws.storage import Storage
    from deploy.labels import consolidation, ground_truth

    storage = Storage(given.region)
    labelling = _read(storage, given)
    items = labelling.items
    attribute = given.attribute or labelling.attribute or "label"
    if attribute.endswith(("-ref", "-metadata")) or attribute == "source":
        raise UserError(
            f"--attribute {attribute}: Ground Truth's labels have no names that end in -ref or -metadata, nor source"
        )
    classes = _classes(given.classes, labelling)
    labels, ties = consolidation.consolidate(items, classes, given.method)
    created = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
    lines = [
        {**item.line, **ground_truth.attributes(item, label, attribute, labelling.job, created)}
        for item, label in zip(items, labels, strict=True)
        if label is not None
    ]
    storage.write(given.output, ground_truth.manifest(lines))
    without = [number for number, label in enumerate(labels) if label is None]
    print(
        f"{given.output}: {len(lines):,} labels of {len(items):,} items, under {attribute}, by {given.method}"
    )
    order = "as given" if given.classes else "sorted; set another order with --classes"
    print(f"classes, from index 0 ({order}): {', '.join(classes)}")
    _say(without, "without an answer, and left out", labelling)
    _say(ties, "tied, and given the first of their classes", labelling)
    if given.unresolved is not None:
        again = sorted([*without, *ties])
        storage.write(given.unresolved, ground_truth.manifest(items[number].line for number in again))
        print(f"{given.unresolved}: items to be labelled again: {len(again):,}")
    return {
        "output": given.output,
        "labels": len(lines),
        "items": len(items),
        "attribute": attribute,
        "classes": list(classes),
        "without": [items[number].source for number in without],
        "tied": [items[number].source for number in ties],
    }


def _say(numbers: Sequence[int], what: str, labelling: "Labelling") -> None:
    if numbers:
        from deploy.text import printable

        named = ", ".join(printable(labelling.items[number].source[:80]) for number in numbers[:NAMED])
        print(f"{len(numbers):,} {what}: {named}{', …' if len(numbers) > NAMED else ''}")


def audit(given: Checked) -> Any:
    """Print the audit as tables."""
    import json

    from deploy.aws.storage import Storage
    from deploy.labels import agreement

    storage = Storage(given.region)
    labelling = _read(storage, given)
    found = agreement.audit(labelling.items, _classes(given.classes, labelling), given.method, given.disputed)
    content = found.to_json()
    if given.output is not None:
        storage.write(given.output, f"{json.dumps(content, indent=2)}\n".encode())
    print(_audited(found))
    return content


def _read(storage: "Storage", given: Answers) -> "Labelling":
    from deploy.labels import answers

    return answers.read(storage, given.input, given.manifest, given.answers)


def _classes(given: Sequence[str], labelling: "Labelling") -> tuple[str, ...]:
    from deploy.labels import ground_truth

    if len(set(given)) < len(given):
        raise UserError(f"--classes {','.join(given)} names a class twice")
    return ground_truth.classes_of(labelling.items, given)


def _audited(found: "Audit") -> str:
    from deploy.text import table

    alpha = "–" if found.alpha is None else f"{found.alpha:.3f}"
    parts = [
        f"{found.answers:,} answers of {found.workers:,} workers to {found.answered:,} of {found.items:,} items; pairs "
        f"of answers that agree: {_percent(found.agreement)}; Krippendorff's alpha: {alpha}",
        table(
            [["class", "answers", f"labels by {found.method}", "agreement"]],
            [
                [one.name, f"{one.answers:,}", f"{one.labels:,}", _percent(one.agreement)]
                for one in found.by_class
            ],
        ),
        table(
            [["worker", "answers", "agree with others", "with the label"]],
            [
                [one.worker, f"{one.answers:,}", _percent(one.agreement), _percent(one.consolidated)]
                for one in found.by_worker
            ],
        ),
    ]
    if found.confused:
        parts.append(
            table(
                [["classes given to one item", "pairs of answers", "of those that disagree"]],
                [
                    [" – ".join(one.classes), f"{one.pairs:,}", _percent(one.share)]
                    for one in found.confused[:10]
                ],
            )
        )
    if found.disputed:
        parts.append(
            table(
                [["disputed", "answers", "label", "confidence"]],
                [
                    [
                        one.source if len(one.source) <= 60 else f"…{one.source[-59:]}",
                        ", ".join(f"{name} {count}" for name, count in one.answers.items()),
                        one.label,
                        f"{one.confidence:.2f}",
                    ]
                    for one in found.disputed
                ],
                left=(0, 1, 2),
                spare=(1, 3),
            )
        )
    return "\n\n".join(parts)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def choose(given: Next) -> Any:
    """Write the manifest of the examples to label again."""
    from deploy.aws.storage import Storage
    from deploy.labels import ground_truth, relabel

    text = None
    if given.rows is not None and given.column is not None:
        text = relabel.row_reader(given.rows, given.column)
    elif given.rows is not None or given.column is not None:
        raise UserError("--rows and --column go together")
    storage = Storage(given.region)
    examples = relabel.read(given.run, given.region)
    chosen = relabel.first(examples, given.budget)
    storage.write(given.output, ground_truth.manifest(relabel.lines(chosen, given.prefix, text)))
    print(f"{given.output}: {len(chosen):,} of {len(examples):,} training examples to label again first")
    for one in chosen[:NAMED]:
        print(f"  {_described(one)}")
    return {"output": given.output, "chosen": len(chosen), "examples": len(examples)}


def _described(one: "Example") -> str:
    from deploy.text import printable

    probable = "not judged" if one.mislabelled is None else f"wrong with probability {one.mislabelled:.2f}"
    return printable(f"{one.id}: labelled {one.label}, {probable}, looks like {one.probable_label}")


def status(given: Followed) -> Any:
    """Print a labelling job's status."""
    from deploy.aws import calls, labeling_jobs

    found = labeling_jobs.status(calls.boto_session(given.region), given.job, given.lines)
    print(_told(found))
    return asdict(found)


def _told(found: "Status") -> str:
    from deploy.text import printable, table

    reason = f": {found.reason}" if found.reason else ""
    parts = [
        f"{found.name}: {found.state}{reason}\ncreated {found.created:%Y-%m-%d %H:%M}, "
        f"last changed {found.modified:%Y-%m-%d %H:%M}; label attribute {found.attribute}\n"
        f"input: {found.manifest}\noutput: {found.output}",
        table([["objects", "count"]], [[name, f"{count:,}"] for name, count in found.counts.items()]),
    ]
    if found.metrics:
        parts.append(
            table([["metric", "value"]], [[name, f"{value:,.6g}"] for name, value in found.metrics.items()])
        )
    if found.log:
        parts.append("\n".join(["last lines of the log:", *(f"  {printable(line)}" for line in found.log)]))
    parts += found.unknown
    return "\n\n".join(parts)


COMMANDS = (
    Command(
        "labels consolidate",
        consolidate,
        Consolidate,
        "Turn several workers' answers into labels with a confidence: an augmented manifest, which training reads.",
        ("labels consolidate s3://bucket/labelling/job labels.manifest",),
    ),
    Command(
        "labels audit",
        audit,
        Checked,
        "Measure how far workers agree, overall, by class and by worker, and what they dispute and confuse.",
        ("labels audit s3://bucket/labelling/job --output audit.json",),
    ),
    Command(
        "labels next",
        choose,
        Next,
        "Choose the examples to label again first, from a finished training: the most probably mislabelled, and one of "
        "each group of near-duplicates. The output is an input manifest for a labelling job.",
        ("labels next my-job next.manifest --budget 100 --prefix s3://abc",),
    ),
    Command(
        "labels status",
        status,
        Followed,
        "Show a labelling job's state, counts, reason of failure, metrics and the end of its log.",
        ("labels status my-labelling-job --lines 50",),
    ),
)
