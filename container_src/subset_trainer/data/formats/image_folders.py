"""Images in class folders."""

from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.formats.class_folders import class_folders, classes_of_folders
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages


class ImageFolders(Format):
    """One folder per class, possibly below single folders."""

    name = "folders"
    expected = ("", "class folders of images", "")
    telling = IMAGE_SUFFIXES

    def recognise(self, channel: Channel) -> Claim | None:
        files = tuple(file for file in channel.images if "/" in file)
        return Claim(files) if files else None

    def near_miss(self, channel: Channel) -> str | None:
        if not channel.images:
            return None
        first = channel.images[0]
        return (
            f"image '{first}' lies directly in the channel; expected one folder a class, as in cat/{first}."
        )

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        folder = class_folders(channel, claim.files, IMAGE_SUFFIXES, "image")
        labels, classes = coded(classes_of_folders(claim.files, folder))
        below = f" below '{folder}'" if folder else ""
        note = f"{channel.name} channel: {len(claim.files):,} images in {len(classes)} class folders{below}."
        images = LabelledImages(ImageFiles(claim.files, channel.root, channel.name), labels, classes, (note,))
        return Found(self, images, notes=images.notes)
