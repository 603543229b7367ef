"""Ground Truth's files as its documentation shows them, and what is refused of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.aws.storage import Storage
from deploy.labels import answers, ground_truth
from deploy.labels.ground_truth import Answer, Item, Label
from subset_trainer.errors import UserError

CAT = {"crowd-image-classifier": {"label": "cat"}}


def response(worker: str, content: Any, time: str = "2020-12-28T18:59:58.321Z") -> dict[str, Any]:
    """As a private workforce's is written."""
    return {
        "acceptanceTime": "2020-12-28T18:59:15.191Z",
        "answerContent": content,
        "submissionTime": time,
        "timeSpentInSeconds": 40.543,
        "workerId": worker,
        "workerMetadata": {
            "identityData": {"identityProviderType": "Cognito", "issuer": "https://x", "sub": "a"}
        },
    }


def write_job(folder: Path, lines: list[Any], files: dict[str, list[dict[str, Any]]]) -> Path:
    """A labelling job's output: the manifest's lines, and `iteration-1/0/a.json` → answers."""
    manifest = folder / ground_truth.OUTPUT_MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, given in files.items():
        path = folder / ground_truth.RESPONSES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"answers": given}))
    return folder


def sources(count: int) -> list[dict[str, Any]]:
    return [{"source-ref": f"s3://b/{number}.png"} for number in range(count)]


def test_workers_responses_are_put_to_their_lines(tmp_path: Path) -> None:
    text = {"crowd-classifier": {"label": "dog"}}
    folder = write_job(
        tmp_path / "find-pets",
        sources(12),
        {
            "iteration-1/0/2020-12-28_18:59:58.json": [response("a", CAT), response("b", text)],
            # Ten comes after nine, and a later iteration after an earlier one.
            "iteration-10/11/2.json": [response("a", {"animal": {"label": "late"}})],
            "iteration-9/11/1.json": [response("a", {"animal": {"label": "early"}}), response("c", CAT)],
        },
    )
    (folder / "annotations/worker-response/iteration-1/0/readme.txt").write_text("not a response")
    found = answers.read(Storage(), str(folder))
    assert found.job == "find-pets" and found.attribute is None and len(found.items) == 12
    assert [(one.worker, one.label) for one in found.items[0].answers] == [("a", "cat"), ("b", "dog")]
    assert [(one.worker, one.label) for one in found.items[11].answers] == [("a", "late"), ("c", "cat")]
    assert not any(item.answers for item in found.items[1:11])


def test_of_two_answers_of_a_worker_the_later_counts() -> None:
    early, late = Answer("a", "cat", "2020-01-01T00:00:00Z"), Answer("a", "dog", "2020-01-02T00:00:00Z")
    other = Answer("b", "cat")
    assert ground_truth.latest([late, other, early]) == (late, other)
    assert ground_truth.latest([Answer("a", "cat"), Answer("a", "dog")]) == (Answer("a", "dog"),)


def test_the_input_manifest_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", sources(1), {"iteration-1/1/a.json": [response("a", CAT)]})
    with pytest.raises(UserError, match=r"answers item 1, counted from 0, and .* has 1 lines"):
        answers.read(Storage(), str(folder))
    elsewhere = tmp_path / "input.manifest"
    elsewhere.write_text('{"source": "one"}\r\n{"source": "two\u2028lines"}\r\n\r\n')
    found = answers.read(Storage(), str(folder), str(elsewhere))
    assert [item.source for item in found.items] == ["one", "two\u2028lines"]
    assert found.items[1].answers[0].label == "cat"
    (folder / ground_truth.OUTPUT_MANIFEST).unlink()
    with pytest.raises(UserError, match="name the manifest that the job was given with --manifest"):
        answers.read(Storage(), str(folder))


@pytest.mark.parametrize(
    "value",
    [
        [{"workerId": "a", "label": "cat"}, {"workerId": "b", "label": "dog"}],
        # As AWS's sample of a consolidation function passes it on.
        {
            "annotationsFromAllWorkers": [
                {"workerId": "a", "annotationData": {"content": json.dumps(CAT)}},
                {
                    "workerId": "b",
                    "annotationData": {"content": '{"choice": {"label": "dog"}, "comment": "?"}'},
                },
            ]
        },
    ],
)
def test_a_manifest_may_hold_the_answers(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "pets.manifest"
    lines = [{"source": "x", "votes": value, "split": ["a", "b"]}, {"source": "y", "split": ["c"]}]
    path.write_bytes(ground_truth.manifest(lines))
    found = answers.read(Storage(), str(path))
    assert (found.job, found.attribute) == ("pets", "votes")
    assert [[(one.worker, one.label) for one in item.answers] for item in found.items] == [
        [("a", "cat"), ("b", "dog")],
        [],
    ]
    with pytest.raises(UserError, match=r"line 1, 'split': expected a list of"):
        answers.read(Storage(), str(path), attribute="split")


def test_the_label_has_ground_truths_form() -> None:
    image = Item({"source-ref": "s3://b/1.png"}, (Answer("a", "dog"),))
    given = ground_truth.attributes(
        image, Label(1, "dog", 0.87654321), "species", "animals", "2018-10-18T22:18:13.527256"
    )
    assert given == {
        "species": 1,
        "species-metadata": {
            "class-name": "dog",
            "confidence": 0.8765,
            "type": "groundtruth/image-classification",
            "job-name": "animals",
            "human-annotated": "yes",
            "creation-date": "2018-10-18T22:18:13.527256",
        },
    }
    for item in (
        Item({"source": "The food was delicious"}, (Answer("a", "dog"),)),
        Item({"source-ref": "s3://b/1.txt"}, (Answer("a", "dog", element="crowd-classifier"),)),
    ):
        found = ground_truth.attributes(item, Label(1, "dog", 1.0), "mood", "moods", "")
        assert found["mood-metadata"]["type"] == "groundtruth/text-classification"


def test_the_classes_are_those_given_or_sorted() -> None:
    items = [Item({"source": "x"}, (Answer("a", "dog"), Answer("b", "cat")))]
    assert ground_truth.classes_of(items) == ("cat", "dog")
    assert ground_truth.classes_of(items, ["dog", "owl", "cat"]) == ("dog", "owl", "cat")
    with pytest.raises(UserError, match="'x': the worker 'b' answered 'cat', and the classes are dog, owl"):
        ground_truth.classes_of(items, ["dog", "owl"])
    with pytest.raises(UserError, match="no item has an answer"):
        ground_truth.classes_of([Item({"source": "x"}, ())])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "there is no line"),
        ("\n\n", "there is no line"),
        ('{"source": "a"}\n\n{"source": "b"}', "line 2, is not JSON"),
        ("[1]", "line 1: expected a JSON object with source-ref or source, got \\[1\\]"),
        ('{"image": "a.png"}', "with source-ref or source"),
        ('{"source": 3}', "with source-ref or source"),
        ('{"source": "\\ud800"}', "with source-ref or source"),
        ('{"source": "a", "x": NaN}', "not JSON"),
        ('{"source": "a", "x": 1e999}', "not JSON"),
        ('{"source": "a", "x": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"source": "a"', "not JSON"),
    ],
)
def test_a_manifest_that_is_none(content: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        ground_truth.parse_manifest(content.encode(), "x.manifest")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", 'expected {"answers"'),
        ('{"answers": {}}', 'expected {"answers"'),
        ('{"answers": [1]}', 'expected {"answers"'),
        ('{"answers": [{"workerId": "a"}]}', "an answer with one class.*got None"),
        (
            '{"answers": [{"workerId": "a", "answerContent": {"x": {"labels": ["a", "b"]}}}]}',
            "with one class",
        ),
        ('{"answers": [{"workerId": "a", "answerContent": {"x": {"label": 1}}}]}', "with one class"),
        (
            '{"answers": [{"workerId": "a", "answerContent": {"x": {"label": "a"}, "y": {"label": "b"}}}]}',
            "with one class",
        ),
        ('{"answers": [{"answerContent": {"x": {"label": "a"}}}]}', "expected a workerId, got None"),
    ],
)
def test_a_response_that_is_none(content: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"^0/1.json: .*{expected}"):
        ground_truth.parse_response(content.encode(), "0/1.json")


def test_what_is_neither_folder_nor_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read: .*No such file"):
        answers.read(Storage(), str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"with annotations/worker-response/iteration-N/ITEM/TIME.json"):
        answers.read(Storage(), str(tmp_path))
    with pytest.raises(UserError, match="expected an s3:// URI or a path, got 'http://x/y'"):
        answers.read(Storage(), "http://x/y")
    plain = tmp_path / "plain.manifest"
    plain.write_text('{"source": "a", "label": 0}\n')
    with pytest.raises(
        UserError, match=r"expected one attribute that holds several workers' answers.*got none"
    ):
        answers.read(Storage(), str(plain))
    with pytest.raises(UserError, match="--manifest goes with a labelling job's output folder"):
        answers.read(Storage(), str(plain), str(plain))
    with pytest.raises(UserError, match="--answers goes with a manifest"):
        answers.read(Storage(), str(tmp_path), attribute="votes")
