"""Where a labelling's answers are found: in a labelling job's output folder, or in a manifest."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from deploy.aws.storage import Storage, joined
from deploy.labels import ground_truth
from deploy.labels.ground_truth import Item
from subset_trainer.errors import UserError


@dataclass(frozen=True)
class Labelling:
    """What was asked and answered."""

    items: list[Item]
    """Those of the manifest, in its order."""
    job: str
    """The labelling job's name, or the manifest's."""
    attribute: str | None
    """Where the manifest holds the answers; None where they are workers' responses."""


def read(
    storage: Storage, place: str, manifest: str | None = None, attribute: str | None = None
) -> Labelling:
    """Read it.

    Args:
        place: a labelling job's output folder, which holds `annotations/worker-response`, or a manifest with answers.
        manifest: of a folder, the manifest that the job was given, whose lines the responses count; by default the
            output manifest in the folder, which has the same lines.
        attribute: of a manifest, where its lines hold the answers; by default the only one that does.

    Raises:
        UserError: there is no such thing, or something else in it.
    """
    name = PurePosixPath(place.rstrip("/")).name
    if not storage.is_folder(place):
        if manifest is not None:
            raise UserError(
                f"--manifest goes with a labelling job's output folder, and {place!r} is a file or nothing"
            )
        lines = ground_truth.parse_manifest(storage.read(place), place)
        items, found = ground_truth.with_answers(lines, attribute, place)
        return Labelling(items, name.split(".")[0], found)
    if attribute is not None:
        raise UserError(f"--answers: of a manifest, and {place!r} is a folder")
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
