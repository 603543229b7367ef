"""Ground Truth's augmented manifests: one line of JSON per image, with its labels and their metadata.

Format: SageMaker developer guide, "Labeling Job Output Data" and "Augmented Manifest Files for Training Jobs". A line
has `source-ref` (a URI) and, for each labelling job, an attribute and its `…-metadata`. For a classification, the
attribute is the class number (or any text or number, if Ground Truth did not write it), and the metadata has
`class-name`, `confidence`, `human-annotated` and `type`. For a verification of labels, the type is
groundtruth/label-verification.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.content import beginning
from subset_trainer.data.formats.format import OF_MANIFESTS, Claim, Format, Found, ManifestOptions, Reading
from subset_trainer.data.formats.lists import Finder, lines, refuse_splits
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.decoding import EncodedImages, ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.s3 import SCHEME, S3Images, bucket_and_key
from subset_trainer.data.room import Room
from subset_trainer.data.split_names import splits_of_values
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.understanding import Decision, refuse_open
from subset_trainer.errors import shown

LONGEST_URI = 1_200
"""Bytes. A bucket's name has at most 63 bytes, a key at most 1,024."""
_EACH = 600
"""Bytes that a line takes beside its text or its URI: the label, its place, a path."""
_META = "-metadata"
_MOST_SEEN = 8
_INTERMEDIATE = "/manifests/intermediate/"
_BEGINNING = 1 << 14
_ANY_SUFFIXES = (".json", ".txt", ".log", ".jsonlines", ".data", "")
_FEW = 50
"""Files without a manifest's suffix that are opened to find out."""
_REFERENCES = ("source-ref", "source")
_SPLIT = "split"
_VERIFICATION = "groundtruth/label-verification"
_CLASSIFICATIONS = ("groundtruth/image-classification", "groundtruth/text-classification")
_REFUSED = {
    "text-classification-multilabel": "several classes per text",
    "multilabel": "several classes per image",
    "segmentation": "masks",
    "detection": "boxes",
    "tracking": "boxes",
    "entity": "spans of text",
    "keypoint": "points",
    "polygon": "polygons",
    "point-cloud": "a point cloud",
}
"""The results of types of jobs that give no single class."""
_ACCEPTED = {
    "good",
    "correct",
    "right",
    "yes",
    "true",
    "accept",
    "accepted",
    "approve",
    "approved",
    "ok",
    "pass",
    "valid",
    "1",
}
_REJECTED = {
    "bad",
    "incorrect",
    "wrong",
    "no",
    "false",
    "reject",
    "rejected",
    "fail",
    "failed",
    "invalid",
    "poor",
    "0",
}


@dataclass(frozen=True)
class Label:
    """The label in a line of a manifest.

    `confidence`: 0 to 1, None if not given. `human`: whether a person annotated it, None if not given. `numbered`: the
    line gives the class number only; another line may give its name.
    """

    name: str
    confidence: float | None
    human: bool | None
    numbered: bool = False


@dataclass
class Labels:
    """Reads the labels of a manifest line by line, and counts the examples that are left out by reason.

    `wanted`: the label attribute; None: detected.
    """

    wanted: str | None
    options: ManifestOptions
    counts: Counter[str] = field(default_factory=Counter)
    _attribute: str | None = None
    _seen: dict[str, str] = field(default_factory=dict)
    """The attributes of the lines so far, with the kind of job that gave each."""
    _names: dict[str, str] = field(default_factory=dict)
    """Class number → name, collected from the lines so far."""

    def of(self, entry: Mapping[str, Any]) -> Label | None:
        """The label of a line, or None if the example is left out. Raises ValueError, with a phrase, if malformed."""
        attribute = self.wanted or self._attribute or self._found(entry)
        if self.wanted is None:
            self._check_others(attribute, entry)
        if entry.get(attribute) is None:
            told = [
                value
                for key, value in entry.items()
                if key == attribute + _META or (not attribute and key.endswith(_META))
            ]
            failed = any(isinstance(metadata, dict) and "failure-reason" in metadata for metadata in told)
            self.counts["failed" if failed else "unlabelled"] += 1
            return None
        metadata = entry.get(attribute + _META, {})
        if not isinstance(metadata, dict):
            raise ValueError(f"{attribute}{_META} is {shown(metadata, 60)}; expected an object")
        if (refused := _refused(_kind(entry, attribute))) is not None:
            raise ValueError(f"{attribute} holds {refused}; expected one class")
        if "failure-reason" in metadata:
            self.counts["failed"] += 1
            return None
        number, name = self._class(attribute, entry[attribute], metadata)
        label = Label(
            number if name is None else name,
            _confidence(attribute, metadata.get("confidence")),
            {"yes": True, "no": False}.get(str(metadata.get("human-annotated")).lower()),
            numbered=name is None,
        )
        if self._rejected(entry):
            self.counts["rejected"] += 1
        elif label.confidence is not None and label.confidence < self.options.min_confidence:
            self.counts["unsure"] += 1
        elif self.options.human_only and label.human is False:
            self.counts["by machine"] += 1
        else:
            return label
        return None

    def names(self, kept: Sequence[Label]) -> list[str]:
        """The class names of labels; call it after the last line, because a line may give only a number."""
        return [self._names.get(label.name, label.name) if label.numbered else label.name for label in kept]

    def note(self, kept: Sequence[Label]) -> str:
        """A sentence on the annotators of the kept labels, their confidence, and what was left out."""
        said = []
        for human, who in ((True, "people"), (False, "machines")):
            confidences = [label.confidence for label in kept if label.human is human]
            if confidences:
                known = [value for value in confidences if value is not None]
                mean = f" (mean confidence {sum(known) / len(known):.2f})" if known else ""
                said.append(f"{len(confidences):,} by {who}{mean}")
        said += [f"{self.counts[key]:,} {words} left out" for key, words in self._left().items()]
        return f"labels {self.wanted or self._attribute!r}" + "".join(f"; {part}" for part in said)

    def _left(self) -> dict[str, str]:
        """Why examples are left out, in words, by reason."""
        words = {
            "unlabelled": "without a label",
            "failed": "whose labelling failed",
            "rejected": "rejected in verification",
            "unsure": f"below min_confidence={self.options.min_confidence:g}",
            "by machine": "annotated by machines",
        }
        return {key: said for key, said in words.items() if self.counts[key]}

    def decisions(self, file: str) -> tuple[Decision, ...]:
        """Which attribute is the label, and why how many lines of `file` and others are left out."""
        reason = "label_column names this attribute" if self.wanted else "the attribute that holds one class"
        label = Decision(
            "label", repr(self.wanted or self._attribute), reason, "given" if self.wanted else "certain"
        )
        return label, *(
            Decision("left out", "left out", f"{self.counts[key]:,} of its lines {words}", name=file)
            for key, words in self._left().items()
        )

    @property
    def seen(self) -> str:
        """The attributes of lines in which no label was found, in words."""
        told = [f"{key!r}" + (f" ({kind})" if kind else "") for key, kind in self._seen.items()]
        return f"; its attributes are {', '.join(told)}" if told else ""

    def _found(self, entry: Mapping[str, Any]) -> str:
        if attributes := _classification_attributes(entry):
            told = [name for name in attributes if name + _META in entry]
            candidates = told or attributes
            if len(candidates) > 1:
                raise ValueError(
                    f"the labels may be {' or '.join(map(repr, candidates))}; expected label_column to name one"
                )
            self._attribute = candidates[0]
        for key in entry:
            if not key.endswith(_META) and len(self._seen) < _MOST_SEEN:
                self._seen.setdefault(key, _kind(entry, key))
        # A line without any label does not show which attribute the others use.
        return self._attribute or ""

    def _check_others(self, attribute: str, entry: Mapping[str, Any]) -> None:
        """Raise ValueError if a line has another attribute that may be the label: beside it, or in its place."""
        has = attribute in entry or attribute + _META in entry
        if has and sum(key.endswith(_META) for key in entry) < 2:
            return
        for name in _classification_attributes(entry) if attribute else ():
            if (
                name != attribute
                and (name + _META in entry or not has)
                and _refused(_kind(entry, name)) is None
            ):
                raise ValueError(
                    f"the labels may be {attribute!r} or {name!r}; expected label_column to name one, or one attribute "
                    "in all lines"
                )

    def _class(self, attribute: str, value: Any, metadata: Mapping[str, Any]) -> tuple[str, str | None]:
        """The class number, or the value in its place, and the class name if the line has it."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            raise ValueError(f"{attribute} is {shown(value, 60)}; expected a class: its number or name")
        number = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        name = metadata.get("class-name")
        if name is None and isinstance(metadata.get("class-map"), dict):
            name = metadata["class-map"].get(number)
        if name is None:
            return number, None
        if not isinstance(name, str) or not name:
            raise ValueError(f"class-name is {shown(name, 60)}; expected a text")
        if self._names.setdefault(number, name) != name:
            raise ValueError(
                f"class {number} is called {name!r}, and {self._names[number]!r} before; expected one name"
            )
        return number, name

    def _rejected(self, entry: Mapping[str, Any]) -> bool:
        for key, metadata in entry.items():
            if not (
                key.endswith(_META) and isinstance(metadata, dict) and metadata.get("type") == _VERIFICATION
            ):
                continue
            verdict = str(metadata.get("class-name", "")).strip().lower()
            if self.options.accepted:
                if verdict not in self.options.accepted:
                    return True
            elif verdict in _REJECTED:
                return True
            elif verdict not in _ACCEPTED:
                raise ValueError(
                    f"{key} has the verdict {shown(verdict, 60)}, which is ambiguous; expected verified_as to "
                    "name the verdicts whose examples are kept"
                )
        return False


def read_manifest(
    channel: Channel,
    files: tuple[str, ...],
    images: tuple[str, ...],
    attribute: str | None,
    options: ManifestOptions,
) -> LabelledImages:
    """Read the images of the channel that its manifests name, with their labels.

    An S3 URI is matched to an image by its last parts, unless the options say that it is read from S3.

    Args:
        images: the channel's image files.
        attribute: the label attribute; None: detected.

    Raises:
        UserError: a line is not a JSON object or has no class, or an image does not exist; the message names the line.
    """
    expected = "lines of JSON objects with source-ref and a label"
    labels, finder = Labels(attribute, options), Finder(images)
    paths: dict[str, str] = {}
    kept: list[Label] = []
    for file, number, reference, label in labelled_lines(channel, files, "source-ref", labels, expected):
        from_s3 = options.from_s3 and reference.startswith(SCHEME)
        path = _object(channel, file, number, reference) if from_s3 else finder.find(reference)
        if path is None:
            raise channel.error(
                f"'{file}', line {number:,}: {shown(reference)} is not an image of the channel, or several have this "
                "name; expected the manifest and its images below one S3 prefix, or s3_images=true to read s3:// "
                "URIs from S3."
            )
        if path in paths:
            both = f"{paths[path]} and " if paths[path] != reference else "twice "
            raise channel.error(
                f"'{file}', line {number:,}: {both}{reference} are the image '{path}'; expected each once."
            )
        paths[path] = reference
        kept.append(label)
    refuse_splits(
        channel, [path.removeprefix(SCHEME).partition("/")[2] if options.from_s3 else path for path in paths]
    )
    if options.from_s3:
        source: EncodedImages = S3Images(list(paths), channel.root, channel.name)
    else:
        source = ImageFiles([Path(path) for path in paths], channel.root, channel.name)
    references = np.array([reference.encode("utf-8", "backslashreplace") for reference in paths.values()])
    return replace(
        labelled(channel.name, source, kept, labels),
        references=references,
        decisions=labels.decisions(files[0]),
    )


def _object(channel: Channel, file: str, number: int, uri: str) -> str:
    if not all(bucket_and_key(uri)) or "\0" in uri or len(uri.encode()) > LONGEST_URI:
        raise channel.error(
            f"'{file}', line {number:,}: {shown(uri)} is not the URI of an S3 object; expected s3://bucket/key."
        )
    return uri


def labelled_lines(
    channel: Channel, files: tuple[str, ...], source: str, labels: Labels, expected: str
) -> Iterator[tuple[str, int, str, Label]]:
    """(file, line, value of the attribute `source`, label) of each example that is not left out.

    Raises:
        UserError: a line is malformed, and the message adds `expected`; or no example is left, or there is no room.
    """
    room = Room(channel)
    kept: list[Label] = []
    splits: dict[str, None] = {}
    for file in files:
        for number, text in lines(channel, file, expected):
            try:
                if number == 1 and text.startswith("[") and not text.startswith("[["):
                    raise ValueError("the file is a JSON list rather than one object in each line")
                entry = json_object(text)
                splits.setdefault(str(entry.get(_SPLIT, "")))
                value = entry.get(source)
                if not isinstance(value, str):
                    raise ValueError(f"{source} is {shown(value, 60)}")
                label = labels.of(entry)
            except ValueError as error:
                raise channel.error(f"'{file}', line {number:,}: {error}; expected {expected}.") from error
            if label is not None:
                kept.append(label)
                room.take(_EACH + sys.getsizeof(value), f"'{file}', with its lines up to {number:,},")
                yield file, number, value, label
    if (several := splits_of_values(_SPLIT, splits)) is not None:
        refuse_open(channel.name, [several])
    if not kept:
        raise channel.error(
            f"no example of '{files[0]}' is left ({labels.note(kept)}{labels.seen}); expected labelled ones, or "
            "label_column to name the attribute with the class."
        )


def labelled(channel: str, images: EncodedImages, kept: list[Label], labels: Labels) -> LabelledImages:
    """The images with the kept labels, and with weights if the options ask for them."""
    codes, classes = coded(labels.names(kept))
    note = f"{channel} channel: {len(kept):,} images of {len(classes)} classes in a manifest, {labels.note(kept)}."
    return LabelledImages(images, codes, classes, (note,), weights_of(kept, labels.options))


def weights_of(kept: Sequence[Label], options: ManifestOptions) -> np.ndarray | None:
    """[N] float32: the confidences, 1 where none is given; None if examples are not weighted."""
    if not options.weighted:
        return None
    return np.array([1.0 if label.confidence is None else label.confidence for label in kept], np.float32)


def json_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError, with a phrase, if it is anything else."""
    try:
        entry = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"it is a JSON {type(entry).__name__}, not an object")
    return entry


def _classification_attributes(entry: Mapping[str, Any]) -> list[str]:
    """The attributes that may be the label: not the source, not metadata, and not results of other kinds of jobs."""
    single, custom, refused = [], [], []
    for key, value in entry.items():
        kind = _kind(entry, key)
        if key in (*_REFERENCES, _SPLIT) or key.endswith(_META) or kind == _VERIFICATION:
            continue
        if _refused(kind) is not None:
            refused.append(key)
        elif not key.endswith("-ref") and (not kind or kind in _CLASSIFICATIONS):
            single.append(key)
        elif not key.endswith("-ref") and isinstance(value, str | int | None):
            custom.append(key)
    # Single-class attributes come first. Unusable ones come before none, because they allow a better error message.
    return single or custom or refused


def _refused(kind: str) -> str | None:
    """What a job of this kind gives, if that is not one class; None otherwise."""
    return next((held for word, held in _REFUSED.items() if word in kind), None)


def _kind(entry: Mapping[str, Any], key: str) -> str:
    metadata = entry.get(key + _META)
    return str(metadata.get("type", "")) if isinstance(metadata, dict) else ""


def _confidence(attribute: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{attribute} has the confidence {shown(value, 60)}; expected 0 to 1")
    return float(value)


def read_text_manifest(
    channel: Channel, files: tuple[str, ...], attribute: str | None, options: ManifestOptions
) -> Texts:
    """Read texts that manifests hold as `source`, with their labels: see :func:`read_manifest`.

    Raises:
        UserError: as there, or for a line without `source`.
    """
    expected = (
        "lines of JSON objects with source (or with source-ref, and the images or s3_images=true) and a label"
    )
    labels = Labels(attribute, options)
    found = list(labelled_lines(channel, files, "source", labels, expected))
    kept = [label for *_, label in found]
    places = [(file, number) for file, number, *_ in found]
    codes, classes = coded(labels.names(kept))
    note = f"{channel.name} channel: {len(kept):,} texts of {len(classes)} classes in a manifest, {labels.note(kept)}."
    ids = Ids.of_lines(files, len(places), lambda: places)
    return Texts(
        np.array([text for _, _, text, _ in found], object),
        codes,
        classes,
        ids,
        (note,),
        weights_of(kept, options),
    )


class Manifest(Format):
    """Augmented manifests of images in the channel or in S3, or of texts in the manifest itself."""

    name = "manifest"
    heeds = ("label_column", *OF_MANIFESTS)
    expected = ("images with ", "a manifest", "")

    def recognise(self, channel: Channel) -> Claim | None:
        # JSON and text can hold anything, so a file counts as a manifest only if it begins like one.
        named = (*channel.ending(".manifest"), *channel.ending(".jsonl", ".ndjson"))
        others = channel.of_suffixes(*_ANY_SUFFIXES)
        may_be = (*named, *(others if len(others) <= _FEW else ()))
        files = tuple(f for f in may_be if f.lower().endswith(".manifest") or _names_a_source(channel, f))
        beside = tuple(file for file in files if _INTERMEDIATE in f"/{file}") if _is_output(files) else ()
        return (
            Claim(tuple(file for file in files if file not in beside), channel.images, beside)
            if files
            else None
        )

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        options = reading.options
        if claim.images or options.manifest.from_s3:
            images = read_manifest(channel, claim.files, claim.images, options.label_column, options.manifest)
            return Found(self, images, notes=images.notes, decisions=images.decisions)
        texts = read_text_manifest(channel, claim.files, options.label_column, options.manifest)
        return Found(self, texts, notes=texts.notes)


def _is_output(files: Sequence[str]) -> bool:
    """Whether the manifests are the output of a labelling job, which repeats what its iterations wrote."""
    return any("/manifests/output/" in f"/{file}" for file in files)


def _names_a_source(channel: Channel, file: str) -> bool:
    """Whether the first line is one of a manifest: an object with source-ref, or with a text as source and more."""
    start = beginning(channel.root / file, _BEGINNING).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):
        return b'"source-ref"' in start
    try:
        entry = json_object(start.partition(b"\n")[0])
    except ValueError:
        # Damaged, or longer than what was read.
        return start.startswith(b"{") and b'"source-ref"' in start
    text = isinstance(entry.get("source"), str) and len(entry) > 1 and "file_name" not in entry
    return isinstance(entry.get("source-ref"), str) or (text and not channel.images)
