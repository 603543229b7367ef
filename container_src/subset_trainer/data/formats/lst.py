"""SageMaker image classification's `.lst`: lines of an index, a class number and a path."""

from dataclasses import replace

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import Finder, class_name, lines, listed, only
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import shown


def read_lst(channel: Channel, listing: Channel, file: str, images: tuple[str, ...]) -> LabelledImages:
    """Read images labelled by a `.lst`: lines of an index, a class number and a path, separated by tabs.

    Format: SageMaker developer guide, Image Classification, "Train with Image Format".

    Args:
        listing: the channel that holds the file: `channel` itself or its companion `…_lst`.

    Raises:
        UserError: the file does not have this form; the message names the line.
    """
    expected = "a number, the class's number and the image's path, with tabs between"
    names: list[tuple[int, str, str]] = []
    for number, text in lines(listing, file, f"lines of {expected}"):
        parts = text.split("\t")
        if len(parts) > 3:
            raise listing.error(
                f"'{file}', line {number:,} has {len(parts) - 2} labels; expected one, because each image has one "
                "class."
            )
        try:
            _, value, path = parts
            # Digits are kept as they are spelt; im2rec writes 3.000000 for 3.
            name = value.strip()
            names.append((number, path.strip(), name if name.isdecimal() else class_name(float(name))))
        except ValueError:
            raise listing.error(f"'{file}', line {number:,} is {shown(text)}; expected {expected}.") from None
    decision = Decision("label", "class numbers", f"the second column of '{file}'")
    return replace(listed(channel, file, images, names, Finder(images)), decisions=(decision,))


class Lst(Format):
    """Images with a `.lst`, either in the same channel or in its companion channel `…_lst`."""

    name = "lst"
    expected = ("images with ", "a .lst", "")

    def recognise(self, channel: Channel) -> Claim | None:
        images, companion = channel.images, channel.listing
        files = (companion or channel).ending(".lst")
        if companion is None:
            return Claim(files, images) if images and files else None
        if len(files) != 1 or not images:
            lacking = f"{len(files)} .lst files" if images else f"no images in the channel {channel.name}"
            raise companion.error(f"{lacking}; expected one .lst, and the images that it names.")
        return Claim(files, images, certain=True)

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        file = only(channel, claim)
        images = read_lst(channel, channel.listing or channel, file, claim.images)
        return Found(self, images, notes=images.notes, decisions=images.decisions)
