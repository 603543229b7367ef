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
from subset_selection.cords import nonadaptive as ours_once

theirs: Any = pytest.importorskip("cords.utils.data.dataloader.SL.adaptive")
theirs_once: Any = pytest.importorskip("cords.utils.data.dataloader.SL.nonadaptive")
LOG = logging.getLogger("cords")
CLASSES, WIDTH, BATCH, EXAMPLES = 5, 12, 16, 320


def dataset(examples: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples)[torch.randperm(examples, generator=draw)] % CLASSES
    return TensorDataset(torch.randn(examples, WIDTH, generator=draw) + 0.3 * labels[:, None], labels)


TRAIN, VALIDATION = PLAIN, _ = dataset(EXAMPLES, 0), dataset(80, 1)


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
    """The subsets, weights and batches of every epoch of a script that imports its loader from ``home`` and trains."""
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(3)
    network = model()
    loaders = [DataLoader(each, batch_size=batch) for each in (TRAIN, VALIDATION)]
    dss = DotMap({**given, "model": network}) if home is theirs else {**given, "model": network}
    made = getattr(home, kind)(
        *loaders[: 1 if "Random" in kind else 2], dss, LOG, batch_size=batch, shuffle=True
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    seen: list[Any] = []
    for _ in range(epochs):
        batches = []
        for inputs, labels, weights in made:
            losses = nn.functional.cross_entropy(network(inputs), labels, reduction="none")
            optimizer.zero_grad()
            losses.dot(weights / weights.sum()).backward()
            optimizer.step()
            batches.append([part.tolist() for part in (inputs, labels, weights)])
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
    expected, found = (script(home, "GLISTERDataLoader", given, 5, batch) for home in (theirs, ours))
    assert [indices for indices, _, _ in found] == [indices for indices, _, _ in expected]
    assert found == expected  # the shuffled batches, too
    assert len({tuple(indices) for indices, _, _ in found}) == 3  # a random one, and two selections


def test_a_warm_start_has_cords_s_epochs_the_empty_ones_included() -> None:
    given = arguments(kappa=0.5, num_epochs=8)
    expected, found = (script(home, "GLISTERDataLoader", given, 8) for home in (theirs, ours))
    assert found == expected
    assert [len(batches) for _, _, batches in found] == [20, 0, 0, 0, 5, 5, 5, 5]


def test_images_that_change_at_random_are_selected_and_seen_as_with_cords(monkeypatch: Any) -> None:
    monkeypatch.setitem(globals(), "TRAIN", Noisy())
    given = arguments(selection_type="Supervised", greedy="Stochastic")
    expected, found = (script(home, "GLISTERDataLoader", given, 5) for home in (theirs, ours))
    assert found == expected


class Noisy(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, label = TensorDataset.__getitem__(PLAIN, index)
        return inputs + random.choice((-1, 1)) * torch.randn(WIDTH), label


@pytest.mark.parametrize("scope", ["PerClass", "PerClassPerGradient", "PerBatch"])
@pytest.mark.parametrize("valid", [False, True])
def test_gradmatch_picks_and_weights_what_cords_does_where_it_does_not_fill_up(
    scope: str, valid: bool
) -> None:
    # Few picks of many dimensions: CORDS's solver for the CPU matches to the end.
    fraction = 0.25 if scope == "PerBatch" else 0.05
    given = arguments(selection_type=scope, valid=valid, fraction=fraction, select_every=1, eps=1e-9)
    expected, found = (script(home, "GradMatchDataLoader", given, 4) for home in (theirs, ours))
    for (theirs_at, their_weights, _), (ours_at, our_weights, _) in zip(expected[1:], found[1:], strict=True):
        assert ours_at == theirs_at
        assert our_weights == pytest.approx(their_weights, rel=1e-3, abs=1e-4)


def test_a_short_last_batch_counts_by_its_examples_and_not_as_one_of_the_full_ones() -> None:
    """GRAD-MATCH per batch: CORDS's target is the sum of the batches' means, and ours that of all examples."""
    inputs, labels = TRAIN.tensors
    data = TensorDataset(torch.cat([inputs, 5 * inputs[:1]]), torch.cat([labels, labels[:1]]))
    network = model()
    loaders = [DataLoader(each, batch_size=BATCH) for each in (data, VALIDATION)]
    given = arguments(selection_type="PerBatch", fraction=0.3, eps=1e-9)
    residuals = network(data.tensors[0]).softmax(1).detach() - nn.functional.one_hot(data.tensors[1])
    ones = torch.cat([torch.ones(EXAMPLES + 1, 1), data.tensors[0]], dim=1)
    gradients = (residuals[:, :, None] * ones[:, None]).flatten(1)
    errors = []
    for home in (theirs, ours):
        dss = DotMap({**given, "model": network}) if home is theirs else {**given, "model": network}
        made = home.GradMatchDataLoader(*loaders, dss, LOG, batch_size=BATCH)
        made.resample()
        weights = torch.zeros(EXAMPLES + 1)
        weights[torch.as_tensor([int(at) for at in made.subset_indices])] = made.subset_weights
        batches = torch.stack(
            [weights[at] * gradients[at : at + BATCH].mean(0) for at in range(0, 321, BATCH)]
        )
        matched = BATCH * batches.sum(0)
        errors.append(float((matched - gradients.sum(0)).norm() / gradients.sum(0).norm()))
    assert errors[1] < 0.5 * errors[0]


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
    network = model()
    loaders = [DataLoader(each, batch_size=BATCH) for each in (TRAIN, VALIDATION)]
    loader = ours.CRAIGDataLoader(*loaders, {**given, "model": network}, None, batch_size=BATCH)
    loader.resample()
    indices, weights = loader.subset_indices, loader.subset_weights.tolist()
    with torch.no_grad():
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


def once(
    home: Any, kind: str, given: dict[str, Any], dataset: Any = TRAIN, shuffle: bool = False
) -> tuple[list[int], list[float], list[Any]]:
    """The subset, weights and batches of a loader that selects once, in two epochs."""
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(3)
    dss = DotMap(device="cpu", **given)
    loaders = [DataLoader(each, batch_size=BATCH) for each in (dataset, VALIDATION)]
    made = getattr(home, kind)(
        *loaders, dss if home is theirs_once else dss.toDict(), LOG, batch_size=BATCH, shuffle=shuffle
    )
    batches = [[part.tolist() for part in batch] for _ in range(2) for batch in made]
    return [int(at) for at in made.subset_indices], made.subset_weights.tolist(), batches


@pytest.mark.parametrize("kind", ["FacLocDataLoader", "GraphCutDataLoader", "SumRedundancyDataLoader"])
@pytest.mark.parametrize(
    ("fraction", "size_chunk", "shuffle"), [(0.1, 320, False), (0.3, 110, True), (0.8, 160, False)]
)
def test_loaders_that_select_once_pick_what_cords_picks_in_its_order(
    kind: str, fraction: float, size_chunk: int, shuffle: bool
) -> None:
    given = {"fraction": fraction, "size_chunk": size_chunk}
    found = once(ours_once, kind, given, shuffle=shuffle)
    assert found == once(theirs_once, kind, given, shuffle=shuffle)
    assert len(found[0]) == len(set(found[0])) == EXAMPLES * fraction


def test_images_and_double_precision_are_compared_as_cords_does() -> None:
    images = torch.randn(120, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    for inputs in (images, images.double(), (images * 40).to(torch.int64)):
        data = TensorDataset(inputs, torch.zeros(120, dtype=torch.int64))
        for kind in ("FacLocDataLoader", "GraphCutDataLoader"):
            # Of more picks some gain equally much, and in double precision rounding decides in CORDS.
            given = {"fraction": 0.1, "size_chunk": 120}
            assert once(ours_once, kind, given, data) == once(theirs_once, kind, given, data)


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 8)


def test_texts_are_compared_by_their_mean_embedding() -> None:
    tokens = torch.randint(50, (100, 6), generator=torch.Generator().manual_seed(5))
    data = TensorDataset(tokens, torch.zeros(100, dtype=torch.int64))
    for kind in ("FacLocDataLoader", "GraphCutDataLoader", "SumRedundancyDataLoader"):
        given = {"fraction": 0.2, "size_chunk": 100, "data_type": "text", "model": Texts()}
        assert once(ours_once, kind, given, data) == once(theirs_once, kind, given, data)


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_saturated_coverage_is_apricot_s_and_not_facility_location(fraction: float) -> None:
    apricot: Any = pytest.importorskip("apricot")
    indices, _, _ = once(
        ours_once, "SaturatedCoverageDataLoader", {"fraction": fraction, "size_chunk": EXAMPLES}
    )
    search = apricot.SaturatedCoverageSelection(len(indices), alpha=fraction, optimizer="lazy")
    assert indices == search.fit(TRAIN.tensors[0].numpy()).ranking.tolist()
    theirs_at, _, _ = once(
        theirs_once, "SaturatedCoverageDataLoader", {"fraction": fraction, "size_chunk": EXAMPLES}
    )
    assert (
        theirs_at == once(theirs_once, "FacLocDataLoader", {"fraction": fraction, "size_chunk": EXAMPLES})[0]
    )


def test_chunks_that_cords_cannot_divide_the_budget_among_give_exactly_the_budget() -> None:
    # Three chunks of 6 and a rest, of 2 for 3 picks, of 1 for 5; and 9 picks in 6 chunks, where the last has none.
    for examples, size_chunk, picks in ((20, 6, 12), (19, 6, 18), (54, 9, 9)):
        data = Subset(TRAIN, range(examples))
        given = {"fraction": (picks + 0.1) / examples, "size_chunk": size_chunk}
        with pytest.raises(ValueError, match=r"Cannot select more examples|n_samples must be"):
            once(theirs_once, "FacLocDataLoader", given, data)
        for kind in ("FacLocDataLoader", "GraphCutDataLoader", "SaturatedCoverageDataLoader"):
            indices, weights, _ = once(ours_once, kind, given, data)
            assert len(set(indices)) == len(indices) == picks and weights == [1] * picks


def test_duplicates_are_picked_once_each_after_the_others() -> None:
    distinct = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(distinct.repeat(4, 1), torch.zeros(24, dtype=torch.int64))
    for kind in ("FacLocDataLoader", "GraphCutDataLoader", "SumRedundancyDataLoader"):
        indices, _, _ = once(ours_once, kind, {"fraction": 0.75, "size_chunk": 24}, data)
        assert len(set(indices)) == 18
        if kind == "FacLocDataLoader":
            assert sorted(at % 6 for at in indices[:6]) == list(range(6))


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize("scope", ["PerClass", "Supervised"])
def test_craig_that_selects_once_picks_what_the_adaptive_one_would_first(scope: str, convex: bool) -> None:
    found = []
    for home in (ours_once, ours):
        np.random.seed(0)
        given = {**arguments(selection_type=scope, if_convex=convex), "model": model()}
        loaders = [DataLoader(each, batch_size=BATCH) for each in (TRAIN, VALIDATION)]
        made: Any = home.CRAIGDataLoader(*loaders, given, None, batch_size=BATCH)
        if home is ours:
            np.random.seed(0)
            made.resample()
        found.append((made.subset_indices, made.subset_weights.tolist()))
    assert found[0] == found[1] and sum(found[0][1]) == EXAMPLES
    with pytest.raises(AttributeError, match="has no attribute 'train_model'"):  # CORDS's own cannot be made
        given["loss"] = nn.CrossEntropyLoss(reduction="none")
        theirs_once.CRAIGDataLoader(*loaders, DotMap(given), LOG, batch_size=BATCH)


def test_a_loader_without_a_batch_size_is_refused_by_a_sentence() -> None:
    train = DataLoader(TRAIN, batch_sampler=[[0, 1], [2]])
    with pytest.raises(ValueError, match="the loader has no batch_size"):
        ours_once.FacLocDataLoader(train, train, {"fraction": 0.5, "device": "cpu", "size_chunk": 9}, None)


def test_selcon_is_refused_by_a_sentence() -> None:
    for module in ("subset_selection.cords", "subset_selection.cords.adaptive"):
        with pytest.raises(ImportError, match="SELCONDataLoader selects for regression"):
            exec(f"from {module} import SELCONDataLoader")
    with pytest.raises(ImportError, match="cannot import name 'Other'"):
        exec("from subset_selection.cords import Other")


def test_the_mode_of_the_strategy_s_model_is_not_that_of_the_model_in_training() -> None:
    network = model()
    loaders = [DataLoader(each, batch_size=BATCH) for each in (TRAIN, VALIDATION)]
    loader = ours.GLISTERDataLoader(*loaders, {**arguments(), "model": network}, None, batch_size=BATCH)
    loader.strategy.model.eval()  # what scripts with CORDS do, so that it selects in eval mode
    assert network.training and not loader.strategy.model.training


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "dss_args lacks size_chunk, which FacLocDataLoader needs"),
        ({"size_chunk": 0}, "size_chunk=0: expected a whole number of examples, at least 1"),
        ({"size_chunk": 9, "data_type": "text"}, "data_type='text': expected a model with an attribute"),
    ],
)
def test_what_a_loader_that_selects_once_cannot_use_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        once(ours_once, "FacLocDataLoader", {"fraction": 0.5, **given})


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
