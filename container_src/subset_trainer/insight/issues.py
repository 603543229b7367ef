"""Problems of the data beside wrong labels and duplicates: outliers, bad images, rare classes, weak groups.

A weak group is one on which the model is worse than on the other examples. The kinds are those of cleanlab's Datalab
and of cleanvision, which are no dependencies: on planted troubles they find less (``benchmarks/quality.py``), and
cleanvision would read every image once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from subset_trainer.data import Dataset, Kind, MemoryDataset, Splits, TableKind

NEIGHBOURS = 10
FAR, FENCE = 2.7, 3.0
"""An outlier is farther from its neighbours than this many times the median example, as in Datalab, and beyond Tukey's
outer fence of the logarithms: so many times the quartiles' distance above the upper one."""
MOST_COMPARED = 10_000
"""References at most that an example is compared with."""
MOST_PAIRS = 500_000_000
ROUNDED = 1e-3
"""Distances up to this share of the vectors' mean length are rounding errors."""
WIDTH = 64
"""Features are projected to this width, which keeps distances nearly as they are (Johnson and Lindenstrauss)."""
DARK, BRIGHT = 0.32, 0.95
"""Cleanvision's thresholds: of the brightness that 99% of the pixels do not exceed, and that 95% of them do."""
BLURRY = 0.05
"""A blurry image's sharpness, divided by the median image's."""
LEAST_VARIANCE = 1e-4
"""Of brightness: an image with less is blank, and what detail it has is mostly rounding."""
ODD, SPREADS = 2.0, 3.0
"""An odd size differs from the median by this factor at least, and from the quartiles by so many times their distance,
as cleanvision has it. Of sides, aspect ratios and elongations, in logarithms."""
RARE = 0.1
"""Datalab's threshold of a rare class."""
LEAST_VALIDATED = 20
"""Validation examples of a group that is judged."""
WORSE = 0.1
"""A weak group's accuracy is lower than the others' by this much at least."""
SIGNIFICANT = 0.01
"""Probability, over all groups, that a group is called weak by chance."""
MOST_CLUSTERS, EXAMPLES_OF_A_CLUSTER = 10, 50


@dataclass(frozen=True)
class WeakGroup:
    """A group of examples that the model classifies worse than the others."""

    name: str
    accuracy: float
    others: float
    """The accuracy on the other validation examples."""
    validated: int
    rows: np.ndarray
    """[K] int64: its training examples."""


SCALES = 5
"""Scales of detail, each half as fine as the one before."""
TRAITS, LOOK, SIZES = 3, SCALES + 6, 2
"""Numbers that :func:`traits` and :func:`look` return of an image, and those of its size."""


@dataclass(frozen=True)
class Issue:
    """One kind of problem, and the training examples that have it."""

    name: str
    note: str
    """What it means, and where its rows are in examples.parquet."""
    rows: np.ndarray
    """[K] int64, the worst first."""
    remarks: np.ndarray | None = None
    """[N] object: what the page says of each of its examples."""


@dataclass(frozen=True)
class Issues:
    """The problems of N training examples beside wrong labels and duplicates."""

    remoteness: np.ndarray
    """[N] float32, see :func:`remoteness`: in the features, and of images in their look; the larger. Above 1:
    outliers."""
    image_issue: np.ndarray
    """[N] object: `dark`, `bright`, `blurry`, or None."""
    odd_size: np.ndarray
    """[N] object: an odd image's size, as `20 x 400 pixels` (height first), else None."""
    weak_group: np.ndarray
    """[N] object: the worst weak group that the example belongs to, or None."""
    found: Sequence[Issue]


def observe(inputs: Tensor, features_BD: Tensor, sizes_B2: Tensor | None = None) -> Tensor:
    """float32 [B, K]: the narrowed features, followed by an image's traits, look and size; see :func:`seen`."""
    return torch.cat([narrow(features_BD), seen(inputs, sizes_B2).to(features_BD.device)], 1)


def seen(inputs: Tensor, sizes_B2: Tensor | None = None) -> Tensor:
    """float32 [B, K]: the part of :func:`observe` that needs no features. Of other inputs than images K is 0.

    Args:
        sizes_B2: (H, W) of the images in their files; None: that of the inputs.
    """
    if inputs.ndim != 4 or inputs.dtype != torch.uint8:
        return torch.zeros(len(inputs), 0)
    if sizes_B2 is None:
        sizes_B2 = torch.tensor(inputs.shape[2:]).expand(len(inputs), SIZES)
    light_BHW = brightness(inputs)
    found = traits(light_BHW)
    return torch.cat([found, look(inputs, light_BHW), sizes_B2.to(found)], 1)


def find(
    splits: Splits,
    observed_NK: Tensor,
    validation_observed_MK: Tensor,
    right_M: np.ndarray,
    margins_N: np.ndarray,
    device: torch.device,
) -> Issues:
    """Find the problems.

    Args:
        splits: the splits that the run was trained on.
        observed_NK, validation_observed_MK: see :func:`observe`.
        right_M: bool, the validation examples that are classified as labelled.
        margins_N: of a weak group, the examples of smallest margin are shown first.
        device: the device that compares features.
    """
    given, kind = splits.train.labels.numpy(), splits.preprocessing
    own = (TRAITS, LOOK, SIZES) if kind.pictures else (0, 0, 0)
    width = observed_NK.shape[1] - sum(own)
    features, traits_NK, look_NK, sizes_NK = observed_NK.split([width, *own], 1)
    held = validation_observed_MK[:, :width]
    far = np.maximum(remoteness(features, device).numpy(), remoteness(standardised(look_NK), device).numpy())
    images = image_issues(traits_NK)
    odd, odd_size = odd_sizes(sizes_NK)
    groups = weak_groups(splits.train, splits.validation, kind, features, held, right_M)
    rows = np.flatnonzero(far > 1)
    found = [
        Issue(
            "Outliers",
            "much farther from the examples nearest to them than others are (column `outlier` above 1)",
            rows[np.argsort(-far[rows], kind="stable")],
        ),
        *(
            Issue(f"{name.capitalize()} images", f"`image_issue` is `{name}`", np.flatnonzero(images == name))
            for name in ("dark", "bright", "blurry")
        ),
        Issue(
            "Odd sizes",
            f"in size or aspect ratio far from the other images, by a factor of {ODD:g} or more from the median "
            "(column `odd_size`, height first)",
            odd,
            odd_size,
        ),
        *rare_classes(given, splits.preprocessing.classes),
        *(
            Issue(
                f"Weak group: {group.name}",
                f"{group.accuracy:.0%} of its {group.validated} validation examples are right, "
                f"of the others {group.others:.0%} (column `weak_group`)",
                group.rows[np.argsort(margins_N[group.rows], kind="stable")],
            )
            for group in groups
        ),
    ]
    return Issues(
        far, images, odd_size, names_of(groups, len(given)), [one for one in found if len(one.rows)]
    )


def rare_classes(labels_N: np.ndarray, classes: Sequence[str]) -> list[Issue]:
    """Classes with fewer than RARE times the examples that equal classes would have, the rarest first; Datalab's
    rule."""
    counts = np.bincount(labels_N, minlength=len(classes))
    least = RARE * len(labels_N) / max(1, int((counts > 0).sum()))
    return [
        Issue(
            f"Rare class: {classes[label]}",
            f"{counts[label]:,} of {len(labels_N):,} examples (column `label`)",
            np.flatnonzero(labels_N == label),
        )
        for label in np.argsort(counts, kind="stable").tolist()
        if 0 < counts[label] < least
    ]


def narrow(features_BD: Tensor) -> Tensor:
    """Features [B, at most WIDTH] float32; the projection is the same for every batch."""
    features_BD = features_BD.flatten(1).float()
    width = features_BD.shape[1]
    if width > WIDTH:
        generator = torch.Generator().manual_seed(0)
        projection = torch.randn(width, WIDTH, generator=generator) / WIDTH**0.5
        features_BD = features_BD @ projection.to(features_BD.device)
    return features_BD


def remoteness(features_NK: Tensor, device: torch.device, seed: int = 0) -> Tensor:
    """float32 [N]: the mean distance to the nearest examples, divided by the distance from which on an example is an
    outlier; see FAR. Zero if there are too few examples, or no features.

    Of very many examples a sample serves as neighbours.
    """
    count, width = features_NK.shape
    if count <= NEIGHBOURS or not width:
        return torch.zeros(count)
    features_NK = features_NK.float() - features_NK.float().mean(
        0
    )  # distances are rounded by the vectors' lengths
    references = max(NEIGHBOURS + 1, min(count, MOST_COMPARED, MOST_PAIRS // count))
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:references]
    pool = features_NK[chosen].to(device)
    parts = []
    for at in torch.arange(count).split(2_048):
        distances = torch.cdist(features_NK[at].to(device), pool)
        distances[at.to(device)[:, None] == chosen.to(device)] = torch.inf  # itself
        parts.append(distances.topk(min(NEIGHBOURS, references - 1), largest=False).values.mean(1).cpu())
    distance_N = torch.cat(parts)
    # Examples that coincide with ten others say nothing of how far apart examples are.
    apart = distance_N[distance_N > ROUNDED * features_NK.norm(dim=1).mean()].double().numpy()
    if not len(apart):
        return torch.zeros(count)
    low, median, high = np.quantile(apart, (0.25, 0.5, 0.75))
    return distance_N / max(FAR * median, high * (high / low) ** FENCE)


def brightness(images_BCHW: Tensor) -> Tensor:
    """float32 [B, H, W] from 0 to 1, of uint8; the weights are cleanvision's."""
    weights = torch.tensor([0.241, 0.691, 0.068], device=images_BCHW.device)
    return ((images_BCHW.float() / 255) ** 2 * weights[:, None, None]).sum(1).sqrt()


def traits(light_BHW: Tensor) -> Tensor:
    """float32 [B, 3]: the brightness that 99% of the pixels do not exceed, the one that 95% exceed, and the sharpness.

    That is the variance of the Laplacian over the brightness's own, so that dark and pale images do not pass for
    blurry; infinite for a blank image.
    """
    flat = light_BHW.flatten(1)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=flat.device)
    edges = F.conv2d(light_BHW[:, None], kernel[None, None]).flatten(1)
    ordered = flat.sort(1).values
    last = flat.shape[1] - 1
    variance = flat.var(1)
    sharpness = (edges.var(1) / variance).where(variance > LEAST_VARIANCE, torch.inf)
    return torch.stack([ordered[:, round(0.99 * last)], ordered[:, round(0.05 * last)], sharpness], 1)


def look(images_BCHW: Tensor, light_BHW: Tensor) -> Tensor:
    """float32 [B, LOOK]: how much detail an image has, scale by scale, and the mean and deviation of its colours.

    The detail of a scale is the variance that is lost when the brightness is averaged over squares of 2 x 2. A small
    network's features tell noise, drawings or blank images from photographs no better than chance, these numbers do.
    """
    layer, variances = light_BHW[:, None], []
    for _ in range(SCALES):
        variances.append(layer.flatten(1).var(1, unbiased=False))
        if min(layer.shape[2:]) > 1:
            layer = F.avg_pool2d(layer, 2)
    variances_BS = torch.stack([*variances, layer.flatten(1).var(1, unbiased=False)], 1)
    detail_BS = (variances_BS[:, :-1] - variances_BS[:, 1:]).clamp(min=0) + LEAST_VARIANCE
    colours_BCP = images_BCHW.flatten(2).float() / 255
    return torch.cat([detail_BS.log(), colours_BCP.mean(2), colours_BCP.std(2, correction=0)], 1)


def standardised(look_NK: Tensor) -> Tensor:
    """By column; a column that hardly varies counts for nothing."""
    if not look_NK.shape[1]:
        return look_NK  # no images: torch would warn, in the job's log, of deviations of nothing
    return (look_NK - look_NK.mean(0)) / look_NK.std(0, correction=0).clamp(min=1e-3)


def image_issues(traits_N3: Tensor) -> np.ndarray:
    """[N] object: `dark`, `bright`, `blurry`, or None."""
    found = np.full(len(traits_N3), None, object)
    if not traits_N3.shape[1]:
        return found
    high_N, low_N, sharp_N = traits_N3.float().numpy().T
    found[sharp_N < BLURRY * np.median(sharp_N)] = "blurry"
    found[low_N > BRIGHT] = "bright"
    found[high_N < DARK] = "dark"
    return found


def odd_sizes(sizes_N2: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Images whose side √(H · W), aspect ratio, or elongation (the aspect ratio of the image or of it turned by a right
    angle, whichever is larger) is far from the others'.

    Args:
        sizes_N2: (H, W); 0: not known; [N, 0]: these are no images.

    Returns:
        the odd ones [K] int64, the oddest first, and [N] object: the size of each of these, else None.
    """
    said = np.full(len(sizes_N2), None, object)
    if not sizes_N2.shape[1]:
        return np.zeros(0, np.int64), said
    known = (sizes_N2 > 0).all(1).numpy()
    if not known.any():
        return np.zeros(0, np.int64), said
    height_N, width_N = sizes_N2.double().clamp(min=1).log().numpy().T
    aspect_N = width_N - height_N
    measures = ((height_N + width_N) / 2, aspect_N, np.abs(aspect_N))
    beyond_N = np.max([_beyond(values_N, known) for values_N in measures], 0)
    odd = np.flatnonzero(known & (beyond_N > 1))
    odd = odd[np.argsort(-beyond_N[odd], kind="stable")]
    for row in odd.tolist():
        said[row] = "{:.0f} x {:.0f} pixels".format(*sizes_N2[row].tolist())
    return odd, said


def _beyond(values_N: np.ndarray, known_N: np.ndarray) -> np.ndarray:
    """How far each is from the median, over the distance from which on it is odd."""
    low, median, high = np.quantile(values_N[known_N], (0.25, 0.5, 0.75))
    spread, factor = SPREADS * (high - low), np.log(ODD)
    below, above = max(factor, median - low + spread), max(factor, high - median + spread)
    away_N = values_N - median
    # Exactly a factor of two counts, whatever logarithms round to.
    return np.where(away_N < 0, -away_N / below, away_N / above) * (1 + 1e-6)


def weak_groups(
    training: Dataset,
    validation: Dataset,
    kind: Kind,
    features_NK: Tensor,
    validation_features_MK: Tensor,
    right_M: np.ndarray,
) -> list[WeakGroup]:
    """The groups on which the model is significantly worse, the worst first.

    Groups are the values of a table's categories, and the clusters of the features.

    Args:
        right_M: bool, the validation examples that are classified as labelled.
    """
    from scipy.stats import binom  # takes a while, and few runs have groups

    candidates = [
        *_values(training, validation, kind),
        *_clusters(features_NK, validation_features_MK),
    ]
    found = []
    for name, own_N, own_M in candidates:
        count, other = int(own_M.sum()), int((~own_M).sum())
        if count < LEAST_VALIDATED or not other:
            continue
        accuracy, others = float(right_M[own_M].mean()), float(right_M[~own_M].mean())
        chance = float(binom.cdf(int(right_M[own_M].sum()), count, others))
        if others - accuracy >= WORSE and chance < SIGNIFICANT / len(candidates):
            found.append(WeakGroup(name, accuracy, others, count, np.flatnonzero(own_N)))
    return sorted(found, key=lambda one: one.accuracy - one.others)


Group = tuple[str, np.ndarray, np.ndarray]
"""Its name, and which training and validation examples belong to it, bool."""


def _values(training: Dataset, validation: Dataset, kind: Kind) -> list[Group]:
    """The categories of a table that this process holds whole."""
    if not isinstance(kind, TableKind) or not (
        isinstance(training, MemoryDataset) and isinstance(validation, MemoryDataset)
    ):
        return []
    if training.owners is not None or validation.owners is not None:
        return []
    found: list[Group] = []
    at = 0
    for column in kind.columns:
        for place, value in enumerate(column.categories or ()):
            own = [(part.inputs[:, at + place] > 0.5).numpy() for part in (training, validation)]
            found.append((f"{column.name} = {value or '(none)'}", own[0], own[1]))
        at += column.width
    return found


def _clusters(features_NK: Tensor, validation_features_MK: Tensor) -> list[Group]:
    count = min(MOST_CLUSTERS, len(validation_features_MK) // EXAMPLES_OF_A_CLUSTER)
    if count < 2 or len(features_NK) < count:
        return []
    from sklearn.cluster import KMeans

    features, validated = (
        F.normalize(some.float(), dim=1).numpy() for some in (features_NK, validation_features_MK)
    )
    sample = np.random.default_rng(0).permutation(len(features))[:MOST_COMPARED]
    means = KMeans(count, n_init=1, random_state=0).fit(features[sample])
    own: Any = means.predict(features)
    held: Any = means.predict(validated)
    return [(f"cluster {number + 1}", own == number, held == number) for number in range(count)]


def names_of(groups: Sequence[WeakGroup], count: int) -> np.ndarray:
    """[N] object: the name of the worst weak group that each training example belongs to, or None."""
    found = np.full(count, None, object)
    for group in reversed(groups):
        found[group.rows] = group.name
    return found
