"""Writes scikit-learn's handwritten digits as image files, laid out like channels.

The data set has 1,797 greyscale images of 8×8 pixels in ten classes. It is part of the scikit-learn package, so nothing
is downloaded.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TEST_FRACTION = 0.2
SEED = 0


def write_digits(directory: Path) -> None:
    """Write `directory/training/<digit>/NNNN.png` and `directory/test/<digit>/NNNN.png`.

    The files are 8-bit greyscale PNGs of 8×8 pixels (values 0..16 scaled to 0..255); NNNN is the image's row in
    the data set. A fifth of every class goes to `test`, split with a fixed seed. Existing folders are left unchanged.
    """
    if all((directory / channel).exists() for channel in ("training", "test")):
        return
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    rows = np.arange(len(images))
    training, test = train_test_split(
        rows, test_size=TEST_FRACTION, stratify=digits.target, random_state=SEED, shuffle=True
    )
    directory.mkdir(parents=True, exist_ok=True)
    for channel, chosen in (("training", training), ("test", test)):
        if (directory / channel).exists():
            continue
        # Written to a temporary folder and renamed, so that an interrupted run leaves no incomplete channel.
        with tempfile.TemporaryDirectory(dir=directory, prefix=f".{channel}-") as temporary:
            aside = Path(temporary) / channel
            for row in chosen:
                folder = aside / str(digits.target[row])
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(folder / f"{row:04d}.png")
            aside.rename(directory / channel)
