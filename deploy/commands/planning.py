"""The options of `demo`, `compare` and `sweep` on what is compared, and the plan that follows from them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from deploy.commands import options
from deploy.commands.declared import Option, Options

if TYPE_CHECKING:
    from deploy.grid.plan import Plan

STRATEGIES = "rs2,infobatch"
SEEDS = "0,1,2"
TEST_FRACTION = "0.2"
"""Share of the training data that a comparison sets aside for testing, where there is no test channel."""


def rows(text: str) -> dict[str, dict[str, str]]:
    """Parse strategies with their settings."""
    from deploy.grid import plan  # imported here because hyperparameters take a moment to import

    return plan.parse_strategies(text)


@dataclass(frozen=True, kw_only=True)
class Grid(Options):
    """Fractions, strategies, seeds and baselines."""

    fractions: Annotated[
        tuple[float, ...],
        Option(
            "fractions of the training data, separated by commas; 1 is the full-data reference",
            "LIST",
            options.fractions,
        ),
    ] = (1, 0.5, 0.3, 0.1)
    strategies: Annotated[
        Mapping[str, Mapping[str, str]] | None,
        Option(
            f"strategies, separated by commas ({STRATEGIES}); settings of one follow its name: "
            "glister:scope=per-class,eta=0.01",
            "LIST",
            rows,
        ),
    ] = None
    seeds: Annotated[
        tuple[int, ...] | None,
        Option(f"seeds, separated by commas ({SEEDS}); an answer needs three or more", "LIST", options.seeds),
    ] = None
    baselines: Annotated[
        bool,
        Option(
            "do not train full data at equal samples seen, and rs2, beside each fraction, nor, beside strategies that "
            "use validation labels, the validation set alone and both sets"
        ),
    ] = True
    all: Annotated[
        bool,
        Option(
            "run every run of the plan; by default a smaller fraction of a strategy is trained only if the larger one "
            "is enough"
        ),
    ] = False


JOBS = Option("runs at a time, which share the processors", "N", options.count)


@dataclass(frozen=True, kw_only=True)
class Settle(Options):
    """For commands that train until there is an answer."""

    settle: Annotated[
        bool,
        Option(
            "also train what would probably settle what is not yet known, such as further seeds, as the answer says"
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Here(Settle):
    """For commands that train on this machine, and find earlier runs."""

    overwrite: Annotated[
        bool,
        Option(
            "remove this comparison's earlier runs and train them again; by default those that are finished are used "
            "again, and those that were interrupted resume"
        ),
    ] = False
    jobs: Annotated[int, JOBS] = 1


def tested(settings: Mapping[str, Any], channels: Collection[str]) -> dict[str, Any]:
    """Return the settings with a part of the training data set aside for testing, where there is no other test set.

    Otherwise runs would be judged by the validation set, by which some strategies choose.
    """
    own = {} if "test" in channels or "test_fraction" in settings else {"test_fraction": TEST_FRACTION}
    return {**settings, **own}


def planned(given: Grid, settings: Mapping[str, Any], tested: bool = False) -> "Plan":
    """Return the plan of the options.

    Args:
        given: what is compared.
        settings: hyperparameters that all runs share. A `seed` among them is used if no seeds are given.
        tested: whether there is a test channel.

    Raises:
        UserError: a hyperparameter, strategy or fraction is invalid.
    """
    from deploy.grid import plan
    from subset_trainer.config import hyperparameters

    shared = dict(settings)
    seeds = given.seeds
    if seeds is None and "seed" in shared:
        seeds = (hyperparameters.parse({"seed": shared.pop("seed")}).seed,)
    seeds = seeds or options.seeds(SEEDS)
    tested = tested or hyperparameters.parse({"test_fraction": shared.get("test_fraction")}).test_fraction > 0
    compared = given.strategies or rows(STRATEGIES)
    return plan.plan(plan.Grid(compared, given.fractions, seeds, shared, given.baselines, tested=tested))
