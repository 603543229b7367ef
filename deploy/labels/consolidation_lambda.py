"""A Lambda function that consolidates annotations for a Ground Truth labelling job, using crowd-kit.

Its handler is `deploy.labels.consolidation_lambda.handler`. Ground Truth calls it with a batch of data objects and the
workers' annotations. The function returns a label for each object, in the form of Ground Truth's own classification
tasks. Two environment variables configure it:

- METHOD: `dawid-skene` (the default) or `majority`. Dawid and Skene's model estimates the workers from the batch alone.
- CLASSES: the classes in the order of their indices, as a JSON list or separated by commas. It is needed for jobs that
  send no `labelCategories`, such as jobs created in the console.

The function's role needs s3:GetObject on the labelling job's output folder, where Ground Truth stores the payload.
Source: "Pre-annotation and post-annotation Lambda functions" in SageMaker's developer guide.
"""

import datetime
import os
from collections.abc import Mapping
from typing import Any

from deploy.aws.storage import Storage
from deploy.labels import consolidation, ground_truth
from deploy.labels.ground_truth import Item
from subset_trainer.errors import UserError, shown

EVENT = ("labelingJobArn", "labelAttributeName", "payload")


def handler(event: Mapping[str, Any], context: object = None) -> list[dict[str, Any]]:
    """Consolidate a batch.

    Args:
        event: `labelingJobArn`, `labelAttributeName`, `payload.s3Uri`, `labelCategories` (which may be null).
        context: Lambda's context, unused.

    Returns:
        One result for each data object with an answer. Objects without an answer are left out and named in the log;
        Ground Truth counts them as failed.

    Raises:
        UserError: the event or the payload has another form, or the classes are unknown.
    """
    missing = [name for name in EVENT if not event.get(name)]
    if (
        missing
        or not isinstance(event["payload"], dict)
        or not isinstance(event["payload"].get("s3Uri"), str)
    ):
        raise UserError(
            "expected Ground Truth's event for annotation consolidation, with labelingJobArn, labelAttributeName and "
            f"payload.s3Uri, got {shown(dict(event))}"
        )
    method = os.environ.get("METHOD") or consolidation.METHODS[0]
    if method not in consolidation.METHODS:
        raise UserError(f"METHOD={method}: expected one of {', '.join(consolidation.METHODS)}")
    storage = Storage()
    objects = _objects(storage, event["payload"]["s3Uri"])
    answered = {name: item for name, item in objects.items() if item.answers}
    for name in (name for name in objects if name not in answered):
        print(f"{name}: no readable answer, so no label")
    if not answered:
        return []
    items = list(answered.values())
    classes = ground_truth.classes_of(items, _classes(event))
    labels, ties = consolidation.consolidate(items, classes, method)
    for tie in ties:
        print(f"{list(answered)[tie]}: a tie; it gets the first of its classes")
    job = str(event["labelingJobArn"]).rpartition("/")[2]
    created = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
    return [
        {
            "datasetObjectId": name,
            "consolidatedAnnotation": {
                "content": ground_truth.attributes(item, label, event["labelAttributeName"], job, created)
            },
        }
        for (name, item), label in zip(answered.items(), labels, strict=True)
        if label is not None
    ]


def _classes(event: Mapping[str, Any]) -> list[str]:
    """Return the classes in the order of their indices.

    They are not taken from the batch's answers, because then each batch could number the classes differently.
    """
    given = event.get("labelCategories")
    if not given:
        text = os.environ.get("CLASSES", "")
        if text.startswith("["):
            given = ground_truth.parse_json(text, "CLASSES")
        else:
            given = [part.strip() for part in text.split(",") if part.strip()]
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(one, str) for one in given)
        or len(set(given)) < len(given)
    ):
        raise UserError(
            "the labelling job sends no labelCategories, which give the classes' order: set the function's environment "
            f'variable CLASSES to their names, such as ["cat", "dog"], each once; got {shown(given)}'
        )
    return given


def _objects(storage: Storage, uri: str) -> dict[str, Item]:
    """Read the batch: id of the data object → item with its answers."""
    payload = ground_truth.parse_json(storage.read(uri), uri)
    if not isinstance(payload, list):
        raise UserError(f"{uri}: expected a list of data objects, got {shown(payload)}")
    found = {}
    for entry in payload:
        data = entry.get("dataObject") if isinstance(entry, dict) else None
        if not isinstance(data, dict) or not isinstance(entry.get("annotations"), list):
            raise UserError(f"{uri}: expected an object with dataObject and annotations, got {shown(entry)}")
        name = str(entry.get("datasetObjectId"))
        line = {"source-ref": data["s3Uri"]} if data.get("s3Uri") else {"source": data.get("content", "")}
        answers = []
        for annotation in entry["annotations"]:
            try:
                answers.append(ground_truth.annotation(annotation, f"{uri}, object {name}", storage.read))
            except UserError as error:
                # One unreadable annotation must not fail the whole batch.
                print(error)
        found[name] = Item(line, ground_truth.latest(answers))
    return found
