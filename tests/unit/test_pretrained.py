"""Weights to begin with: whose they are, what is taken of them, and what is refused."""

import io
import json
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from subset_trainer import artifacts
from subset_trainer.config import Hyperparameters
from subset_trainer.data import ImageKind
from subset_trainer.errors import UserError
from subset_trainer.models import Classifier, build
from subset_trainer.pretrained import image_models
from subset_trainer.training import optimizer
from tests.unit.data.test_hostile import bomb

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
IMAGES = ImageKind(("cat", "dog"), (8, 8), MEAN, STD)


def cnn(seed: int, classes: int = 2) -> Classifier:
    torch.manual_seed(seed)
    return build("cnn", (3, 8, 8), classes, MEAN, STD)


def weights(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in classifier.network.state_dict().items()}


def head_of(classifier: Classifier) -> set[str]:
    last = max(int(name.split(".")[0]) for name in weights(classifier))
    return {f"{last}.weight", f"{last}.bias"}


def same(one: Classifier, other: Classifier) -> set[str]:
    """The names of what is equal."""
    ours, theirs = weights(one), weights(other)
    return {
        name
        for name in ours
        if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])
    }


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as error:
        image_models.read(root)
    return str(error.value)


@pytest.mark.parametrize("form", ["safetensors", "pth", "nested", "parallel"])
def test_weights_from_anywhere(tmp_path: Path, form: str) -> None:
    given = cnn(0)
    if form == "safetensors":
        save_file(weights(given), tmp_path / "w.safetensors")
    elif form == "pth":
        torch.save(weights(given), tmp_path / "w.pth")
    elif form == "nested":
        torch.save({"epoch": 3, "state_dict": weights(given), "optimizer": {"lr": 0.1}}, tmp_path / "w.pt")
    else:
        torch.save({f"module.{name}": value for name, value in weights(given).items()}, tmp_path / "w.bin")
    found, fresh = image_models.read(tmp_path), cnn(1)
    note = image_models.load(fresh, found, "cnn", ("cat", "dog"))
    assert same(given, fresh) == set(weights(given))
    assert note.endswith("its last layer included.")
    assert (found.classes, found.normalisation) == (None, None)


def test_another_number_of_classes_gets_a_fresh_last_layer(tmp_path: Path) -> None:
    given, fresh = cnn(0, classes=5), cnn(1)
    save_file(weights(given), tmp_path / "w.safetensors")
    before = weights(fresh)
    note = image_models.load(fresh, image_models.read(tmp_path), "cnn", ("cat", "dog"))
    assert same(given, fresh) == set(before) - head_of(fresh)
    for name in head_of(fresh):
        assert torch.equal(weights(fresh)[name], before[name])
    assert note.endswith("with a fresh last layer.")


@pytest.mark.parametrize("packed", [False, True])
def test_an_earlier_job_s_model(tmp_path: Path, packed: bool) -> None:
    given = cnn(0)
    artifacts.save_model(tmp_path / "model", given, "cnn", IMAGES, {})
    root = tmp_path / "model"
    if packed:
        root = tmp_path / "channel"
        root.mkdir()
        with tarfile.open(root / "model.tar.gz", "w:gz") as archive:
            for file in (tmp_path / "model").iterdir():
                archive.add(file, file.name)
    found = image_models.read(root)
    assert found.classes == ("cat", "dog")
    assert image_models.normalisation(found, "cnn") == (MEAN, STD)
    fresh = cnn(1)
    image_models.load(fresh, found, "cnn", ("cat", "dog"))
    assert same(given, fresh) == set(weights(given))
    # As many classes, and others: what the last layer knows is of no use.
    other = cnn(2)
    image_models.load(other, found, "cnn", ("bird", "cat"))
    assert same(given, other) == set(weights(given)) - head_of(given)


def test_torchvision_s_weights_expect_imagenet_s_normalisation(tmp_path: Path) -> None:
    save_file(weights(cnn(0)), tmp_path / "w.safetensors")
    found = image_models.read(tmp_path)
    assert image_models.normalisation(found, "resnet50") == image_models.IMAGENET
    assert image_models.normalisation(found, "cnn") is None


def test_another_network_s_weights_are_refused(tmp_path: Path) -> None:
    given = weights(cnn(0))
    for change, message in (
        ({"0.weight": None}, "lacks '0.weight'"),
        (
            {"0.weight": torch.zeros(7, 3, 7, 7)},
            "has '0.weight' in the shape (7, 3, 7, 7), not (32, 3, 4, 4)",
        ),
        ({"0.weight": torch.full((32, 3, 4, 4), torch.nan)}, "has numbers in '0.weight' that are not finite"),
    ):
        changed = {name: value for name, value in (given | change).items() if value is not None}
        save_file(changed, tmp_path / "w.safetensors")
        with pytest.raises(UserError) as error:
            image_models.load(cnn(1), image_models.read(tmp_path), "cnn", ("cat", "dog"))
        assert str(error.value) == (
            f"pretrained channel: 'w.safetensors' {message}; expected the weights of model=cnn, by the names and in "
            "the shapes of its state_dict()."
        )


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", b"nothing of the kind"),
        ("w.pth", b"nothing of the kind"),
        ("w.pth", {"weights": [1, 2, 3]}),
        ("w.pth", {"weights": Evil()}),
        ("w.pth", {}),
        ("model.tar.gz", b"\x1f\x8bnothing of the kind"),
        ("model.tar", b""),
    ],
)
def test_what_holds_no_weights(
    tmp_path: Path, name: str, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content or b"\0" * 10_240)
    else:
        torch.save(content, tmp_path / name)
    text = complaint(tmp_path)
    assert text.startswith(f"pretrained channel: file '{name}' cannot be read (")
    assert text.endswith(f"; expected {image_models.EXPECTED}.") and "\n" not in text
    assert "must not run" not in capsys.readouterr().out


def test_one_file_is_expected(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("x")
    assert complaint(tmp_path) == f"pretrained channel: holds 'readme.md'; expected {image_models.EXPECTED}."
    for name in ("a.pt", "b.safetensors"):
        (tmp_path / name).write_bytes(save(weights(cnn(0))))
    assert "holds 2 files of weights ('a.pt', 'b.safetensors'); expected one" in complaint(tmp_path)


def test_a_description_of_something_else(tmp_path: Path) -> None:
    save_file(weights(cnn(0)), tmp_path / "model.safetensors")
    for content in ("[1]", "{", json.dumps({"preprocessing": {"mean": [], "std": [], "classes": []}})):
        (tmp_path / "model.json").write_text(content)
        assert complaint(tmp_path).startswith("pretrained channel: file 'model.safetensors' cannot be read (")


def test_a_frozen_backbone_stays_as_it_is() -> None:
    classifier = cnn(0)
    classifier.freeze_backbone()
    before = weights(classifier)
    updates = optimizer.make(classifier, Hyperparameters(weight_decay=0.1), 0.05)
    classifier.train()
    for _ in range(3):
        inputs = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
        classifier(inputs).square().sum().backward()
        updates.step()
    after = weights(classifier)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == head_of(classifier)
    assert {name for name, module in classifier.network.named_modules() if module.training} == {
        name for name, module in classifier.network.named_modules() if module is classifier.head
    }
    assert not classifier.eval().head.training


def test_an_archive_with_a_path_out_of_it_is_read_in_place(tmp_path: Path) -> None:
    content = save(weights(cnn(0)))
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../w.safetensors")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert set(image_models.read(tmp_path).weights) == set(weights(cnn(0)))
    assert not (tmp_path.parent / "w.safetensors").exists()


def test_an_archive_of_links_holds_no_weights(tmp_path: Path) -> None:
    (tmp_path / "private.safetensors").write_bytes(save(weights(cnn(0))))
    folder = tmp_path / "channel"
    folder.mkdir()
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            member = tarfile.TarInfo(f"{number}.safetensors")
            member.type, member.linkname = kind, str(tmp_path / "private.safetensors")
            archive.addfile(member)
    assert "cannot be read (it holds 0 files of weights)" in complaint(folder)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_an_archive_that_unpacks_to_terabytes_is_not_unpacked(tmp_path: Path, name: str) -> None:
    bomb(tmp_path / "model.tar.gz", name, 1 << 44)
    began = time.monotonic()
    assert f"('{name}' holds 17,592.2 GB, of which " in complaint(tmp_path)
    assert time.monotonic() - began < 10


def test_a_state_dict_that_unpacks_to_more_than_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for member in whole.infolist():
            packed.writestr(member.filename, whole.read(member), zipfile.ZIP_DEFLATED)
    (tmp_path / "whole.pth").unlink()
    assert (tmp_path / "w.pth").stat().st_size < 1 << 17
    monkeypatch.setattr("subset_trainer.data.archives.memory_available", lambda: 1 << 20)
    assert "('w.pth' holds 0.0 GB, of which 0.0 GB fit in memory)" in complaint(tmp_path)


@pytest.mark.parametrize("claimed", [1 << 40, 1 << 62])
def test_safetensors_whose_header_is_giant(tmp_path: Path, claimed: int) -> None:
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", claimed) + b"{" * 1000)
    assert "cannot be read (" in complaint(tmp_path)
