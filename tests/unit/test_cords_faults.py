"""Where CORDS 0.0.4 is wrong, shown by calling CORDS itself, beside what this project does instead.

A test that fails after an upgrade of CORDS says that the fault is mended there: the text on it can go.
"""

import itertools
import logging
from typing import Any, Literal

import numpy as np
import pytest
import torch
from cords.selectionstrategies.helpers.omp_solvers import OrthogonalMP_REG, OrthogonalMP_REG_Parallel_V1
from cords.selectionstrategies.SL import CRAIGStrategy, GLISTERStrategy, GradMatchStrategy
from cords.utils.data.dataloader.SL import adaptive, nonadaptive
from dotmap import DotMap
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import Pool, Settings, Subset, create
from subset_trainer.config import parse
from subset_trainer.errors import UserError
from subset_trainer.training import plan

LOG = logging.getLogger("cords-faults")
LOSS = nn.CrossEntropyLoss(reduction="none")
CLASSES, FEATURES = 3, 6


class Network(nn.Module):
    """Features → logits behind CORDS's protocol; batch normalisation and dropout tell train from eval mode."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Dropout(0.5))
        self.head = nn.Linear(FEATURES, classes)

    def get_embedding_dim(self) -> int:
        return self.head.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        hidden = self.body(inputs).detach()
        logits = self.head(hidden)
        return (logits, hidden) if last else logits


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(classes: int = CLASSES) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Network(classes).eval()


def examples(count: int, seed: int = 0, classes: int = CLASSES) -> TensorDataset:
    """In ten clusters a class, so that some choices are much better than others."""
    draw = generator(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.randn(classes, 10, FEATURES, generator=generator(99))
    which = torch.randint(10, (count,), generator=draw)
    return TensorDataset(centres[labels, which] + 0.3 * torch.randn(count, FEATURES, generator=draw), labels)


TRAIN, VALIDATION = examples(240), examples(60, seed=1)


@torch.no_grad()
def pool(model: Network, data: TensorDataset) -> Pool:
    logits, features = model(data.tensors[0], last=True)
    return Pool(data.tensors[1], logits, features)


def in_order(data: TensorDataset) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(data, batch_size=64)


def native(
    name: str, settings: Settings, budget: int, seed: int = 0, validation: TensorDataset = VALIDATION
) -> Subset:
    model = network()
    return create(name, settings).select(pool(model, TRAIN), pool(model, validation), budget, generator(seed))


def glister(
    selection_type: str = "Supervised",
    greedy: str = "Naive",
    *,
    model: Network | None = None,
    train: DataLoader[tuple[Tensor, ...]] | None = None,
    validation: TensorDataset = VALIDATION,
    eta: float = 0.05,
    rounds: int = 15,
) -> GLISTERStrategy:
    model = model or network()
    classes = model.head.out_features
    return GLISTERStrategy(
        train or in_order(TRAIN),
        in_order(validation),
        model,
        LOSS,
        eta,
        "cpu",
        classes,
        True,
        selection_type,
        greedy,
        LOG,
        r=rounds,
    )


def chosen(strategy: Any, budget: int) -> list[int]:
    """Which examples a strategy of CORDS picks with the weights that its model has now."""
    indices, _ = strategy.select(budget, strategy.model.state_dict())
    return [int(index) for index in indices]


def arguments(model: Network, **others: Any) -> DotMap:
    """What CORDS's loaders want to be told."""
    given = {
        "model": model,
        "loss": LOSS,
        "eta": 0.05,
        "num_classes": CLASSES,
        "device": "cpu",
        "kappa": 0,
        "num_epochs": 10,
        "fraction": 0.1,
        "select_every": 1,
        "linear_layer": True,
        "selection_type": "Supervised",
        "greedy": "Stochastic",
        "optimizer": "lazy",
        "if_convex": False,
    }
    return DotMap({**given, **others})


def glister_loader(model: Network, **others: Any) -> Any:
    return adaptive.GLISTERDataLoader(in_order(TRAIN), in_order(VALIDATION), arguments(model, **others), LOG)


def test_the_same_glister_where_cords_is_right() -> None:
    """What the other tests rest upon: in eval mode, over a loader in order, both pick the same."""
    ours = native("glister", Settings(scope="supervised", greedy="naive", eta=0.05), 24)
    assert chosen(glister(), 24) == ours.indices.tolist()


def test_craig_chooses_nearly_at_random() -> None:
    """It measures distances over a shuffled sampler, and takes their rows for the examples in order."""
    budget, model = 24, network()
    strategy = CRAIGStrategy(
        in_order(TRAIN), in_order(VALIDATION), model, LOSS, "cpu", CLASSES, True, False, "Supervised", LOG
    )
    answers = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.default_generator.manual_seed(seed)
            answers.append(torch.tensor(chosen(strategy, budget)))
    # The model is the same, and the search is exact: only the order of the sampler differs.
    assert len(set(answers[0].tolist()) & set(answers[1].tolist())) < 0.4 * budget  # chance: a tenth

    residuals, features = pool(model, TRAIN).rows(torch.arange(len(TRAIN)))
    with_bias = torch.cat([features, torch.ones(len(TRAIN), 1)], dim=1)
    gradients = torch.einsum("nc,nd->ncd", residuals, with_bias).flatten(1)
    distances = torch.cdist(gradients, gradients)

    def cost(subset: Tensor) -> float:
        """Facility location: the mean distance to the nearest pick."""
        return float(distances[subset].amin(dim=0).mean())

    # By brute force: each pick is the one that lowers the cost most.
    nearest, greedy = distances.max().expand(len(TRAIN)), list[int]()
    for _ in range(budget):
        costs = torch.minimum(nearest, distances).sum(dim=1)
        costs[greedy] = torch.inf
        greedy.append(int(costs.argmin()))
        nearest = torch.minimum(nearest, distances[greedy[-1]])

    right = cost(torch.tensor(greedy))
    by_chance = [cost(torch.randperm(len(TRAIN), generator=generator(seed))[:budget]) for seed in range(50)]
    ours = native("craig", Settings(scope="supervised"), budget)
    assert cost(ours.indices) == pytest.approx(right, rel=1e-3)
    assert right < min(by_chance)
    for answer in answers:
        assert cost(answer) > np.quantile(by_chance, 0.02) > 1.2 * right


def test_a_shuffled_loader_makes_the_indices_meaningless() -> None:
    """CORDS's examples hand it a loader with shuffle=True; nothing warns."""
    right = chosen(glister(), 24)
    shuffled = DataLoader(TRAIN, batch_size=64, shuffle=True, generator=generator())
    assert len(set(chosen(glister(train=shuffled), 24)) & set(right)) < 12


def test_it_selects_in_train_mode() -> None:
    """Its copy of a model that is being trained drops features and normalises by the batch."""
    model = network()
    right = chosen(glister(model=model), 24)
    loader = glister_loader(model.train(), greedy="Naive")
    assert loader.strategy.model.training
    loader.budget = 24
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        loader.resample()
    assert loader.strategy.model.training
    assert len(set(loader.subset_indices) & set(right)) < 16


def test_the_first_epochs_are_on_a_random_subset() -> None:
    """Up to and including epoch ``select_every`` its strategy is not asked: in a run no longer than that, never."""
    loader = glister_loader(network(), select_every=3)
    first = list(loader.subset_indices)
    for _ in range(3):
        iter(loader)
    assert list(loader.subset_indices) == first
    iter(loader)
    assert list(loader.subset_indices) != first
    assert [epoch.number for epoch in plan.epochs(7, 0.1, 3, 0.0) if epoch.selection_due] == [1, 4, 7]


def test_a_warm_start_skips_epochs() -> None:
    """kappa = 0.5 over 12 epochs at 10%: one on all data, five on nothing."""
    loader = glister_loader(network(), kappa=0.5, num_epochs=12, select_every=20)
    sizes = [len(list(loader)) for _ in range(12)]
    assert sizes == [240] + [0] * 5 + [24] * 6
    ours = plan.epochs(12, 0.1, 20, 0.5)
    assert [epoch.everything for epoch in ours] == [True] + [False] * 6


def test_the_budget_is_rounded_down() -> None:
    """0.29 · 100 is 28.999999999999996 in floating point."""
    loader = adaptive.OLRandomDataLoader(in_order(examples(100)), arguments(network(), fraction=0.29), LOG)
    assert loader.budget == 28
    assert plan.budget(100, 0.29) == 29


def test_its_random_loader_cannot_be_seeded(capsys: pytest.CaptureFixture[str]) -> None:
    loader = adaptive.OLRandomDataLoader(in_order(TRAIN), arguments(network()), LOG)
    answers = []
    for _ in range(2):
        np.random.seed(0)
        loader.resample()
        answers.append(loader.subset_indices.tolist())
    assert answers[0] != answers[1]
    assert "requires subset selection" in capsys.readouterr().out  # it prints, too
    ours = [native("adaptive-random", Settings(), 24) for _ in range(2)]
    assert ours[0].indices.tolist() == ours[1].indices.tolist()


def gradmatch(lam: float = 0.5, eps: float = 1e-4, **others: Any) -> GradMatchStrategy:
    return GradMatchStrategy(
        in_order(TRAIN),
        in_order(VALIDATION),
        network(),
        LOSS,
        0.05,
        "cpu",
        CLASSES,
        True,
        others.pop("selection_type", "PerClassPerGradient"),
        LOG,
        lam=lam,
        eps=eps,
        **others,
    )


def answer_and_draws(strategy: Any, budget: int, caplog: pytest.LogCaptureFixture) -> tuple[set[int], int]:
    """What GRAD-MATCH chose, and how many of them it drew at random: it tells its log alone."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, LOG.name):
        picks = set(chosen(strategy, budget))
    (message,) = (record.getMessage() for record in caplog.records if "Random points" in record.msg)
    return picks, int(message.rpartition(":")[2])


@pytest.mark.parametrize("match", ["training", "validation"])
def test_gradmatch_stops_early_and_fills_up_at_random(
    match: Literal["training", "validation"], caplog: pytest.LogCaptureFixture
) -> None:
    """On the CPU the solver stops where it would pick an example again; most of the answer is then random."""
    budget = 120
    answers = []
    for seed in (0, 1):
        np.random.seed(seed)
        picks, drawn = answer_and_draws(gradmatch(valid=match == "validation"), budget, caplog)
        assert len(picks) == budget
        assert drawn > 0.8 * budget
        answers.append(picks)
    assert answers[0] != answers[1]  # though the model is the same, and matching draws nothing
    settings = Settings(scope="per-class-per-gradient", match=match)
    ours = [native("gradmatch", settings, budget, seed) for seed in (0, 1)]
    assert len(ours[0].indices) == budget and not ours[0].note
    assert ours[0].indices.tolist() == ours[1].indices.tolist()


def test_the_solver_stops_at_a_duplicate() -> None:
    """What is left of a target outside the atoms' cone is at a right angle to those taken and at an obtuse one to all
    others: the next pick is one of those taken. Asked for 30 atoms, it then returns what it has."""
    draw = np.random.default_rng(0)
    atoms, target = np.abs(draw.normal(size=(6, 30))), draw.normal(size=6)
    weights = OrthogonalMP_REG(atoms, target, tol=1e-4, nnz=30, positive=True, lam=0)
    left = target - atoms @ weights
    assert 0 < np.count_nonzero(weights) < 6
    assert np.linalg.norm(left) > 0.1 * np.linalg.norm(target)
    assert weights[np.argmax(atoms.T @ left)] > 0


def test_gradmatch_ignores_lam_and_eps_on_the_cpu() -> None:
    answers = []
    for lam, eps in ((0.0, 1e-4), (100.0, 0.9)):
        np.random.seed(0)
        strategy = gradmatch(lam, eps, selection_type="PerClass")
        answers.append(strategy.select(12, strategy.model.state_dict()))
    (indices, weights), (others, other_weights) = answers
    assert indices == others and torch.equal(weights, other_weights)
    small, large = (native("gradmatch", Settings(scope="per-class", lam=lam), 12) for lam in (0.0, 100.0))
    assert float(large.weights.sum()) < float(small.weights.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_solver_for_gpus_misplaces_weights_after_a_duplicate(seed: int) -> None:
    """A duplicate's row is added without its index, so that every later weight goes to another example: with more atoms
    it matches far worse than with few. (It is called here on the CPU.)"""
    draw = generator(seed)
    atoms, target = torch.randn(8, 20, generator=draw), torch.randn(8, generator=draw)
    objectives = []
    for picks in range(1, 21):
        weights = OrthogonalMP_REG_Parallel_V1(atoms, target, tol=0, nnz=picks, positive=True, lam=0.5)
        objectives.append(float((atoms @ weights - target).square().sum() + 0.5 * weights.square().sum()))
    assert objectives[-1] > 2 * min(objectives)


def test_rgreedy_exceeds_the_budget_and_training_crashes() -> None:
    """50 in 15 rounds are 3 at a time: 17 rounds, 51 examples, 50 weights."""
    loader = glister_loader(network(), greedy="RGreedy", r=15)
    loader.budget = 50
    loader.resample()
    assert (len(loader.subset_indices), len(loader.subset_weights)) == (51, 50)
    with pytest.raises(IndexError):
        list(loader.subset_loader)
    ours = native("glister", Settings(scope="supervised", greedy="rgreedy", greedy_rounds=15, eta=0.05), 50)
    assert ours.indices.tolist() == loader.subset_indices[:50] and len(ours.weights) == 50


def test_rgreedy_per_batch_crashes_where_its_rounds_do_not_divide_the_picks() -> None:
    """11 batches in 4 rounds are 2 at a time: 12 batches, of which the twelfth has no weight."""
    batches = DataLoader(TRAIN, batch_size=4)
    validation = examples(128, seed=1)
    with pytest.raises(IndexError):
        chosen(glister("PerBatch", "RGreedy", train=batches, validation=validation, rounds=4), 44)
    settings = Settings(scope="per-batch", greedy="rgreedy", greedy_rounds=4, batch_size=4)
    assert len(native("glister", settings, 44, validation=validation).indices) == 44


def test_per_batch_crashes_on_a_validation_set_smaller_than_a_batch() -> None:
    assert len(VALIDATION) < 64
    with pytest.raises(RuntimeError, match="chunk"):
        chosen(glister("PerBatch", train=DataLoader(TRAIN, batch_size=4)), 44)
    settings = Settings(scope="per-batch", greedy="naive", batch_size=64)
    assert len(native("glister", settings, 44).indices) == 44


def test_rgreedy_does_not_return_from_fewer_picks_than_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    class StillGoingError(Exception):
        pass

    strategy = glister(greedy="RGreedy", rounds=15)
    gains, rounds = strategy.eval_taylor_modular, itertools.count()

    def counted(gradients: Tensor) -> Any:
        assert len(gradients) == len(TRAIN)  # none is picked
        if next(rounds) == 100:
            raise StillGoingError
        return gains(gradients)

    monkeypatch.setattr(strategy, "eval_taylor_modular", counted)
    with pytest.raises(StillGoingError):
        chosen(strategy, 10)
    assert (
        len(native("glister", Settings(scope="supervised", greedy="rgreedy", greedy_rounds=15), 10).indices)
        == 10
    )


@pytest.mark.parametrize("budget", [4, 240])
def test_stochastic_fails_on_the_whole_and_on_a_few(budget: int) -> None:
    """It samples N/K·ln(100) of those that remain, and at either end that many do not."""
    with pytest.raises(ValueError, match="Sample larger than population"):
        chosen(glister(greedy="Stochastic"), budget)
    assert (
        len(
            set(native("glister", Settings(scope="supervised", greedy="stochastic"), budget).indices.tolist())
        )
        == budget
    )


def test_a_fraction_of_nothing_crashes() -> None:
    loader = glister_loader(network(), fraction=0.0)
    with pytest.raises(ZeroDivisionError):
        loader.resample()
    with pytest.raises(UserError, match="fraction"):
        parse({"fraction": "0"})


def test_a_class_absent_from_validation_crashes_per_class() -> None:
    data, labels = VALIDATION.tensors
    without = TensorDataset(data[labels != 1], labels[labels != 1])
    with pytest.raises(UnboundLocalError):
        chosen(glister("PerClass", validation=without), 24)
    ours = native("glister", Settings(scope="per-class"), 24, validation=without)
    assert torch.bincount(TRAIN.tensors[1][ours.indices]).tolist() == [8, 8, 8]


@pytest.mark.parametrize("selection_type", ["perclass", "PerClas", "anything"])
def test_a_misspelt_selection_type_means_supervised(selection_type: str) -> None:
    assert chosen(glister(selection_type), 24) == chosen(glister("Supervised"), 24)
    assert chosen(glister("PerClass"), 24) != chosen(glister("Supervised"), 24)
    with pytest.raises(UserError, match="scope"):
        parse({"strategy": "glister", "scope": selection_type})


def test_the_non_adaptive_craig_loader_crashes() -> None:
    with pytest.raises((AttributeError, TypeError)):
        nonadaptive.CRAIGDataLoader(in_order(TRAIN), in_order(VALIDATION), arguments(network()), LOG)


def test_eta_overshoots_because_it_multiplies_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation loss at the weights that GLISTER looks at rises with its picks, which shall lower it."""
    strategy = glister(greedy="RGreedy", eta=1.0)
    losses: list[float] = []

    def recorded(logits: Tensor, labels: Tensor) -> Tensor:
        values: Tensor = LOSS(logits, labels)
        if len(logits) == len(VALIDATION):
            losses.append(float(values.detach().mean()))
        return values

    monkeypatch.setattr(strategy, "loss", recorded)
    chosen(strategy, 60)
    assert losses[-1] > 3 * losses[0]
