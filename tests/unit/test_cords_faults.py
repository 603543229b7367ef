"""Where CORDS 0.0.4 is wrong, shown by calling CORDS itself, beside what this project does instead.

A test that fails after an upgrade of CORDS says that the fault is mended there: the text on it can go.
"""

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from cords.selectionstrategies.helpers.omp_solvers import OrthogonalMP_REG, OrthogonalMP_REG_Parallel_V1
from cords.selectionstrategies.SL import CRAIGStrategy, GLISTERStrategy, GradMatchStrategy
from cords.utils.data.dataloader.SL import adaptive, nonadaptive
from dotmap import DotMap
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from subset_trainer.errors import UserError
from subset_trainer.hyperparameters import parse
from subset_trainer.selection import Pool, Settings, Subset, create
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
    given: dict[str, Any] = dict(model=model, loss=LOSS, eta=0.05, num_classes=CLASSES, device="cpu", kappa=0)
    given |= dict(fraction=0.1, select_every=1, num_epochs=10, linear_layer=True)
    given |= dict(selection_type="Supervised", greedy="Stochastic", optimizer="lazy", if_convex=False)
    return DotMap({**given, **others})


def glister_loader(model: Network, **others: Any) -> Any:
    return adaptive.GLISTERDataLoader(in_order(TRAIN), in_order(VALIDATION), arguments(model, **others), LOG)


def test_the_same_glister_where_cords_is_right() -> None:
    """What the other tests rest upon: in eval mode, over a loader in order, both pick the same."""
    ours = native("glister", Settings(greedy="naive", eta=0.05), 24)
    assert chosen(glister(), 24) == ours.indices.tolist()


def test_craig_chooses_nearly_at_random() -> None:
    """It measures distances over a shuffled sampler, and takes their rows for the examples in order."""
    per_class, budget = len(TRAIN) // CLASSES, 24
    model = network()
    strategy = CRAIGStrategy(
        in_order(TRAIN), in_order(VALIDATION), model, LOSS, "cpu", CLASSES, True, False, "PerClass", LOG
    )
    picks = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.default_generator.manual_seed(seed)
            picks.append(torch.tensor(chosen(strategy, budget)))
    # The model is the same, and the search is exact: only the order of the sampler differs.
    common = len(set(picks[0].tolist()) & set(picks[1].tolist()))
    assert common < 0.5 * budget  # chance would give a tenth

    examples_by_model = pool(model, TRAIN)
    everything = torch.arange(len(TRAIN))
    residuals, features = examples_by_model.rows(everything)
    gradients = (
        residuals[:, :, None] * torch.cat([features, torch.ones(len(TRAIN), 1)], 1)[:, None]
    ).flatten(1)

    def cost(subset: Tensor) -> float:
        """Facility location: the mean distance to the nearest pick of one's class."""
        total = 0.0
        for label in range(CLASSES):
            own = gradients[examples_by_model.labels == label]
            total += float(
                torch.cdist(own, gradients[subset[examples_by_model.labels[subset] == label]]).amin(1).sum()
            )
        return total / len(TRAIN)

    def greedy(label: int) -> Tensor:
        """By brute force: each pick is the one that lowers the cost most."""
        members = (examples_by_model.labels == label).nonzero().flatten()
        distances = torch.cdist(gradients[members], gradients[members])
        nearest, taken = distances.max().expand(per_class), list[int]()
        for _ in range(budget // CLASSES):
            costs = torch.minimum(nearest, distances).sum(dim=1)
            costs[taken] = torch.inf
            taken.append(int(costs.argmin()))
            nearest = torch.minimum(nearest, distances[taken[-1]])
        return members[taken]

    def stratified(seed: int) -> Tensor:
        draw = generator(seed)
        order = torch.randperm(per_class, generator=draw)[: budget // CLASSES]
        return torch.cat(
            [(examples_by_model.labels == label).nonzero().flatten()[order] for label in range(CLASSES)]
        )

    by_chance = np.array([cost(stratified(seed)) for seed in range(50)])
    right = cost(torch.cat([greedy(label) for label in range(CLASSES)]))
    ours = native("craig", Settings(scope="per-class"), budget)
    assert cost(ours.indices) == pytest.approx(right, rel=1e-4)
    assert right < by_chance.min()
    for subset in picks:
        assert cost(subset) > 1.3 * right
        assert cost(subset) > by_chance.mean() - 3 * by_chance.std()


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
    assert len(set(loader.subset_indices) & set(right)) < 20


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
    ours = [
        create("adaptive-random").select(pool(network(), TRAIN), pool(network(), VALIDATION), 24, generator())
    ]
    ours += [
        create("adaptive-random").select(pool(network(), TRAIN), pool(network(), VALIDATION), 24, generator())
    ]
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


def matched_and_drawn(
    strategy: GradMatchStrategy, budget: int, caplog: pytest.LogCaptureFixture
) -> tuple[set[int], int]:
    """What GRAD-MATCH chose, and how many of them it drew at random."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, LOG.name):
        picks = set(chosen(strategy, budget))
    (drawn,) = (record.args[0] for record in caplog.records if "Random points added" in record.msg)  # type: ignore[index]
    return picks, int(drawn)  # type: ignore[call-overload]


def test_gradmatch_stops_early_and_fills_up_at_random(caplog: pytest.LogCaptureFixture) -> None:
    """On the CPU the solver stops where it would pick an example again; most of the answer is then random."""
    budget = 120
    answers = []
    for seed in (0, 1):
        np.random.seed(seed)
        picks, drawn = matched_and_drawn(gradmatch(valid=True), budget, caplog)
        assert len(picks) == budget
        assert drawn > 0.5 * budget
        answers.append(picks)
    assert answers[0] != answers[1]  # though the model is the same, and matching draws nothing
    settings = Settings(scope="per-class-per-gradient", match="validation")
    ours = [native("gradmatch", settings, budget, seed) for seed in (0, 1)]
    assert ours[0].indices.tolist() == ours[1].indices.tolist() and len(ours[0].indices) == budget
    assert not ours[0].note


def test_the_solver_stops_at_a_duplicate() -> None:
    """The third atom adds nothing, and the projection on the residual is largest, by rounding, at one taken already."""
    draw = np.random.default_rng(0)
    atoms = draw.normal(size=(4, 30))
    stopped = []
    for _ in range(20):
        target = draw.normal(size=4)
        weights = OrthogonalMP_REG(atoms, target, tol=0, nnz=30, positive=True, lam=0)
        stopped.append(np.count_nonzero(weights))
    assert max(stopped) < 10


def test_gradmatch_ignores_lam_and_eps_on_the_cpu() -> None:
    answers = []
    for lam, eps in ((0.0, 1e-4), (100.0, 0.9)):
        np.random.seed(0)
        strategy = gradmatch(lam, eps, selection_type="PerClass")
        answers.append(strategy.select(12, strategy.model.state_dict()))
    assert [list(map(int, indices)) for indices, _ in answers][0] == list(map(int, answers[1][0]))
    assert torch.equal(answers[0][1], answers[1][1])
    small, large = (native("gradmatch", Settings(scope="per-class", lam=lam), 12) for lam in (0.0, 100.0))
    assert float(large.weights.sum()) < float(small.weights.sum())


def test_the_solver_for_gpus_misplaces_weights_after_a_duplicate() -> None:
    """A duplicate's row is added without its index, so that each later weight goes to another example: what the solver
    returns matches worse than what it had found before the duplicate. (It runs on the CPU, too, when called itself.)"""
    worse = 0
    for seed in range(10):
        draw = generator(seed)
        atoms, target = torch.randn(8, 20, generator=draw), torch.randn(8, generator=draw)

        def objective(picks: int, atoms: Tensor = atoms, target: Tensor = target) -> float:
            weights = OrthogonalMP_REG_Parallel_V1(atoms, target, tol=0, nnz=picks, positive=True, lam=0.5)
            return float((atoms @ weights - target).square().sum() + 0.5 * weights.square().sum())

        # A larger budget can only lower the least of the objective; the greedy choice keeps it from rising much.
        worse += objective(20) > 1.5 * min(objective(picks) for picks in range(1, 20))
    assert worse > 0


def test_rgreedy_exceeds_the_budget_and_training_crashes() -> None:
    """50 in 15 rounds are 3 at a time: 17 rounds, 51 examples, 50 weights."""
    loader = glister_loader(network(), greedy="RGreedy", r=15)
    loader.budget = 50
    loader.resample()
    assert (len(loader.subset_indices), len(loader.subset_weights)) == (51, 50)
    with pytest.raises(IndexError):
        list(loader.subset_loader)
    ours = native("glister", Settings(greedy="rgreedy", greedy_rounds=15, eta=0.05), 50)
    assert ours.indices.tolist() == loader.subset_indices[:50] and len(ours.weights) == 50


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
    assert len(native("glister", Settings(greedy="rgreedy", greedy_rounds=15), 10).indices) == 10


@pytest.mark.parametrize("budget", [4, 240])
def test_stochastic_fails_on_the_whole_and_on_a_few(budget: int) -> None:
    """It samples N/K·ln(100) of those that remain, and at either end that many do not."""
    with pytest.raises(ValueError, match="Sample larger than population"):
        chosen(glister(greedy="Stochastic"), budget)
    assert len(native("glister", Settings(greedy="stochastic"), budget).indices.unique()) == budget


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
            losses.append(float(values.mean()))
        return values

    monkeypatch.setattr(strategy, "loss", recorded)
    chosen(strategy, 60)
    assert losses[-1] > 3 * losses[0]
