"""CORDS's loaders and this package's of the same names, side by side in scripts that change one import."""

import logging
import random
from typing import Any

import numpy as np
import pytest
import torch
from dotmap import DotMap
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.selection import Head
from subset_selection import Pool, create
from subset_selection import cords as ours

theirs: Any = pytest.importorskip("cords.utils.data.dataloader.SL.adaptive")
LOG = logging.getLogger("cords")
CLASSES, WIDTH, BATCH, EXAMPLES = 5, 12, 16, 320


def dataset(examples: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples)[torch.randperm(examples, generator=draw)] % CLASSES
    return TensorDataset(torch.randn(examples, WIDTH, generator=draw) + 0.3 * labels[:, None], labels)


TRAIN, VALIDATION = dataset(EXAMPLES, 0), dataset(80, 1)


def model() -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = Head(WIDTH, CLASSES)
    return made


def arguments(**others: Any) -> dict[str, Any]:
    given = {
        "fraction": 0.25,
        "device": "cpu",
        "kappa": 0,
        "select_every": 2,
        "num_classes": CLASSES,
        "eta": 0.1,
    }
    given |= {
        "loss": nn.CrossEntropyLoss(reduction="none"),
        "linear_layer": True,
        "selection_type": "PerClass",
    }
    given |= {"greedy": "Naive", "valid": False, "v1": True, "lam": 0.0, "eps": 1e-4, "optimizer": "lazy"}
    return {**given, "if_convex": False, "num_epochs": 6, **others}


def script(home: Any, kind: str, given: dict[str, Any], epochs: int = 3, batch: int = BATCH) -> list[Any]:
    """The subsets, weights and batches of every epoch of a script that imports its loader from ``home``."""
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(3)
    network = model()
    loaders = [DataLoader(each, batch_size=batch) for each in (TRAIN, VALIDATION)]
    dss = DotMap({**given, "model": network}) if home is theirs else {**given, "model": network}
    made = getattr(home, kind)(
        *loaders[: 1 if "Random" in kind else 2], dss, LOG, batch_size=batch, shuffle=False
    )
    seen: list[Any] = []
    for _ in range(epochs):
        batches = [[part.tolist() for part in batch] for batch in made]
        with torch.no_grad():
            for parameter in network.parameters():  # what training would do
                parameter.mul_(1.1)
        seen.append(
            ([int(index) for index in made.subset_indices], [float(w) for w in made.subset_weights], batches)
        )
    return seen


GLISTER = [
    {"selection_type": scope, "greedy": greedy, "r": 4, "linear_layer": linear}
    for scope in ("PerClass", "Supervised", "PerBatch")
    for greedy in ("Naive", "Stochastic", "RGreedy")
    for linear in ((True, False) if greedy == "Naive" else (True,))
    # CORDS exceeds the budget where its rounds do not divide it: 5 batches in 4 rounds
    if (scope, greedy) != ("PerBatch", "RGreedy")
]


@pytest.mark.parametrize("options", GLISTER, ids=lambda options: "-".join(map(str, options.values())))
def test_glister_picks_what_cords_picks_with_one_changed_import(options: dict[str, Any]) -> None:
    given = arguments(**options)
    # Of few batches CORDS's stochastic search wants to sample more than remain.
    batch = 4 if options["selection_type"] == "PerBatch" else BATCH
    expected, found = (script(home, "GLISTERDataLoader", given, batch=batch) for home in (theirs, ours))
    assert found == expected
    assert len({tuple(indices) for indices, _, _ in found}) == 2  # a random one, and a selection


def test_a_warm_start_has_cords_s_epochs_the_empty_ones_included() -> None:
    given = arguments(kappa=0.5, num_epochs=8)
    expected, found = (script(home, "GLISTERDataLoader", given, 8) for home in (theirs, ours))
    assert found == expected
    assert [len(batches) for _, _, batches in found] == [20, 0, 0, 0, 5, 5, 5, 5]


@pytest.mark.parametrize("scope", ["PerClass", "PerClassPerGradient"])
@pytest.mark.parametrize("valid", [False, True])
def test_gradmatch_picks_and_weights_what_cords_does_where_it_does_not_fill_up(
    scope: str, valid: bool
) -> None:
    # Few picks of many dimensions: CORDS's solver for the CPU matches to the end.
    given = arguments(selection_type=scope, valid=valid, fraction=0.05, select_every=1, eps=1e-9)
    expected, found = (script(home, "GradMatchDataLoader", given, 3) for home in (theirs, ours))
    for (theirs_at, their_weights, _), (ours_at, our_weights, _) in zip(expected[1:], found[1:], strict=True):
        assert sorted(ours_at) == sorted(theirs_at)
        of_theirs, of_ours = (
            dict(zip(theirs_at, their_weights, strict=True)),
            dict(zip(ours_at, our_weights, strict=True)),
        )
        for index, weight in of_theirs.items():
            assert of_ours[index] == pytest.approx(weight, rel=1e-3, abs=1e-4)


def test_random_loaders_keep_or_draw_anew_and_can_be_seeded() -> None:
    given = arguments(select_every=1)
    for kind, different in (("RandomDataLoader", 2), ("OLRandomDataLoader", 4)):
        first, second = (script(ours, kind, given, 4) for _ in range(2))
        assert first == second and len({tuple(indices) for indices, _, _ in first}) == different
    # The first subset is NumPy's choice, as in CORDS; after it CORDS seeds by the clock.
    assert script(theirs, "RandomDataLoader", given, 1) == script(ours, "RandomDataLoader", given, 1)


@pytest.mark.parametrize("scope", ["PerClass", "Supervised", "PerBatch"])
def test_craig_picks_the_medoids_with_their_weights(scope: str) -> None:
    """CORDS's are those of another order; ours are the strategy's own, whose search is tested beside apricot's."""
    given = arguments(selection_type=scope)
    *_, (indices, weights, _) = script(ours, "CRAIGDataLoader", given)
    network = model()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1).mul_(1.1)
        pool = Pool(TRAIN.tensors[1], network(TRAIN.tensors[0]), TRAIN.tensors[0])
    if scope == "PerBatch":
        assert len(indices) == 80 and sum(weights[::BATCH]) == EXAMPLES / BATCH
        assert [indices[at : at + BATCH] for at in range(0, 80, BATCH)] == [
            list(range(first, first + BATCH)) for first in indices[::BATCH]
        ]
        return
    strategy = create("craig", scope="per-class" if scope == "PerClass" else "supervised")
    expected = strategy.select(pool, pool, 80, torch.Generator())
    assert sum(weights) == EXAMPLES
    assert dict(zip(indices, weights, strict=True)) == dict(
        zip(expected.indices.tolist(), expected.weights.tolist(), strict=True)
    )


def test_where_cords_fails_ours_goes_on() -> None:
    # All examples; a budget of fewer than the rounds; a class that the validation set lacks.
    (*_, (whole, _, _)) = script(ours, "GLISTERDataLoader", arguments(fraction=1, greedy="Stochastic"))
    assert sorted(whole) == list(range(EXAMPLES))
    (*_, (few, _, _)) = script(ours, "GLISTERDataLoader", arguments(fraction=0.25, greedy="RGreedy", r=7))
    assert len(set(few)) == len(few) == 80
    lacking = [index for index in range(80) if VALIDATION.tensors[1][index] != 2]
    network, given = model(), arguments(selection_type="PerClass")
    loaders = [DataLoader(each, batch_size=BATCH) for each in (TRAIN, Subset(VALIDATION, lacking))]
    loader = ours.GLISTERDataLoader(*loaders, {**given, "model": network}, None, batch_size=BATCH)
    loader.resample()
    assert len(loader.subset_indices) == 80


def test_a_shuffled_training_loader_and_a_model_in_training_do_not_matter() -> None:
    network = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), nn.Linear(WIDTH, CLASSES)).train()
    picked = []
    for shuffle in (False, True):
        train = DataLoader(TRAIN, batch_size=BATCH, shuffle=shuffle)
        validation = DataLoader(VALIDATION, batch_size=BATCH)
        given = {**arguments(), "model": network}
        loader = ours.GLISTERDataLoader(train, validation, given, None, batch_size=BATCH)
        loader.resample()
        picked.append(loader.subset_indices)
    assert picked[0] == picked[1] and network.training


@pytest.mark.parametrize(
    ("kind", "others", "sentence"),
    [
        (
            "GLISTERDataLoader",
            {"selection_type": "perclass"},
            "selection_type='perclass': expected one of PerBatch",
        ),
        (
            "GLISTERDataLoader",
            {"greedy": "Lazy"},
            "greedy='Lazy': expected one of Stochastic, Naive, RGreedy",
        ),
        ("GLISTERDataLoader", {"loss": nn.CrossEntropyLoss()}, "expected CrossEntropyLoss.reduction='none'."),
        ("GLISTERDataLoader", {"fraction": 0}, "fraction=0 of 320 examples: expected at least one"),
        ("GradMatchDataLoader", {"selection_type": "Supervised"}, "selection_type='Supervised': expected"),
        (
            "CRAIGDataLoader",
            {"selection_type": "PerBatch", "if_convex": True},
            "if_convex=True does not work",
        ),
    ],
)
def test_what_cords_takes_in_silence_is_refused(kind: str, others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        script(ours, kind, arguments(**others))


def test_an_argument_that_lacks_is_named() -> None:
    given = arguments()
    del given["eta"]
    with pytest.raises(ValueError, match="dss_args lacks eta, which GLISTERDataLoader needs"):
        script(ours, "GLISTERDataLoader", given)
