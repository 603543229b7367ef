"""Images in class folders."""

from collections.abc import Iterator

from subset_trainer.data.archives import zip_members
from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, base_name
from subset_trainer.data.classes import coded
from subset_trainer.data.content import IMAGES
from subset_trainer.data.formats.annotations import annotated_by, rival_lists
from subset_trainer.data.formats.class_folders import (
    checked_folder,
    class_folders,
    classes_of_folders,
    doubts_of_folders,
    label_of_folders,
    vanishing,
)
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.understanding import Decision


class ImageFolders(Format):
    """One folder per class, possibly below single folders."""

    name = "folders"
    heeds = ("label_folder",)
    expected = ("", "class folders of images", "")
    telling = IMAGE_SUFFIXES
    splits = "folders"

    def recognise(self, channel: Channel) -> Claim | None:
        files = tuple(file for file in channel.images if "/" in file)
        return Claim(files) if files else None

    def doubts(self, channel: Channel, claim: Claim) -> list[Decision]:
        folder = checked_folder(channel, claim.files, channel.images, "image")
        if folder is None:
            return []
        lost = vanishing(channel, claim.files, folder, f"images ({', '.join(IMAGES)})")
        lost += [*self._packed(channel, claim.files)]
        nested = doubts_of_folders(claim.files, folder, channel.label_folder)
        if len(set(classes_of_folders(claim.files, folder, channel.label_folder))) == 1:
            lost += _alone(channel, claim.files)
        return [*lost, *nested, *rival_lists(channel, claim.files, folder)]

    @staticmethod
    def _packed(channel: Channel, files: tuple[str, ...]) -> Iterator[Decision]:
        """The open decisions on zip archives of images that do not lie in the folders."""
        if not (archives := channel.ending(".zip")):
            return
        beside = {base_name(file) for file in files} | {"/".join(file.rsplit("/", 2)[-2:]) for file in files}
        for archive in archives:
            images = [name for name in zip_members(channel, archive) if name.lower().endswith(IMAGE_SUFFIXES)]
            further = [name for name in images if "/".join(name.rsplit("/", 2)[-2:]) not in beside]
            if further:
                reason = f"it holds images that are not in the folders, such as '{further[0]}'"
                reason += "; expected it unpacked, or out of the channel"
                yield Decision("classes", "an archive", reason, "open", name=archive)

    def near_miss(self, channel: Channel) -> str | None:
        if not channel.images:
            return None
        first = channel.images[0]
        beside = annotated_by(channel, channel.images)
        return (
            f"image '{first}' lies directly in the channel{f', and {beside}' if beside else ''}; expected one folder a "
            f"class, as in cat/{first}, or a labels.csv."
        )

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        folder = class_folders(channel, claim.files, channel.images, "image")
        labels, classes = coded(classes_of_folders(claim.files, folder, channel.label_folder))
        images = LabelledImages(ImageFiles(claim.files, channel.root, channel.name), labels, classes)
        return Found(self, images, decisions=(label_of_folders(folder, channel.label_folder),))


def _alone(channel: Channel, files: tuple[str, ...]) -> list[Decision]:
    """The open decision on images of one folder that another file annotates."""
    beside = annotated_by(channel, files)
    folder = files[0].rpartition("/")[0] + "/"
    reason = (
        f"all images lie in one folder, and {beside}, as a folder for each class or a labels.csv gives it"
    )
    return [Decision("label", "the classes", reason, "open", name=folder)] if beside else []
