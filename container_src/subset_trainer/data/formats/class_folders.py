"""Finds the folders that name classes, for the formats of images and of texts in class folders."""

from subset_trainer.data.channels import Channel, base_name, some

_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


def class_folders(channel: Channel, files: tuple[str, ...], suffixes: tuple[str, ...], what: str) -> str:
    """The folder that contains the class folders ('' or 'a/b/'); perhaps below single folders, as in train/<class>/….

    Args:
        suffixes: of all files that should lie in a class folder.
        what: how messages name such a file.

    Raises:
        UserError: a file lies outside the class folders, or the folders are named like splits.
    """
    folder = ""
    while True:
        loose = [f for f in files if "/" not in f[len(folder) :]]
        tops = sorted({f[len(folder) :].split("/", 1)[0] for f in files} - {base_name(f) for f in loose})
        below = {f[len(folder) :].count("/") for f in files}
        if len(tops) != 1 or loose or 1 in below:
            break
        folder += tops[0] + "/"
    outside = [f for f in channel.ending(*suffixes) if "/" not in f[len(folder) :]]
    if loose or (outside and tops):
        raise channel.error(f"{what} '{(loose or outside)[0]}' lies outside the class folders {some(tops)}.")
    if len(tops) > 1 and all(top.lower() in _SPLIT_NAMES for top in tops):
        raise channel.error(
            f"the folders {some(tops)} look like splits, not classes; expected the class folders of one split, "
            "and each other split as a channel of its own."
        )
    return folder


def classes_of_folders(files: tuple[str, ...], folder: str) -> list[str]:
    """The name of each file's class folder, below `folder`."""
    return [file[len(folder) :].split("/", 1)[0] for file in files]
