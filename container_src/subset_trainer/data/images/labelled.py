"""Images with their labels, independent of their storage and of the source of the labels."""

from dataclasses import dataclass, replace

import numpy as np

from subset_trainer.data.ids import Ids
from subset_trainer.data.images.decoding import EncodedImages
from subset_trainer.data.understanding import Decision


@dataclass(frozen=True)
class LabelledImages:
    """Encoded images with labels.

    `labels` [N] int64: positions in `classes`. `weights` [N] float32: the weight of each image, None for equal weights.
    `notes`: what was found, used and left out. `decisions`: which label was read, and which examples are
    left out. `references`: the names of the images at their source, such as URIs, as
    [N] bytes; None: the names in `images`.
    """

    images: EncodedImages
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None
    references: np.ndarray | None = None
    decisions: tuple[Decision, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def texts(self) -> None:
        return None

    def subset(self, rows: np.ndarray) -> "LabelledImages":
        """The images at `rows` [K] int64, with their labels, weights and names."""
        return replace(
            self,
            images=self.images.subset(rows),
            labels=self.labels[rows],
            weights=None if self.weights is None else self.weights[rows],
            references=None if self.references is None else self.references[rows],
        )

    @property
    def ids(self) -> Ids:
        return Ids.of_paths(self.images.names if self.references is None else self.references)


@dataclass(frozen=True)
class ImageArray:
    """pixels [N, 3, H, W] uint8; labels [N] int64, positions in `classes`. `white`: the value of white in the files."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: Ids
    white: int = 255

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def texts(self) -> None:
        return None

    @property
    def weights(self) -> None:
        return None
