"""Reads workers' answers from a labelling job's output folder or from a manifest."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from deploy.aws.storage import Storage, joined
from deploy.labels import ground_truth
from deploy.labels.ground_truth import Item
from subset_trainer.errors import UserError


@dataclass(frozen=True)
class Labelling:
    """Items and the workers' answers to them."""

    items: list[Item]
    """Items of the manifest, in its order."""
    job: str
    """Name of the labelling job or of the manifest."""
    attribute: str | None
    """Attribute of the manifest's lines that has the answers; None if they come from a labelling job's folder."""


def read(
    storage: Storage, place: str, manifest: str | None = None, attribute: str | None = None
) -> Labelling:
    """Read a labelling job's output folder, or a manifest with answers.

    Args:
        storage: reads local files and S3.
        place: the folder, which has `annotations/worker-response` in it, or the manifest.
        manifest: only for a folder: the input manifest of the job, because responses give items by line number. By
            default it is the output manifest in the folder, which has the same lines.
        attribute: only for a manifest: the attribute that has the answers; by default the only one that does.

    Raises:
        UserError: the folder or manifest does not exist or has an unexpected form, or an option does not apply to it.
    """
    name = PurePosixPath(place.rstrip("/")).name
    if not storage.is_folder(place):
        if manifest is not None:
            raise UserError(
                f"--manifest goes with a labelling job's output folder, and {place!r} is not a folder"
            )
        lines = ground_truth.parse_manifest(storage.read(place), place)
        items, found = ground_truth.with_answers(lines, attribute, place)
        return Labelling(items, name.split(".")[0], found)
    if attribute is not None:
        raise UserError(f"--answers goes with a manifest, and {place!r} is a folder")
    responses = joined(place, ground_truth.RESPONSES)
    names = [name for name in storage.below(responses) if ground_truth.place_of_response(name)]
    if not names:
        raise UserError(
            f"{place!r}: expected a labelling job's output folder, with "
            f"{ground_truth.RESPONSES}/iteration-N/ITEM/TIME.json"
        )
    lines_of = manifest or joined(place, ground_truth.OUTPUT_MANIFEST)
    try:
        content = storage.read(lines_of)
    except UserError as error:
        if manifest is not None:
            raise
        raise UserError(f"{error}: name the manifest that the job was given with --manifest") from error
    lines = ground_truth.parse_manifest(content, lines_of)
    contents = storage.read_all(names)
    return Labelling(
        ground_truth.with_responses(lines, zip(names, contents, strict=True), lines_of), name, None
    )
