"""What the selection library costs in anybody's loop, and beside other packages.

    python -m venv PEERS && PEERS/bin/pip install torch apricot-select submodlib-py datacull
    python -m benchmarks.library                                    # the epochs alone
    python -m benchmarks.library --peers PEERS/bin/python --data DIR

Each row compares two sides in one run, in pairs whose first side alternates, with one thread. Ratios are medians over
the pairs, of the processor's time (what to read where other processes disturb the clock) and of the clock's.

- **Epochs**: an epoch of `SubsetLoader` over one of a plain `DataLoader` that draws as many examples at random from the
  same data set, for each example. The data set is tensors in memory, whose items cost least, so that the loader's share
  is largest. *Loading* reads alone; *training* is a small convolutional network, the README's loop beside a plain one.
- **Other loaders**: DataCull's RS2 (its package) and InfoBatch (not on the index: its method, run again in
  benchmarks/library_peers.py), on the same loop and data, in the environment of `--peers`. The ratio is theirs over
  ours.
- **Facility location**: apricot and submodlib, which are given the similarities (the largest distance less each),
  beside the same search here with the distances given, and beside a whole selection here, distances included. One
  function computes the objective for all: the mean distance of an example from its nearest pick.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

if not __package__:
    # Run as a file: the project's root is not on the path yet.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Parser, processor, write_text
from benchmarks.pairs import (
    Loading,
    Loop,
    Taken,
    Training,
    alternating,
    ours,
    plain,
    shuffled,
    summary,
    timed,
)
from benchmarks.selection import Case, synthesise
from subset_selection import Pool, SubsetLoader, create
from subset_selection.craig import feature_distances
from subset_selection.facility_location import FacilityLocation
from subset_selection.submodular import maximise
from subset_trainer.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.02
"""The most that an epoch may take of a plain one's time."""
CLASSES, BATCH, FRACTION = 10, 128, 0.3
STRATEGIES: dict[str, dict[str, Any]] = {"rs2": {"fraction": FRACTION}, "infobatch": {}}
SEARCHES = (
    ("apricot", "lazy"),
    ("apricot", "two-stage"),
    ("submodlib", "LazyGreedy"),
    ("submodlib", "StochasticGreedy"),
)
EXACT = ("lazy", "two-stage", "LazyGreedy")
DEPTH, SHARE = 512, 0.1
Row = dict[str, Any]


# Images


def generated(count: int) -> tuple[Tensor, Tensor]:
    """Noise around a pattern for each class: images [N, 3, 32, 32] and labels [N]."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    patterns = torch.randn(CLASSES, 3, 32, 32, generator=draw)
    return torch.randn(count, 3, 32, 32, generator=draw).add_(patterns[labels]), labels


def read(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images of 32×32 from a folder with one folder for each class, each class alike."""
    from PIL import Image

    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise UserError(f"--data {folder}: expected a folder with one folder of images for each class")
    each = count // len(classes)
    files = [(file, label) for label, one in enumerate(classes) for file in sorted(one.iterdir())[:each]]
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((32, 32))) for file, _ in files])
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).contiguous()
    return values, torch.tensor([label for _, label in files])


# Epochs


def epochs(images: Tensor, labels: Tensor, training: bool, pairs: int, at_once: int) -> list[Row]:
    """`SubsetLoader` over a plain loader, for each strategy."""
    dataset = TensorDataset(images, labels)
    rows = []
    for strategy, options in STRATEGIES.items():
        loader = SubsetLoader(dataset, strategy=strategy, batch_size=BATCH, **options)
        loops: list[Loop] = [Training(int(labels.max()) + 1) if training else Loading() for _ in range(2)]
        count = ours(loader, loops[0])
        count = ours(loader, loops[0])  # InfoBatch's first epoch has all examples

        def one(loader: SubsetLoader = loader, loop: Loop = loops[0]) -> Taken:
            return timed(lambda: sum(ours(loader, loop) for _ in range(at_once)))

        def other(count: int = count, loop: Loop = loops[1]) -> Taken:
            stock = shuffled(dataset, count, BATCH)
            return timed(lambda: sum(plain(stock, loop) for _ in range(at_once)))

        other()
        row = {"strategy": strategy, "training": training, "samples": count}
        rows.append(judged(row | summary(alternating(one, other, pairs))))
    return rows


def judged(row: Row) -> Row:
    """The row with whether its ratio is within the limit."""
    return row | {"met": row["ratio"] <= LIMIT}


# Peers


class Peers:
    """The other environment's process, which answers one request after the other."""

    def __init__(self, python: str) -> None:
        places = os.pathsep.join(map(str, (ROOT, ROOT / "container_src/subset_selection")))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.library_peers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | {"PYTHONPATH": places},
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError(
                f"--peers: the process ended with exit code {self._process.wait()}; what it said is above. Expected "
                "torch, apricot-select, submodlib-py and datacull in its environment"
            )
        found: dict[str, Any] = json.loads(line)
        return found


def loaders(
    peers: Peers, folder: Path, images: Tensor, labels: Tensor, training: bool, pairs: int, at_once: int
) -> list[Row]:
    """Other packages' loaders over `SubsetLoader`."""
    files = {name: str(folder / f"{name}.npy") for name in ("images", "labels")}
    np.save(files["images"], images.numpy())
    np.save(files["labels"], labels.numpy())
    asked = {
        "batch_size": BATCH,
        "fraction": FRACTION,
        "training": training,
        "pairs": pairs,
        "epochs": at_once,
    }
    return [
        {"strategy": name, "training": training} | peers.ask(loader=name, **files, **asked)
        for name in STRATEGIES
    ]


# Facility location


def objective(features_nD: Tensor, picks: Sequence[int]) -> float:
    """The sum over the examples of the distance to the nearest pick, in float64."""
    wide_nD = features_nD.double()
    return float(torch.cdist(wide_nD, wide_nD[torch.as_tensor(picks)]).amin(dim=1).sum())


@dataclass
class Facility:
    """Examples in parts that are searched by themselves, and what our selections of them took."""

    parts: list[Tensor]
    """Features [n, D] float32 of each."""
    whole: list[Taken] = field(default_factory=list)
    picks: list[list[int]] = field(default_factory=list)

    @property
    def budget(self) -> int:
        return round(SHARE * len(self.parts[0]))

    def select(self) -> Taken:
        """Whole selections as `create("facility-location").select` makes them, from features; then the searches alone
        with the distances given, whose time is returned."""
        whole, search = [], []
        self.picks = []
        for features_nD in self.parts:
            count = len(features_nD)
            labels = torch.zeros(count, dtype=torch.int64)
            found: list[list[int]] = []

            def selection(
                features_nD: Tensor = features_nD, labels: Tensor = labels, found: Any = found
            ) -> int:
                pool = Pool(labels, torch.zeros(len(labels), 1), features_nD)
                made = create("facility-location").select(pool, pool, self.budget, torch.Generator())
                found.append(made.indices.tolist())
                return 1

            whole.append(timed(selection))
            given_nn = feature_distances(Pool(labels, None, features_nD), torch.arange(count))(
                torch.arange(count)
            )

            def searched(given_nn: Tensor = given_nn, count: int = count, found: Any = found) -> int:
                picked = maximise(
                    FacilityLocation(),
                    given_nn.__getitem__,
                    count,
                    self.budget,
                    "auto",
                    torch.Generator(),
                    given_nn.device,
                )
                found.append(picked.tolist())
                return 1

            search.append(timed(searched))
            assert found[0] == found[1]
            self.picks.append(found[0])
        self.whole.append(total(whole))
        return total(search)

    def distance(self, picks: Sequence[Sequence[int]]) -> float:
        """The mean distance from the nearest pick."""
        found = sum(objective(part, own) for part, own in zip(self.parts, picks, strict=True))
        return found / sum(map(len, self.parts))


def total(taken: Sequence[Taken]) -> Taken:
    return Taken(sum(one.wall for one in taken), sum(one.cpu for one in taken))


def facility(peers: Peers, folder: Path, rows: int, parts: int, pairs: int) -> list[Row]:
    """apricot's and submodlib's searches over ours, on ``parts`` sets of examples with ``rows`` in all."""
    data = synthesise(Case("facility-location", n=rows, classes=CLASSES, features=DEPTH), seed=0).train
    labels = data.labels if parts > 1 else torch.zeros(rows, dtype=torch.int64)
    case = Facility([data.features[labels == label] for label in range(parts)])
    files = [str(folder / f"part{part}.npy") for part in range(parts)]
    for file, features_nD in zip(files, case.parts, strict=True):
        np.save(file, features_nD.numpy())
    made = []
    for package, search in SEARCHES:
        answers: list[dict[str, Any]] = []

        def theirs(package: str = package, search: str = search, answers: Any = answers) -> Taken:
            answers.append(peers.ask(package=package, search=search, picks=case.budget, files=files))
            return Taken(answers[-1]["wall"], answers[-1]["cpu"])

        if parts == 1:
            theirs()  # apricot compiles
        pairs_found = alternating(theirs, case.select, pairs)
        made.append(
            located(case, summary(pairs_found), answers[-1]["picks"])
            | {"rows": rows, "parts": parts, "package": package, "search": search}
        )
    return made


def located(case: Facility, timing: dict[str, float], picks: Sequence[Sequence[int]]) -> Row:
    """One row: times in seconds, and both objectives."""
    return {
        "seconds": timing["ms"] / 1e6,
        "own_seconds": timing["other_ms"] / 1e6,
        "own_whole_seconds": median(one.cpu for one in case.whole),
        "ratio": timing["ratio"],
        "wall_ratio": timing["wall_ratio"],
        "distance": case.distance(picks),
        "own_distance": case.distance(case.picks),
    }


# Pages


def shown_epochs(rows: Sequence[Row], other: str = "plain") -> list[str]:
    """The table of epochs; ``other``: the other side's name, which for other packages is the first."""
    first, second = ("SubsetLoader", other) if other == "plain" else (other, "SubsetLoader")
    lines = [
        f"| strategy | | {first}, ms | {second}, ms | ratio | quartiles | by the clock |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        what = "training" if row["training"] else "loading"
        met = "" if row.get("met", True) else f" (above {LIMIT})"
        lines.append(
            f"| `{row['strategy']}` | {what} | {row['ms']:.2f} | {row['other_ms']:.2f} | {row['ratio']:.3f}{met} | "
            f"{row['low']:.3f} to {row['high']:.3f} | {row['wall_ratio']:.3f} |"
        )
    return lines


def shown_facility(rows: Sequence[Row]) -> list[str]:
    """The table of facility location."""
    lines = [
        "| rows | package | search | theirs, s | ours, s | ratio | with distances, s | mean distance, theirs | ours |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        rows_in = f"{row['rows']:,}" + (f" in {row['parts']}" if row["parts"] > 1 else "")
        lines.append(
            f"| {rows_in} | {row['package']} | {row['search']} | {row['seconds']:.2f} | {row['own_seconds']:.2f} | "
            f"{row['ratio']:.1f} | {row['own_whole_seconds']:.2f} | {row['distance']:.6f} | {row['own_distance']:.6f} |"
        )
    return lines


def parser() -> Parser:
    made = Parser(prog="benchmarks.library", description=__doc__.split("\n\n")[0])
    made.add_argument(
        "--data", type=Path, help="a folder of class folders of images; default: generated ones"
    )
    made.add_argument("--n", type=int, default=10_000, help="number of images (default %(default)s)")
    made.add_argument("--pairs", type=int, default=9, help="pairs of a row (default %(default)s)")
    made.add_argument("--peers", help="the Python of an environment with the other packages")
    made.add_argument(
        "--parts",
        default="epochs,loaders,facility",
        help="what to measure: epochs, loaders, facility (default: all that --peers allows)",
    )
    made.add_argument("--json", type=Path, help="write all figures to this file")
    return made


def main() -> None:
    options = parser().parse_args()
    known: dict[str, Callable[..., None]] = {"epochs": _epochs, "loaders": _loaders, "facility": _facility}
    asked = options.parts.split(",")
    if unknown := [part for part in asked if part not in known]:
        raise UserError(f"--parts {','.join(unknown)}: expected some of {', '.join(known)}")
    torch.set_num_threads(1)
    found: Row = {"machine": processor(), "python": platform.python_version(), "torch": torch.__version__}
    print(f"{found['machine']}, Python {found['python']}, torch {found['torch']}, one thread", flush=True)
    peers = Peers(options.peers) if options.peers else None
    if peers is not None:
        found["peers"] = peers.versions
        print(", ".join(f"{name} {version}" for name, version in peers.versions.items()), flush=True)
    with tempfile.TemporaryDirectory() as name:
        images, labels = generated(options.n) if options.data is None else read(options.data, options.n)
        for part in asked:
            if part == "epochs" or peers is not None:
                known[part](found, peers, Path(name), images, labels, options.pairs)
            if options.json is not None:
                write_text(options.json, json.dumps(found, indent=1) + "\n")
    if peers is not None:
        peers.close()


def _epochs(found: Row, peers: Peers, folder: Path, images: Tensor, labels: Tensor, pairs: int) -> None:
    found["epochs"] = epochs(images, labels, False, 5 * pairs, 4) + epochs(images, labels, True, pairs, 1)
    print("", *shown_epochs(found["epochs"]), sep="\n", flush=True)


def _loaders(found: Row, peers: Peers, folder: Path, images: Tensor, labels: Tensor, pairs: int) -> None:
    found["loaders"] = [
        *loaders(peers, folder, images, labels, False, 5 * pairs, 4),
        *loaders(peers, folder, images, labels, True, pairs, 1),
    ]
    print("", *shown_epochs(found["loaders"], "theirs"), sep="\n", flush=True)


def _facility(found: Row, peers: Peers, folder: Path, images: Tensor, labels: Tensor, pairs: int) -> None:
    found["facility"] = [
        *facility(peers, folder, 5_000, 1, max(1, pairs // 2)),
        *facility(peers, folder, 50_000, CLASSES, max(1, pairs // 4)),
    ]
    print("", *shown_facility(found["facility"]), sep="\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
