"""Which files count, and which format they are taken for."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subset_trainer.data import load_splits
from subset_trainer.data.channels import IMAGE_SUFFIXES
from subset_trainer.data.formats.class_folders import class_folders
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import EXPECTED, detect, open_channel
from subset_trainer.errors import UserError


def put(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def layout_of(root: Path) -> tuple[str, tuple[str, ...], str]:
    channel = open_channel("training", root)
    layout = detect(channel)
    images = layout.files[0].lower().endswith(IMAGE_SUFFIXES)
    folder = class_folders(channel, layout.files, channel.images, "image") if images else ""
    return layout.format.name, layout.files, folder


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as error:
        read(open_channel("training", root), Options(), 1 << 30)
    return str(error.value)


def test_clutter_is_ignored(tmp_path: Path) -> None:
    put(
        tmp_path,
        ".DS_Store",
        "a/.DS_Store",
        "a/Thumbs.db",
        "__MACOSX/a/1.png",
        ".git/a/2.png",
        "a/1.png",
        "b/1.PNG",
    )
    put(tmp_path, "_SUCCESS", "a_$folder$", "b/marker", content=b"")
    assert layout_of(tmp_path) == ("folders", ("a/1.png", "b/1.PNG"), "")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/1.jpeg", "b/deep/er/2.webp"], "folders"),
        (["part-0.csv", "part-1.csv.gz", "_SUCCESS"], "csv"),
        (["t.tsv"], "csv"),
        (["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"], "cifar"),
        (["train.bin", "fine_label_names.txt"], "cifar"),
        (["cifar-100-python.tar.gz"], "archives"),
        (["digits.npz"], "npz"),
    ],
)
def test_formats(tmp_path: Path, names: list[str], expected: str) -> None:
    assert layout_of(put(tmp_path, *names))[0] == expected


def test_single_folders_are_descended(tmp_path: Path) -> None:
    assert layout_of(put(tmp_path, "data/train/cat/1.png", "data/train/dog/1.png"))[2] == "data/train/"


def test_a_single_class_with_folders_inside_is_not_descended(tmp_path: Path) -> None:
    # cat/1.png shows that cat is a class, whatever other folders it has.
    assert layout_of(put(tmp_path, "cat/1.png", "cat/more/2.png"))[2] == ""


def test_folders_named_like_splits(tmp_path: Path) -> None:
    text = complaint(put(tmp_path, "train/cat/1.png", "test/cat/2.png"))
    assert text == (
        "training channel: split: the folders name test and training; expected one split in a channel, and each "
        "other split as a channel of its own ('test', 'train')."
    )


def test_absent(tmp_path: Path) -> None:
    assert f"training channel: directory {tmp_path / 'no'} does not exist" in complaint(tmp_path / "no")


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    put(tmp_path, "f")
    assert "is a file; expected a directory" in complaint(tmp_path / "f")


def test_empty(tmp_path: Path) -> None:
    assert complaint(tmp_path) == f"training channel: no files in {tmp_path}; expected {EXPECTED}."


def test_only_clutter(tmp_path: Path) -> None:
    assert "but '_SUCCESS', which hold no data" in complaint(put(tmp_path, "_SUCCESS"))


def test_unknown_files_are_listed(tmp_path: Path) -> None:
    text = complaint(put(tmp_path, "a.orc", "b.json", "c.txt", "d.txt"))
    assert "found 'a.orc', 'b.json', 'c.txt' and 1 more; expected class folders" in text


def test_two_formats(tmp_path: Path) -> None:
    assert "several formats ('a/1.png' and 'table.csv')" in complaint(put(tmp_path, "a/1.png", "table.csv"))


def test_images_without_folders(tmp_path: Path) -> None:
    assert "image '1.png' lies directly in the channel; expected one folder a class" in complaint(
        put(tmp_path, "1.png")
    )


def test_image_outside_the_class_folders(tmp_path: Path) -> None:
    text = complaint(put(tmp_path, "a/1.png", "b/1.png", "stray.png"))
    assert text == "training channel: image 'stray.png' lies outside the class folders 'a', 'b'."


def test_other_files_are_noted(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / f"{number}.png")
    put(tmp_path, "README.md", "a/notes.txt")
    decisions = load_splits({"training": tmp_path}).understandings[0].decisions
    out = {decision.name: decision.reason for decision in decisions if decision.about == "left out"}
    assert out == {"README.md": "a description of the data", "a/notes.txt": "it fits no format (.txt)"}


def test_links_within_the_channel_are_followed(tmp_path: Path) -> None:
    channel = put(tmp_path / "channel", "dog/1.png", "cat/1.png", "store/3")
    (channel / "cat" / "2.png").symlink_to("1.png")
    (channel / "dog" / "3.png").symlink_to(channel / "store" / "3")
    (tmp_path / "linked").symlink_to(channel)
    expected = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png")
    assert layout_of(channel)[1] == layout_of(tmp_path / "linked")[1] == expected


@pytest.mark.parametrize(
    ("link", "target", "expected"),
    [
        ("cat/2.png", "../../private.png", "leads out of the channel, to '{root}/private.png'"),
        ("cat/2.png", "/etc/passwd", "leads out of the channel, to '/etc/passwd'"),
        ("bird", "../store", "leads out of the channel, to '{root}/store'"),
        ("bird", "/", "leads out of the channel, to '/'"),
        ("cat/again", "..", "leads to a folder"),
        ("bird", "cat", "leads to a folder"),
        ("cat/2.png", "3.png", "leads to nothing"),
        ("cat/2.png", "2.png", "leads to nothing"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, link: str, target: str, expected: str) -> None:
    put(tmp_path, "private.png", "store/1.png")
    channel = put(tmp_path / "channel", "dog/1.png", "cat/1.png")
    (channel / link).symlink_to(target)
    assert complaint(channel) == (
        f"training channel: the symbolic link '{link}' {expected.format(root=tmp_path)}; expected files, or links to "
        "files of the channel."
    )


def test_links_of_others_are_nobodys_concern(tmp_path: Path) -> None:
    """As an editor's lock file, which is a link to nothing."""
    channel = put(tmp_path / "channel", "dog/1.png", "cat/1.png")
    (channel / "cat" / ".#1.png").symlink_to("me@here.123")
    assert layout_of(channel)[1] == ("cat/1.png", "dog/1.png")


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    """Reading them may never end."""
    channel = put(tmp_path / "channel", "dog/1.png", "cat/1.png")
    os.mkfifo(channel / "cat" / "2.png")
    assert complaint(channel) == (
        "training channel: 'cat/2.png' is a pipe, a socket or a device; expected plain files."
    )
