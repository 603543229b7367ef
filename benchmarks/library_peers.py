"""The other side of benchmarks.library, in an environment with apricot-select, submodlib-py, datacull and torch.

It answers lines of JSON on its standard input, each with a line of JSON:

- `{"loader": "rs2" | "infobatch", …}`: epochs of another package's loader beside those of `SubsetLoader`, in pairs.
- `{"package": "apricot" | "submodlib", …}`: one selection by facility location.

InfoBatch's own package is not on the index. :class:`TheirInfoBatch` does by its published method what its loop does for
each item and batch, and is written anew.
"""

import json
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from benchmarks.pairs import Loading, Loop, Taken, Training, alternating, ours, summary, timed
from subset_selection import SubsetLoader

Picks = list[int]


# Loaders


class TheirInfoBatch(Dataset[Any], Sampler[int]):
    """InfoBatch (Qin et al., ICLR 2024) as a data set whose items have their index, and a sampler of a list of indices.

    A batch's losses go into a table at the indices, and its weights come from another. Before an epoch, a share of the
    examples below the mean loss is left out, and the others of them weigh more.
    """

    def __init__(self, dataset: Any, share: float = 0.5) -> None:
        self._dataset, self._share = dataset, share
        self._losses_N = torch.full((len(dataset),), 3.0)
        self._weights_N = torch.ones(len(dataset))
        self._indices: list[int] = []

    def __len__(self) -> int:
        return len(self._indices) or len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return index, self._dataset[index]

    def __iter__(self) -> Any:
        below_N = (self._losses_N < self._losses_N.mean()).numpy()
        below = np.flatnonzero(below_N)
        kept = np.random.choice(below, int((1 - self._share) * len(below)), replace=False)
        self._weights_N.fill_(1.0)
        self._weights_N[kept] = 1 / (1 - self._share)
        self._indices = [*np.flatnonzero(~below_N).tolist(), *kept.tolist()]
        np.random.shuffle(self._indices)
        return iter(self._indices)

    def observe(self, losses: Tensor, indices: Tensor) -> Tensor:
        """Record a batch's losses, and return its weights."""
        self._losses_N[indices] = losses.detach().cpu()
        return self._weights_N[indices].to(losses.device)


def their_infobatch(dataset: Any, batch_size: int, loop: Loop) -> Callable[[], int]:
    """An epoch of it."""
    method = TheirInfoBatch(dataset)
    loader: DataLoader[Any] = DataLoader(method, batch_size=batch_size, sampler=method)

    def epoch() -> int:
        samples = 0
        for indices, (inputs, labels) in loader:
            losses = loop.losses(inputs, labels)
            weights = method.observe(losses, indices)
            if isinstance(loop, Training):
                loop.learn((losses * weights).mean())
            samples += len(labels)
        return samples

    return epoch


def datacull(dataset: Any, batch_size: int, fraction: float, loop: Loop) -> Callable[[], int]:
    """An epoch of DataCull's RS2, whose `pruning_rate` is the share that it keeps."""
    from datacull import DCDataset, RS2DataLoader  # type: ignore[import-not-found]

    loader = RS2DataLoader(DCDataset(dataset), pruning_rate=fraction, batch_size=batch_size)

    def epoch() -> int:
        samples = 0
        loader.resample(None)
        for inputs, labels, _ in loader:
            if isinstance(loop, Training):
                loop.learn(loop.losses(inputs, labels).mean())
            samples += len(labels)
        return samples

    return epoch


def beside(asked: dict[str, Any]) -> dict[str, Any]:
    """Pairs of epochs: theirs, ours."""
    images, labels = (torch.from_numpy(np.load(asked[name])) for name in ("images", "labels"))
    dataset, size, fraction = TensorDataset(images, labels), asked["batch_size"], asked["fraction"]

    def loop() -> Loop:
        return Training(int(labels.max()) + 1) if asked["training"] else Loading()

    if asked["loader"] == "rs2":
        loader = SubsetLoader(dataset, strategy="rs2", fraction=fraction, batch_size=size)
        theirs = datacull(dataset, size, fraction, loop())
    else:
        loader = SubsetLoader(dataset, strategy="infobatch", batch_size=size)
        theirs = their_infobatch(dataset, size, loop())
    own = loop()

    def several(epoch: Callable[[], int]) -> Callable[[], Taken]:
        return lambda: timed(lambda: sum(epoch() for _ in range(asked["epochs"])))

    sides = several(theirs), several(lambda: ours(loader, own))
    alternating(*sides, 1)  # of InfoBatch, the first epoch has all examples
    return summary(alternating(*sides, asked["pairs"]))


# Facility location


@lru_cache(maxsize=10)
def similarities(file: str) -> Any:
    """The largest Euclidean distance less each, [n, n] float64, of features [n, D]."""
    features = np.load(file).astype(np.float64)
    squares = (features**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0))
    np.fill_diagonal(distances, 0)
    return distances.max() - distances


def apricot(given: Any, picks: int, search: str) -> Picks:
    from apricot import FacilityLocationSelection

    made = FacilityLocationSelection(picks, metric="precomputed", optimizer=search, random_state=0)
    found: Picks = made.fit(given).ranking.tolist()
    return found


def submodlib(given: Any, picks: int, search: str) -> Picks:
    from submodlib import FacilityLocationFunction  # type: ignore[import-not-found]

    function = FacilityLocationFunction(n=len(given), mode="dense", separate_rep=False, sijs=given)
    found = function.maximize(
        budget=picks, optimizer=search, stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [position for position, _ in found]


def located(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the selections in all files, and the picks in each."""
    select = {"apricot": apricot, "submodlib": submodlib}[asked["package"]]
    wall = cpu = 0.0
    answers: list[Picks] = []
    for file in asked["files"]:
        given = similarities(file)
        if asked["package"] == "submodlib":
            given = given.astype(np.float32)  # it computes in this type
        picked: Picks = []

        def run(given: Any = given, picked: Picks = picked) -> int:
            picked.extend(select(given, asked["picks"], asked["search"]))
            return 1

        taken = timed(run)
        wall, cpu = wall + taken.wall, cpu + taken.cpu
        answers.append(picked)
    return {"wall": wall, "cpu": cpu, "picks": answers}


def main() -> None:
    torch.set_num_threads(1)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the packages print is no answer
    names = ("apricot-select", "submodlib-py", "datacull", "torch", "numpy")
    print(json.dumps({name: version(name) for name in names}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        found = beside(asked) if "loader" in asked else located(asked)
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
