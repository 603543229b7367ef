"""Amazon SageMaker Ground Truth's files: manifests, workers' responses, and consolidated labels.

A manifest is in JSON Lines. Each line has `source-ref` (the S3 URI of an image or text) or `source` (the text itself).
Workers' answers are read in three forms:

- from the labelling job's output, `annotations/worker-response/iteration-N/ITEM/TIME.json`, where ITEM is the line of
  the input manifest, counted from 0:
  `{"answers": [{"workerId": …, "submissionTime": …, "answerContent": {NAME: {"label": …}}}]}`. NAME is the name of the
  worker template's element: `crowd-image-classifier` or `crowd-classifier` in built-in tasks;
- from a manifest's attribute that is a list of `{"workerId": …, "label": …}`;
- from a manifest's attribute `{"annotationsFromAllWorkers": [{"workerId": …, "annotationData": {"content": …}}]}`, as
  AWS's sample consolidation function writes it.

Source: "Output data" and "Pre-annotation and post-annotation Lambda functions" in SageMaker's developer guide.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subset_trainer.errors import UserError, shown

RESPONSES = "annotations/worker-response"
OUTPUT_MANIFEST = "manifests/output/output.manifest"
_RESPONSE = re.compile(r"annotations/worker-response/iteration-([0-9]{1,9})/([0-9]{1,12})/([^/]+)\.json$")
TEXT_ELEMENTS = ("crowd-classifier",)


@dataclass(frozen=True)
class Answer:
    """One worker's answer to one item."""

    worker: str
    label: str
    time: str = ""
    """Submission time in ISO 8601; if a worker answered twice, the later answer counts."""
    element: str = ""
    """Element of the worker template, which distinguishes images from texts."""


@dataclass(frozen=True)
class Item:
    """A line of a manifest and its answers, at most one from each worker."""

    line: dict[str, Any]
    answers: tuple[Answer, ...]

    @property
    def source(self) -> str:
        """The labelled object: its URI, or the text itself."""
        return str(self.line.get("source-ref", self.line.get("source", "")))


@dataclass(frozen=True)
class Label:
    """A consolidated label."""

    index: int
    name: str
    confidence: float
    """0..1; 0 if it is unknown, as in Ground Truth's output for a single worker's answer."""


def parse_json(content: bytes | str, name: str) -> Any:
    """Parse strict JSON: NaN and Infinity are refused, because they are not JSON and other parsers reject them.

    Raises UserError, which names the content as `name`.
    """
    try:
        return json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = (
            str(error)
            if isinstance(error, json.JSONDecodeError)
            else "a value is nested too deeply, too long or not finite"
        )
        raise UserError(f"{name} is not JSON: {reason}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def parse_manifest(content: bytes, name: str) -> list[dict[str, Any]]:
    """Return a manifest's lines.

    Raises UserError if a line is not a JSON object with `source-ref` or `source`, or if there are no lines.
    """
    lines = []
    # Not splitlines(): it also splits at characters that may occur within JSON strings.
    parts = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while parts and not parts[-1].strip():
        parts.pop()
    for number, part in enumerate(parts, 1):
        line = parse_json(part, f"{name}, line {number},")
        if not isinstance(line, dict) or not any(_is_text(line.get(key)) for key in ("source-ref", "source")):
            raise UserError(
                f"{name}, line {number}: expected a JSON object with source-ref or source, got {shown(line)}"
            )
        lines.append(line)
    if not lines:
        raise UserError(f"{name}: expected a manifest, one JSON object a line, and there is no line")
    return lines


def label_of(content: Any, name: str) -> tuple[str, str]:
    """Return the label in an answer's content, and the name of the template's element that contains it.

    Args:
        content: `{ELEMENT: {"label": …}}` as an object or as JSON text; other form fields are ignored.
        name: name of the answer, for the error.

    Raises UserError unless there is exactly one label.
    """
    if isinstance(content, str):
        content = parse_json(content, f"{name}: the answer")
    found = (
        [
            (key, value["label"])
            for key, value in content.items()
            if isinstance(value, dict) and "label" in value
        ]
        if isinstance(content, dict)
        else []
    )
    if len(found) == 1 and _is_text(found[0][1]):
        return found[0][1], found[0][0]
    raise UserError(
        f'{name}: expected an answer with one class, {{"crowd-image-classifier": {{"label": "…"}}}}, '
        f"got {shown(content)}"
    )


def parse_response(content: bytes, name: str) -> list[Answer]:
    """Return the answers in one file of workers' responses. Raises UserError if it has another form."""
    response = parse_json(content, name)
    answers = response.get("answers") if isinstance(response, dict) else None
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise UserError(f'{name}: expected {{"answers": […]}}, got {shown(response)}')
    found = []
    for answer in answers:
        label, element = label_of(answer.get("answerContent"), name)
        time = answer.get("submissionTime")
        found.append(Answer(_worker(answer, name), label, time if isinstance(time, str) else "", element))
    return found


def place_of_response(name: str) -> tuple[int, int] | None:
    """Return the iteration and item in the name of a file of workers' responses; None for any other file."""
    found = _RESPONSE.search(name.replace("\\", "/"))
    return (int(found[1]), int(found[2])) if found else None


def with_responses(
    lines: Sequence[dict[str, Any]], responses: Iterable[tuple[str, bytes]], manifest: str
) -> list[Item]:
    """Return the items: the manifest's lines with their answers.

    Args:
        lines: lines of the labelling job's manifest.
        responses: (name, content) of each file of workers' responses.
        manifest: name of the manifest, for the error.

    Raises UserError if a response cannot be read, or if its item is not in the manifest.
    """
    answers: dict[int, list[Answer]] = {}
    placed = [(place, name, content) for name, content in responses if (place := place_of_response(name))]
    # Sorted by number: as text, iteration 10 would come before iteration 2.
    for (_, item), name, content in sorted(placed, key=lambda entry: entry[:2]):
        if item >= len(lines):
            raise UserError(
                f"{name} answers item {item}, counted from 0, and {manifest} has {len(lines)} lines: "
                "expected the manifest that the labelling job was given"
            )
        answers.setdefault(item, []).extend(parse_response(content, name))
    return [Item(line, latest(answers.get(number, ()))) for number, line in enumerate(lines)]


def with_answers(lines: Sequence[dict[str, Any]], attribute: str | None, name: str) -> tuple[list[Item], str]:
    """Return the items of a manifest that contains the answers, and the name of the attribute with the answers.

    Args:
        lines: lines of the manifest.
        attribute: name of the attribute; None finds the only one that contains answers.
        name: name of the manifest, for the error.

    Raises UserError if the attribute has another form, or if no or several attributes contain answers.
    """
    if attribute is None:
        holding = sorted({key for line in lines for key, value in line.items() if _holds_answers(value)})
        if len(holding) != 1:
            raise UserError(
                f"{name}: expected one attribute that holds several workers' answers, a list of "
                f'{{"workerId": …, "label": …}}, got {", ".join(map(shown, holding)) or "none"}; '
                "name the attribute with --answers"
            )
        attribute = holding[0]
    items = []
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}, {shown(attribute)}"
        items.append(Item(line, latest(_answers_in(line.get(attribute), where))))
    return items, attribute


def _holds_answers(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("annotationsFromAllWorkers"), list)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and "workerId" in one for one in value)
    )


def _answers_in(value: Any, name: str) -> list[Answer]:
    if value is None:
        return []
    if isinstance(value, dict) and isinstance(value.get("annotationsFromAllWorkers"), list):
        return [annotation(one, name) for one in value["annotationsFromAllWorkers"]]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UserError(f'{name}: expected a list of {{"workerId": …, "label": …}}, got {shown(value)}')
    found = []
    for one in value:
        if not _is_text(one.get("label")):
            raise UserError(f"{name}: expected the name of a class as label, got {shown(one.get('label'))}")
        found.append(Answer(_worker(one, name), one["label"]))
    return found


def annotation(value: Any, name: str, read: Callable[[str], bytes] | None = None) -> Answer:
    """Parse one worker's annotation, in the form that Ground Truth passes to consolidation functions.

    Args:
        value: `{"workerId": …, "annotationData": {"content": …}}`, or `{"s3Uri": …}` in place of the content.
        name: name of the annotation, for the error.
        read: reads the content at a URI; without it the content must be included.

    Raises UserError if the annotation has another form.
    """
    data = value.get("annotationData") if isinstance(value, dict) else None
    if not isinstance(data, dict):
        raise UserError(f'{name}: expected {{"workerId": …, "annotationData": {{…}}}}, got {shown(value)}')
    content = data.get("content")
    uri = next((data[key] for key in ("s3Uri", "s3uri") if _is_text(data.get(key))), "")
    if content is None and uri and read is not None:
        content = read(uri).decode("utf-8", "replace")
    label, element = label_of(content, name)
    return Answer(_worker(value, name), label, element=element)


def latest(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Return each worker's last answer: by submission time; if times are equal or missing, by the order given."""
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.worker not in found or answer.time >= found[answer.worker].time:
            found[answer.worker] = answer
    return tuple(found.values())


def classes_of(items: Sequence[Item], given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the classes in the order of their indices: as given, or all classes among the answers, sorted.

    Raises UserError if an answer is not among the given classes, or if there are neither classes nor answers.
    """
    if not given:
        found = tuple(sorted({answer.label for item in items for answer in item.answers}))
        if not found:
            raise UserError("no item has an answer: there is nothing to consolidate")
        return found
    known = set(given)
    for item in items:
        for answer in item.answers:
            if answer.label not in known:
                raise UserError(
                    f"{shown(item.source)}: the worker {shown(answer.worker)} answered {shown(answer.label)}, and the "
                    f"classes are {', '.join(given)}"
                )
    return tuple(given)


def attributes(item: Item, label: Label, attribute: str, job: str, created: str) -> dict[str, Any]:
    """Return the label and its metadata, in the form of Ground Truth's classification tasks.

    Args:
        item: the labelled item.
        label: its consolidated label.
        attribute: name of the label attribute.
        job: name of the labelling job.
        created: time of creation, such as `2018-10-18T22:18:13.527256`.
    """
    text = "source-ref" not in item.line or any(answer.element in TEXT_ELEMENTS for answer in item.answers)
    return {
        attribute: label.index,
        f"{attribute}-metadata": {
            "class-name": label.name,
            "confidence": round(label.confidence, 4),
            "type": f"groundtruth/{'text' if text else 'image'}-classification",
            "job-name": job,
            "human-annotated": "yes",
            "creation-date": created,
        },
    }


def manifest(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a manifest file's content."""
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _worker(answer: Mapping[str, Any], name: str) -> str:
    worker = answer.get("workerId")
    if not _is_text(worker):
        raise UserError(f"{name}: expected a workerId, got {shown(worker)}")
    return str(worker)


def _is_text(value: Any) -> bool:
    """Return whether the value is text, not blank, and valid in UTF-8: JSON also allows lone surrogates."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
