"""Every strategy that there is, and all that is known of each.

The hyperparameters, the training job, the planner of comparisons and the documentation read this table; nothing else
names a strategy. To add one: a file with its class, an entry here, a test.

This module imports no torch, so that a launcher can read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Shape = Literal["everything", "subset", "own_size", "within_batch"]
"""What a strategy decides. ``everything``: nothing, each epoch sees all examples. ``subset``: which examples, of a
number that is given. ``own_size``: which examples, and how many. ``within_batch``: which examples of a batch of
candidates."""
Refresh = Literal["once", "periodically", "every epoch"]
"""When a subset is chosen again: never, every ``select_every`` epochs, or before each epoch."""
Need = Literal["last layer", "validation", "training losses", "the candidates' losses", "a held-out model"]
"""What a strategy is given to choose by: every example's logits and features; the validation set's; the losses that
training has observed; the losses of a batch of candidates; the losses of a model that was trained on held-out
examples."""


@dataclass(frozen=True)
class Spec:
    """One strategy.

    In ``cost`` N are the examples, K the picks, M the validation examples, C the classes, D the features, B the batch
    size and n the examples of a class.
    """

    name: str
    make: str
    """``module:name`` within this package: what is called with :class:`~subset_selection.settings.Settings`, and, where
    it needs a held-out model, with that model's losses on the training examples, [N]."""
    idea: str
    cost: str
    """Time and memory of one selection, the pass over the data apart."""
    use: str
    """When to use it."""
    source: str = ""
    shape: Shape = "subset"
    refresh: Refresh = "periodically"
    needs: tuple[Need, ...] = ("last layer",)
    knobs: tuple[str, ...] = ()
    """The settings that it reads, and those of the training loop that apply to it: ``select_every``,
    ``candidates_per_pick``, ``balance``, ``mislabelled``."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Knob → the values that this strategy accepts; the first is its default. Where it is not among ``knobs``, there is
    no choice."""
    candidates_per_pick: float | None = None
    """The default of the knob: how many examples are drawn for each pick to choose among; None: all."""
    balances_itself: bool = False
    """Whether it divides its budget over the classes; others run once for each class where equal numbers are wanted."""
    cords: str | None = None
    """CORDS's data loader of the same strategy."""

    @property
    def takes_fraction(self) -> bool:
        """Whether the number of examples that an epoch sees is given."""
        return self.shape in ("subset", "within_batch")

    def load(self) -> Callable[..., Any]:
        """What ``make`` names."""
        module, _, name = self.make.partition(":")
        made: Callable[..., Any] = getattr(import_module(f"{__package__}.{module}"), name)
        return made


GREEDY = ("auto", "stochastic", "naive")

_SPECS = (
    Spec(
        "full",
        make="uniform:Full",
        idea="all of the data",
        shape="everything",
        refresh="once",
        needs=(),
        cost="none",
        use="the full-data reference",
    ),
    Spec(
        "random",
        make="uniform:Random",
        idea="one uniform sample for the whole run",
        refresh="once",
        needs=(),
        knobs=("balance",),
        cords="RandomDataLoader",
        cost="O(N)",
        use="the least to beat",
    ),
    Spec(
        "adaptive-random",
        make="uniform:AdaptiveRandom",
        idea="a fresh uniform sample every `select_every` epochs",
        needs=(),
        knobs=("select_every", "balance", "mislabelled"),
        cords="OLRandomDataLoader",
        cost="O(N)",
        use="where reading other files is dear: a subset is kept for some epochs",
    ),
    Spec(
        "rs2",
        make="uniform:RepeatedSampling",
        idea="repeated random sampling without replacement: all examples are seen equally often",
        source="Okanovic et al., ICLR 2024",
        refresh="every epoch",
        needs=(),
        knobs=("balance", "mislabelled"),
        cost="O(N) an epoch",
        use="first; with `balance=class` where classes are unequal",
    ),
    Spec(
        "rs2-with-replacement",
        make="uniform:RandomEveryEpoch",
        idea="a fresh uniform sample every epoch",
        source="Okanovic et al., ICLR 2024",
        refresh="every epoch",
        needs=(),
        knobs=("balance", "mislabelled"),
        cost="O(N) an epoch",
        use="to compare with `rs2`",
    ),
    Spec(
        "glister",
        make="glister:Glister",
        idea="greedily the examples whose gradient step lowers the validation loss most",
        source="Killamsetty et al., AAAI 2021",
        needs=("last layer", "validation"),
        knobs=(
            *("scope", "greedy", "greedy_rounds", "eta", "batch_size"),
            *("select_every", "candidates_per_pick", "balance", "mislabelled"),
        ),
        choices={"scope": ("per-class", "supervised", "per-batch"), "greedy": (*GREEDY, "rgreedy")},
        candidates_per_pick=1.5,
        balances_itself=True,
        cords="GLISTERDataLoader",
        cost="stochastic O(K·M·C·min(D, 5N/K)), naive O(K·N·C·D), rgreedy O(rounds·N·C·D); memory O((N+M)(C+D))",
        use="to follow the paper; within a point of `rs2` on clean data here, far below with wrong labels",
    ),
    Spec(
        "gradmatch",
        make="gradmatch:GradMatch",
        idea="few weighted examples whose gradient is that of all, class by class (orthogonal matching pursuit)",
        source="Killamsetty et al., ICML 2021",
        knobs=(
            "scope",
            "lam",
            "eps",
            "match",
            "select_every",
            "candidates_per_pick",
            "balance",
            "mislabelled",
        ),
        choices={"scope": ("per-class-per-gradient", "per-class")},
        balances_itself=True,
        cords="GradMatchDataLoader",
        cost="O(K·n·(C+D+K/C)); memory O(K·n)",
        use="with `match=validation` where labels are wrong and validation is trusted",
    ),
    Spec(
        "gradmatch-pb",
        make="gradmatch:GradMatchPerBatch",
        idea="the same over mini-batches of a random partition",
        source="Killamsetty et al., ICML 2021",
        knobs=("batch_size", "lam", "eps", "match", "select_every", "candidates_per_pick", "mislabelled"),
        choices={"scope": ("per-batch",)},
        cords="GradMatchDataLoader",
        cost="O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        use="to follow the paper; the cheapest of the gradient methods",
    ),
    Spec(
        "craig",
        make="craig:craig",
        idea="the examples whose gradients are nearest to all others', weighted by how many they stand for",
        source="Mirzasoleiman et al., ICML 2020",
        knobs=("scope", "greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"scope": ("per-class", "supervised"), "greedy": GREEDY},
        balances_itself=True,
        cords="CRAIGDataLoader",
        cost="O(C·n²·(C+D)); memory 4n² bytes up to n = 20,000, bounded beyond",
        use="to follow the paper",
    ),
    Spec(
        "craig-pb",
        make="craig:CraigPerBatch",
        idea="the same over mini-batches of a random partition",
        source="Mirzasoleiman et al., ICML 2020; Killamsetty et al., ICML 2021",
        knobs=("batch_size", "select_every", "candidates_per_pick", "mislabelled"),
        choices={"scope": ("per-batch",)},
        cords="CRAIGDataLoader",
        cost="O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        use="to follow the paper",
    ),
    Spec(
        "facility-location",
        make="craig:feature_medoids",
        idea="the examples whose features are nearest to all others'",
        source="Wei et al., ICML 2015",
        knobs=("greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"scope": ("per-class",), "greedy": GREEDY},
        balances_itself=True,
        cost="O(C·n²·D); memory as `craig`",
        use="a representative subset, for training, labelling or storage: level with `rs2` on clean data here",
    ),
    Spec(
        "saturated-coverage",
        make="saturated_coverage:SaturatedCoverage",
        idea="every example is covered by similar ones, up to its share of the budget and no further",
        source="Lin & Bilmes, ACL 2011",
        knobs=("greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"greedy": GREEDY},
        balances_itself=True,
        cost="O(C·n²·D); memory 4n² bytes up to n = 20,000, bounded beyond",
        use="a representative subset that outliers do not claim; not measured in training here",
    ),
    Spec(
        "graph-cut",
        make="geometry:GraphCut",
        idea="similar to all, dissimilar to each other",
        source="Iyer et al., ALT 2021",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="to follow the paper; 16 points below `rs2` here",
    ),
    Spec(
        "k-centre",
        make="geometry:KCentre",
        idea="always the example that is farthest from those picked",
        source="Sener & Savarese, ICLR 2018",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="coverage of rare forms, and of outliers; 8 points below `rs2` here",
    ),
    Spec(
        "herding",
        make="geometry:Herding",
        idea="a subset whose mean feature follows the class's",
        source="Welling, ICML 2009",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="prototypes; 3 points below `rs2` here",
    ),
    Spec(
        "el2n",
        make="scores:EL2N",
        idea="the largest errors ‖p − y‖, averaged over the rounds so far",
        source="Paul et al., NeurIPS 2021",
        knobs=("select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="large fractions of clean data, according to its paper; at 10% far below random subsets here",
    ),
    Spec(
        "forgetting",
        make="scores:Forgetting",
        idea="the examples most often unlearned from one round to the next",
        source="Toneva et al., ICLR 2019",
        knobs=("select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="large fractions of clean data, according to its paper; at 10% far below random subsets here",
    ),
    Spec(
        "moderate",
        make="geometry:Moderate",
        idea="those at the median distance from their class's mean",
        source="Xia et al., ICLR 2023",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(N·D)",
        use="data with many outliers and duplicates, according to its paper; 3 points below `rs2` on clean data here",
    ),
    Spec(
        "ccs",
        make="scores:CoverageCentric",
        idea="equally many of every hardness, the hardest left out",
        source="Zheng et al., ICLR 2023",
        knobs=("hardest_dropped", "select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="small fractions, according to its paper; 7 points below `rs2` here",
    ),
    Spec(
        "infobatch",
        make="infobatch:InfoBatch",
        idea="examples of below-average loss sit out at random, and count more when they do not",
        source="Qin et al., ICLR 2024",
        shape="own_size",
        refresh="every epoch",
        needs=("training losses",),
        knobs=("prune_probability", "final_share"),
        cost="O(N) an epoch; sets its own size",
        use="to save about a third with the accuracy of all data",
    ),
    Spec(
        "loss-filter",
        make="filters:LossFilter",
        idea="of a batch of candidates, those of highest loss",
        source="Jiang et al., 2019; Kawaguchi & Lu, AISTATS 2020",
        shape="within_batch",
        refresh="every epoch",
        needs=("the candidates' losses",),
        knobs=("candidates_per_pick",),
        candidates_per_pick=2.0,
        cost="a forward pass over `candidates_per_pick`·K examples an epoch",
        use="not at small budgets: below `rs2` here, and the worst with wrong labels",
    ),
    Spec(
        "rho-loss",
        make="filters:ReducibleLossFilter",
        idea="of a batch of candidates, those whose loss exceeds most that of a model trained on validation",
        source="Mindermann et al., ICML 2022",
        shape="within_batch",
        refresh="every epoch",
        needs=("the candidates' losses", "validation", "a held-out model"),
        knobs=("candidates_per_pick",),
        candidates_per_pick=2.0,
        cost="a training on validation, then as `loss-filter`",
        use="wrong labels, and a trusted validation set: far ahead of all others here, at 2.5 times the time",
    ),
)
CATALOGUE: Mapping[str, Spec] = {spec.name: spec for spec in _SPECS}
REFERENCE = "full"
"""All of the data: what the others are measured against."""
BASELINE = "rs2"
"""The least that choosing by anything must beat at equal samples seen."""
DEFAULT = "rs2"


def names(*shapes: Shape) -> tuple[str, ...]:
    """The strategies of these shapes; of all, where none is named."""
    return tuple(name for name, spec in CATALOGUE.items() if not shapes or spec.shape in shapes)


def markdown_table() -> str:
    """One row a strategy."""
    titles = (
        *("strategy", "idea", "source", "needs", "time and memory of a selection"),
        *("its hyperparameters", "when to use it"),
    )
    rows = [titles, ("---",) * len(titles)]
    for spec in CATALOGUE.values():
        needs = ", ".join(spec.needs) or "nothing"
        knobs = ", ".join(f"`{knob}`" for knob in spec.knobs)
        rows.append((f"`{spec.name}`", spec.idea, spec.source, needs, spec.cost, knobs, spec.use))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(markdown_table())
