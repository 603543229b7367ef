"""Writes the files beside it, with MXNet 1.9.1's im2rec and writer: `python make.py`, in an environment of its own with
mxnet==1.9.1, numpy==1.23.5 and opencv-python-headless==4.8.1.78, and with scikit-learn's digits in ../digits.npz.

MXNet is no longer developed and cannot be installed beside the tests' other packages; SageMaker's image classification
still takes what it writes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import mxnet
import numpy as np

HERE = Path(__file__).parent
IM2REC = Path(mxnet.__file__).parent / "tools" / "im2rec.py"


def main() -> None:
    digits = np.load(HERE.parent / "digits.npz")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for position, (image, digit) in enumerate(zip(digits["x"], digits["y"], strict=True)):
            (folder / "images" / f"digit-{digit}").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(folder / "images" / f"digit-{digit}" / f"{position:03}.png"),
                np.repeat(image[:, :, None], 3, 2),
            )
        for arguments in (["--list", "--recursive"], ["--encoding=.png", "--pack-label"]):
            subprocess.run(
                [sys.executable, str(IM2REC), *arguments, "digits", "images"], cwd=folder, check=True
            )
        for suffix in ("lst", "rec", "idx"):
            (HERE / f"digits.{suffix}").write_bytes((folder / f"digits.{suffix}").read_bytes())
    # A record is taken apart where it holds the magic number, which MXNet's reader puts back: so must ours.
    magic = b"\x0a\x23\xd7\xce"
    writer = mxnet.recordio.MXRecordIO(str(HERE / "magic.rec"), "w")
    for content in (b"none", magic, b"four" + magic + magic + b"more", b"odd" + magic, b""):
        writer.write(content)
    writer.close()


if __name__ == "__main__":
    main()
