"""The catalogue of strategies, with everything that other code needs to know about each.

The hyperparameters, the training job, the planner of comparisons and the documentation read this table. No other code
names a strategy. A new strategy needs a file with its class, an entry here, and a test.

This module does not import torch, so that a launcher without torch can read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Shape = Literal["everything", "subset", "own_size", "within_batch"]
"""What a strategy decides. ``everything``: nothing; each epoch uses all examples. ``subset``: which examples, with the
number of examples given. ``own_size``: which examples and how many. ``within_batch``: which examples of each batch of
candidates."""
Refresh = Literal["once", "periodically", "every epoch"]
"""When a new subset is selected: never, every ``select_every`` epochs, or before each epoch."""
Question = Literal["train", "label"]
"""What a strategy at a share answers. ``train``: how many samples training must see. ``label``: how many distinct
examples must be labelled or kept."""
TrainsOn = Literal["training", "validation", "both"]
"""Which examples a run trains on: those of the training set, of the validation set, or of both."""
Need = Literal["last layer", "validation", "training losses", "the candidates' losses", "a held-out model"]
"""An input of a strategy: the logits and features of every training example; those of the validation set; the losses
observed in training; the losses of a batch of candidates; the losses of a model trained on held-out examples."""


@dataclass(frozen=True)
class Spec:
    """The description of one strategy.

    In ``cost``, N is the number of examples, K of picks, M of validation examples, C of classes, D of features, B the
    batch size, and n the number of examples of a class.
    """

    name: str
    """As ``strategy=`` takes it."""
    make: str
    """``module:name`` within this package of a callable that makes the strategy. Its arguments are the
    :class:`~subset_selection.settings.Settings` and, for a strategy that needs a held-out model, that model's losses
    on the training examples, [N]."""
    idea: str
    """What the strategy picks, in a phrase."""
    cost: str
    """Time and memory of one selection, without the forward pass over the data."""
    use: str
    """When to use it."""
    source: str = ""
    """The paper that it follows."""
    shape: Shape = "subset"
    """What it decides: nothing, which examples, also how many, or which of each batch."""
    refresh: Refresh = "periodically"
    """When a new subset is selected."""
    needs: tuple[Need, ...] = ("last layer",)
    """Its inputs beside the labels."""
    knobs: tuple[str, ...] = ()
    """The settings that the strategy reads, and the settings of the training loop that apply to it:
    ``select_every``, ``candidates_per_pick``, ``balance``, ``mislabelled``."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Setting → the values that this strategy accepts; the first is the default. A setting that is not in ``knobs`` has
    a single value."""
    candidates_per_pick: float | None = None
    """Default of the setting: the number of candidates drawn at random per pick; None: all examples are candidates."""
    balances_itself: bool = False
    """Whether the strategy divides its budget over the classes itself. With ``balance=class``, other strategies run
    once per class."""
    trains_on: TrainsOn = "training"
    """The baselines of strategies that use validation labels train on these labels themselves."""
    cords: str | None = None
    """The name of CORDS's data loader for the same strategy; None: there is none."""

    @property
    def takes_fraction(self) -> bool:
        """Whether ``fraction`` sets the number of examples that an epoch uses."""
        return self.shape in ("subset", "within_batch")

    @property
    def question(self) -> Question:
        """The question that a run at a fraction answers. A run that keeps one subset needs no other example; one that
        selects again sees, or scores, all of them in the course of the run."""
        return "label" if self.shape == "subset" and self.refresh == "once" else "train"

    def load(self) -> Callable[..., Any]:
        """Import and return the callable that ``make`` names."""
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
        use="as the simplest baseline",
    ),
    Spec(
        "adaptive-random",
        make="uniform:AdaptiveRandom",
        idea="a fresh uniform sample every `select_every` epochs",
        needs=(),
        knobs=("select_every", "balance", "mislabelled"),
        cords="OLRandomDataLoader",
        cost="O(N)",
        use="if reading new files is expensive: the subset is kept for several epochs",
    ),
    Spec(
        "rs2",
        make="uniform:RepeatedSampling",
        idea="repeated random sampling without replacement: all examples are used equally often",
        source="Okanovic et al., ICLR 2024",
        refresh="every epoch",
        needs=(),
        knobs=("balance", "mislabelled"),
        cost="O(N) an epoch",
        use="first; with `balance=class` if class sizes differ",
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
        use="for comparison with `rs2`",
    ),
    Spec(
        "validation-only",
        make="uniform:RepeatedSampling",
        idea="`rs2` on the validation set alone, for as many samples seen as at that fraction of the training set",
        refresh="every epoch",
        needs=(),
        trains_on="validation",
        cost="O(N) an epoch",
        use="as the baseline of strategies that use validation labels: what these labels give by themselves",
    ),
    Spec(
        "training-and-validation",
        make="uniform:RepeatedSampling",
        idea="`rs2` on training and validation set together, for as many samples seen as at that fraction of the "
        "training set",
        refresh="every epoch",
        needs=(),
        trains_on="both",
        cost="O(N) an epoch",
        use="as the baseline of strategies that use validation labels: what these labels give as further examples",
    ),
    Spec(
        "glister",
        make="glister:Glister",
        idea="greedily selects the examples whose gradient step reduces the validation loss most",
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
        use="to reproduce the paper; 1.5 points below `rs2` on clean CIFAR-10, up to 4 below on tables and texts, and "
        "6 with wrong labels",
    ),
    Spec(
        "gradmatch",
        make="gradmatch:GradMatch",
        idea="a small weighted subset whose gradient matches the full gradient, class by class (orthogonal matching "
        "pursuit)",
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
        use="with `match=validation`, if training labels are noisy and validation labels are correct",
    ),
    Spec(
        "gradmatch-pb",
        make="gradmatch:GradMatchPerBatch",
        idea="`gradmatch` over the mini-batches of a random partition instead of single examples",
        source="Killamsetty et al., ICML 2021",
        knobs=("batch_size", "lam", "eps", "match", "select_every", "candidates_per_pick", "mislabelled"),
        choices={"scope": ("per-batch",)},
        cords="GradMatchDataLoader",
        cost="O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        use="to reproduce the paper; the cheapest gradient method",
    ),
    Spec(
        "craig",
        make="craig:craig",
        idea="the medoids of the gradients, each weighted by the number of examples nearest to it",
        source="Mirzasoleiman et al., ICML 2020",
        knobs=("scope", "greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"scope": ("per-class", "supervised"), "greedy": GREEDY},
        balances_itself=True,
        cords="CRAIGDataLoader",
        cost="O(C·n²·(C+D)); memory 4n² bytes up to n = 20,000, bounded beyond",
        use="to reproduce the paper",
    ),
    Spec(
        "craig-pb",
        make="craig:CraigPerBatch",
        idea="`craig` over the mini-batches of a random partition instead of single examples",
        source="Mirzasoleiman et al., ICML 2020; Killamsetty et al., ICML 2021",
        knobs=("batch_size", "select_every", "candidates_per_pick", "mislabelled"),
        choices={"scope": ("per-batch",)},
        cords="CRAIGDataLoader",
        cost="O(N·C·D + (N/B)²·C·D); memory O((N/B)² + N·D)",
        use="to reproduce the paper",
    ),
    Spec(
        "facility-location",
        make="craig:feature_medoids",
        idea="the medoids of the features",
        source="Wei et al., ICML 2015",
        knobs=("greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"scope": ("per-class",), "greedy": GREEDY},
        balances_itself=True,
        cost="O(C·n²·D); memory as `craig`",
        use="for a representative subset to label or store; 3 points below `rs2` on clean CIFAR-10 and on texts",
    ),
    Spec(
        "saturated-coverage",
        make="saturated_coverage:SaturatedCoverage",
        idea="covers every example by similar ones, and counts coverage only up to the example's share of the budget",
        source="Lin & Bilmes, ACL 2011",
        knobs=("greedy", "select_every", "candidates_per_pick", "balance", "mislabelled"),
        choices={"greedy": GREEDY},
        balances_itself=True,
        cost="O(C·n²·D); memory 4n² bytes up to n = 20,000, bounded beyond",
        use="for a representative subset that is robust to outliers; 13 points below `rs2` on clean CIFAR-10",
    ),
    Spec(
        "graph-cut",
        make="geometry:GraphCut",
        idea="examples that are similar to all others and dissimilar to each other",
        source="Iyer et al., ALT 2021",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="to reproduce the paper; 15 points below `rs2` on clean CIFAR-10",
    ),
    Spec(
        "k-centre",
        make="geometry:KCentre",
        idea="repeatedly picks the example farthest from those already picked",
        source="Sener & Savarese, ICLR 2018",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="to cover rare examples, outliers included; 10 points below `rs2` on clean CIFAR-10",
    ),
    Spec(
        "herding",
        make="geometry:Herding",
        idea="a subset whose mean feature vector approximates that of the class",
        source="Welling, ICML 2009",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(K·n·D); memory O(N·D)",
        use="for prototypes; 6 points below `rs2` on clean CIFAR-10",
    ),
    Spec(
        "el2n",
        make="scores:EL2N",
        idea="the examples of largest prediction error ‖p − y‖, averaged over the selections so far",
        source="Paul et al., NeurIPS 2021",
        knobs=("select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="for large fractions of clean data, according to its paper; at 10% of CIFAR-10 far below random subsets",
    ),
    Spec(
        "forgetting",
        make="scores:Forgetting",
        idea="the examples most often forgotten: correct at one selection, wrong at the next",
        source="Toneva et al., ICLR 2019",
        knobs=("select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="for large fractions of clean data, according to its paper; at 10% of CIFAR-10 far below random subsets",
    ),
    Spec(
        "moderate",
        make="geometry:Moderate",
        idea="the examples whose distance from their class mean is closest to the median distance",
        source="Xia et al., ICLR 2023",
        knobs=("select_every", "candidates_per_pick", "balance", "mislabelled"),
        balances_itself=True,
        cost="O(N·D)",
        use="for data with many outliers and duplicates, according to its paper; 4 points below `rs2` on clean "
        "CIFAR-10",
    ),
    Spec(
        "ccs",
        make="scores:CoverageCentric",
        idea="equal numbers of examples from each level of difficulty, without the hardest",
        source="Zheng et al., ICLR 2023",
        knobs=("hardest_dropped", "select_every", "balance", "mislabelled"),
        cost="O(N·C)",
        use="for small fractions, according to its paper; 5 points below `rs2` on clean CIFAR-10",
    ),
    Spec(
        "infobatch",
        make="infobatch:InfoBatch",
        idea="leaves out examples of below-average loss at random, and increases the weight of those that it keeps",
        source="Qin et al., ICLR 2024",
        shape="own_size",
        refresh="every epoch",
        needs=("training losses",),
        knobs=("prune_probability", "final_share"),
        cost="O(N) an epoch; sets its own size",
        use="to save a third of the samples at a loss of half a point, as on the digits (20 epochs); at equal samples "
        "level with `full` and `rs2` on clean CIFAR-10",
    ),
    Spec(
        "loss-filter",
        make="filters:LossFilter",
        idea="trains on the examples of highest loss in each batch of candidates",
        source="Jiang et al., 2019; Kawaguchi & Lu, AISTATS 2020",
        shape="within_batch",
        refresh="every epoch",
        needs=("the candidates' losses",),
        knobs=("candidates_per_pick",),
        candidates_per_pick=2.0,
        cost="a forward pass over `candidates_per_pick`·K examples an epoch",
        use="where labels are clean; level with `rs2` on clean CIFAR-10, and the worst there with wrong labels",
    ),
    Spec(
        "rho-loss",
        make="filters:ReducibleLossFilter",
        idea="trains on the candidates whose loss most exceeds that of a model trained on the validation set",
        source="Mindermann et al., ICML 2022",
        shape="within_batch",
        refresh="every epoch",
        needs=("the candidates' losses", "validation", "a held-out model"),
        knobs=("candidates_per_pick",),
        candidates_per_pick=2.0,
        cost="training a model on the validation set, then as `loss-filter`",
        use="if training labels are noisy and validation labels are correct, and it beats `validation-only` on your "
        "data; on CIFAR-10 with 40% wrong labels 5 to 6 points above `rs2`, of which such labels by themselves gave a "
        "fifth",
    ),
)
CATALOGUE: Mapping[str, Spec] = {spec.name: spec for spec in _SPECS}
"""Name → description of every strategy."""
REFERENCE = "full"
"""Full training: the reference that other strategies are compared with."""
VALIDATION_BASELINES = tuple(spec.name for spec in _SPECS if spec.trains_on != "training")
"""What stands beside strategies that use validation labels."""
BASELINE = "rs2"
"""The baseline that an informed strategy must beat at an equal number of samples seen."""
NESTED = "random"
"""The strategy whose subsets of one seed are nested: the larger fraction has every example of the smaller one."""
DEFAULT = "rs2"


def names(*shapes: Shape) -> tuple[str, ...]:
    """The names of the strategies of these shapes; without arguments, of all strategies."""
    return tuple(name for name, spec in CATALOGUE.items() if not shapes or spec.shape in shapes)


def markdown_table() -> str:
    """A Markdown table for docs/reference/strategies.md, with one row per strategy."""
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
