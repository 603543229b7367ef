"""Files beside images that annotate them in a form that is not read: lists of classes, and the results of other tasks.

Forms: COCO (cocodataset.org, "Data format"), Pascal VOC's XML, and YOLO's text files (docs.ultralytics.com, "Object
Detection Datasets").
"""

import re
from collections.abc import Sequence

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, some
from subset_trainer.data.content import beginning
from subset_trainer.data.understanding import Decision

_IMAGE_NAME = re.compile(
    rf"""[^\s"'<>,;:|]+?(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))})\b""", re.IGNORECASE
)
_TELLS_CLASSES = re.compile(
    r"""["']?(label|class|category|target|tag|annotation|species|breed)(s|es|ies|_id|_ids|_name|_index)?["']?\s*[:=]""",
    re.IGNORECASE,
)
_LISTS = (".json", ".jsonl", ".ndjson", ".txt", ".yaml", ".yml", ".xml")
_HEAD = 1 << 16


def rival_lists(channel: Channel, images: Sequence[str], folder: str) -> list[Decision]:
    """The open decisions on files beside class folders that name the images with classes, in no form that is read.

    The folders may then be no classes. A file that contains the name of every class folder as a word of its own agrees
    with them.
    """
    beside = [file for file in channel.ending(*_LISTS) if "/" not in file.removeprefix(folder)]
    if not beside:
        return []
    known = {image.rsplit("/", 1)[-1] for image in images}
    names = {image[len(folder) :].split("/", 1)[0] for image in images}
    decisions = []
    for file in beside:
        head = beginning(channel.root / file, _HEAD).decode("utf-8", "replace")
        named = {found.rsplit("/", 1)[-1] for found in _IMAGE_NAME.findall(head)} & known
        if not named:
            continue
        apart = set(re.split(r"[\s\"',;:|\[\]{}]+", head))
        if names <= apart or not (_TELLS_CLASSES.search(head) or _pairs(head)):
            continue
        decisions.append(
            Decision(
                "label",
                "the classes",
                f"it names images, such as '{sorted(named)[0]}', and classes in a form that is not read, so the "
                f"folders {some(sorted(names))} may be no classes; expected a labels.csv or a manifest in its place, "
                "or only the class folders",
                "open",
                name=file,
            )
        )
    return decisions


def _pairs(head: str) -> bool:
    """Whether lines are an image and one word or number, as in `img/0.jpg 3`, that others have as well."""
    rows = [row.split() for row in head.replace(",", " ").replace("\t", " ").splitlines()[:-1] if row.strip()]
    return (
        bool(rows)
        and all(len(row) == 2 for row in rows)
        and len({row[1] for row in rows}) <= max(2, len(rows) / 2)
    )


_TABLES = (
    ".xlsx",
    ".xls",
    ".ods",
    ".parquet",
    ".pq",
    ".mat",
    ".pkl",
    ".pickle",
    ".h5",
    ".hdf5",
    ".npy",
    ".npz",
    ".db",
)
_LABELS = re.compile(
    r"(label|class|categor|target|annotation|ground[_ -]?truth|metadata|train|list|id)", re.IGNORECASE
)
_YOLO = re.compile(r"\d+( -?\d*\.?\d+(e-?\d+)?){4,}")
_COCO = ('"bbox"', '"segmentation"', '"image_id"', '"keypoints"')
_OPENED = 50


def annotated_by(channel: Channel, images: Sequence[str]) -> str | None:
    """For images that lie in no class folders: a phrase on the file that annotates them, and why it is not read."""
    stems = {image.rsplit("/", 1)[-1].rpartition(".")[0] for image in images}
    known = {image.rsplit("/", 1)[-1] for image in images}
    for file in channel.ending(*_LISTS)[:_OPENED]:
        base = file.rsplit("/", 1)[-1]
        head = beginning(channel.root / file, _HEAD).decode("utf-8", "replace")
        if task := _task(base, head, base.rpartition(".")[0] in stems):
            return f"'{file}' holds {task}, which classify no image; expected one class for each image"
        named = {found.rsplit("/", 1)[-1] for found in _IMAGE_NAME.findall(head)} & known
        if named:
            return f"'{file}' names images, such as '{sorted(named)[0]}', in a form that is not read"
    for file in channel.ending(*_TABLES):
        if _LABELS.search(file.rsplit("/", 1)[-1]):
            return f"'{file}' may hold their classes, in a form that is not read beside images"
    return None


def _task(base: str, head: str, of_image: bool) -> str | None:
    """The result of another task than classification that a file holds, by its beginning."""
    if (
        base.endswith(".json")
        and '"images"' in head
        and ('"categories"' in head or any(key in head for key in _COCO))
    ):
        return "COCO's annotations (boxes, masks or captions)"
    if base.endswith(".xml") and "<annotation" in head and ("<object" in head or "<bndbox" in head):
        return "Pascal VOC's annotations (boxes)"
    lines = head.splitlines()[:20]
    if (
        base.endswith(".txt")
        and of_image
        and lines
        and all(_YOLO.fullmatch(line.strip()) for line in lines if line)
    ):
        return "YOLO's annotations (boxes)"
    return None
