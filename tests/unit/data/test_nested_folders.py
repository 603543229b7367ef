"""Folders that may not be the classes: nested ones, kinds of files, masks, and empty ones; in archives, too."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from subset_trainer.data.channels import LabelFolder
from subset_trainer.data.formats.format import Options
from tests.unit.data.test_layout import archive, found, image, left_out, put, refused


def pictures(root: Path, names: list[str]) -> Path:
    return put(root, {name: image(number) for number, name in enumerate(names)})


def texts(root: Path, names: list[str]) -> Path:
    return put(root, {name.replace(".jpg", ".txt"): f"text number {n}" for n, name in enumerate(names)})


def tar(root: Path, names: list[str]) -> Path:
    return archive(root / "data.tar", {name: image(number) for number, name in enumerate(names)})


FORMS = (pictures, texts, tar)
Write = Callable[[Path, list[str]], Path]


def names(*folders: str, each: int = 3) -> list[str]:
    return [f"{folder}/{folder.replace('/', '-')}-{n}.jpg" for folder in folders for n in range(each)]


def classes(root: Path, level: LabelFolder | None = None) -> dict[str, int]:
    return dict(found(root, Options(label_folder=level)).understanding("training").classes)


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("wrapped", ["", "data/"])
def test_the_same_folders_in_each_are_refused_and_either_level_may_be_chosen(
    tmp_path: Path, write: Write, wrapped: str
) -> None:
    write(
        tmp_path, names(*(f"{wrapped}s{subject}/{mood}" for subject in (1, 2) for mood in ("happy", "sad")))
    )
    refused(tmp_path, "'happy', 'sad'", "set label_folder=outer or label_folder=inner")
    assert classes(tmp_path, "outer") == {"s1": 6, "s2": 6}
    assert classes(tmp_path, "inner") == {"happy": 6, "sad": 6}


@pytest.mark.parametrize("write", FORMS)
def test_words_for_folders_in_each_may_be_the_classes(tmp_path: Path, write: Write) -> None:
    write(tmp_path, names("animal/cat", "animal/dog", "vehicle/bus", "vehicle/car"))
    refused(tmp_path, "folders of its own", "set label_folder=outer or label_folder=inner")
    assert list(classes(tmp_path, "inner")) == ["bus", "car", "cat", "dog"]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize(
    "folders",
    [
        ("ill/patient1", "ill/patient2", "well/patient3", "well/patient4"),
        ("ill/images", "well/images"),
        ("ill/left", "ill/right", "well"),
        ("ill", "well"),
    ],
)
def test_folders_of_patients_and_single_folders_are_parts_of_their_class(
    tmp_path: Path, write: Write, folders: tuple[str, ...]
) -> None:
    write(tmp_path, names(*folders))
    assert list(classes(tmp_path)) == ["ill", "well"]


@pytest.mark.parametrize("write", [pictures, tar])
@pytest.mark.parametrize(
    "folders",
    [
        ("images", "masks"),
        ("JPEGImages", "SegmentationClass", "SegmentationObject"),
        ("original", "augmented"),
        ("data/images", "data/thumbnails"),
        ("ill/images", "ill/masks", "well/images", "well/masks"),
    ],
)
def test_kinds_of_files_are_no_classes(tmp_path: Path, write: Write, folders: tuple[str, ...]) -> None:
    write(tmp_path, names(*folders))
    refused(tmp_path, "kinds of files rather than of classes", "label_folder=outer if they are classes")
    assert len(classes(tmp_path, "outer")) > 1


@pytest.mark.parametrize(
    "folders", [("mask", "no_mask"), ("raw", "cooked"), ("crop", "weed"), ("map", "photo", "text")]
)
def test_classes_with_such_names_stay_classes(tmp_path: Path, folders: tuple[str, ...]) -> None:
    pictures(tmp_path, names(*folders))
    assert list(classes(tmp_path)) == sorted(folders)


@pytest.mark.parametrize("write", [pictures, tar])
@pytest.mark.parametrize("mask", ["{}_mask", "{}-mask", "{}_mask_1", "{}_segmentation"])
def test_masks_beside_their_images_are_no_examples(tmp_path: Path, write: Write, mask: str) -> None:
    images = names("ill", "well")
    write(tmp_path, [*images, *(f"{mask.format(name[:-4])}.jpg" for name in images)])
    refused(tmp_path, "6 of 12 files are named as masks of others")


def test_an_empty_folder_is_said_once_for_all(tmp_path: Path) -> None:
    pictures(tmp_path, names("cat", "dog"))
    for number in range(30):
        (tmp_path / f"void/{number:02}").mkdir(parents=True)
    assert left_out(tmp_path) == ["void/00/"]
    assert any("30 such folders" in decision.reason for decision in found(tmp_path).decisions)


@pytest.mark.parametrize("member", ["eel/{}.jpg", "data/eel/{}.jpg", "eel{}.jpg"])
def test_a_zip_archive_with_further_images_is_refused(tmp_path: Path, member: str) -> None:
    put(tmp_path, {f"{label}/{n}.jpg": image(n) for label in ("cat", "dog") for n in range(3)})
    with zipfile.ZipFile(tmp_path / "eel.zip", "w") as packed:
        for number in range(3):
            packed.writestr(member.format(number), image(number))
    refused(tmp_path, "'eel.zip': it holds images that are not in the folders", "expected it unpacked")


def test_a_zip_archive_of_what_lies_beside_it_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, {f"{label}/{n}.jpg": image(n) for label in ("cat", "dog") for n in range(3)})
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for label in ("cat", "dog"):
            for number in range(3):
                packed.writestr(f"all/{label}/{number}.jpg", image(number))
                packed.writestr(f"__MACOSX/all/{label}/._{number}.jpg", b"")
    assert left_out(tmp_path) == ["all.zip"]
