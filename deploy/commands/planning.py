"""The options of `demo`, `compare` and `sweep` on what is compared, and the plan that follows from them."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from deploy.commands import options
from deploy.grid.plan import Grid, Plan, parse_strategies, plan
from subset_trainer.config import hyperparameters

FRACTIONS = "1,0.5,0.3,0.1"
STRATEGIES = "rs2,infobatch"
SEEDS = "0,1,2"
TEST_FRACTION = "0.2"
"""Share of the training data that a comparison sets aside for testing, where there is no test channel."""


def add_grid(to: argparse.ArgumentParser) -> None:
    """Add the options for fractions, strategies, seeds and baselines."""
    to.add_argument(
        "--fractions",
        type=options.fractions,
        default=FRACTIONS,
        metavar="LIST",
        help="fractions of the training data, separated by commas; 1 is the full-data reference",
    )
    to.add_argument(
        "--strategies",
        "--strategy",
        type=parse_strategies,
        default=STRATEGIES,
        metavar="LIST",
        help="strategies, separated by commas; settings of one follow its name: glister:scope=per-class,eta=0.01",
    )
    to.add_argument(
        "--seeds",
        type=options.seeds,
        metavar="LIST",
        help=f"seeds, separated by commas ({SEEDS}); an answer needs three or more",
    )
    to.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train full data at equal samples seen, and rs2, beside each fraction; and beside strategies that use "
        "validation labels, if there is a test set, the validation set alone and both sets",
    )
    to.add_argument(
        "--all",
        action="store_true",
        help="run every run of the plan; by default a smaller fraction of a strategy is trained only if the larger one "
        "is enough",
    )


def tested(settings: Mapping[str, Any], channels: Collection[str]) -> dict[str, Any]:
    """Return the settings with a part of the training data set aside for testing, where there is no other test set.

    Otherwise runs would be judged by the validation set, by which some strategies choose.
    """
    own = {} if "test" in channels or "test_fraction" in settings else {"test_fraction": TEST_FRACTION}
    return {**settings, **own}


def add_overwrite(to: argparse.ArgumentParser) -> None:
    """Add the option for runs that are finished or were interrupted."""
    to.add_argument(
        "--overwrite",
        action="store_true",
        help="remove this comparison's earlier runs and train them again; by default those that are finished are used "
        "again, and those that were interrupted resume",
    )


def add_jobs(to: argparse.ArgumentParser, default: int = 1) -> None:
    """Add the option for runs at a time."""
    to.add_argument(
        "--jobs",
        type=options.count,
        default=default,
        metavar="N",
        help="runs at a time, which share the processors",
    )


def add_settle(to: argparse.ArgumentParser) -> None:
    """Add the option for what an answer leaves open."""
    to.add_argument(
        "--settle",
        action="store_true",
        help="also train what would probably settle what is not yet known, such as further seeds, as the answer says",
    )


def planned(given: argparse.Namespace, settings: Mapping[str, Any], tested: bool = False) -> Plan:
    """Return the plan of the options, and print its notes.

    Args:
        given: the options of `add_grid`.
        settings: hyperparameters that all runs share. A `seed` among them is used if no seeds are given.
        tested: whether there is a test channel.

    Raises:
        UserError: a hyperparameter, strategy or fraction is invalid.
    """
    shared = dict(settings)
    seeds = given.seeds
    if seeds is None and "seed" in shared:
        seeds = (hyperparameters.parse({"seed": shared.pop("seed")}).seed,)
    seeds = seeds or options.seeds(SEEDS)
    tested = tested or hyperparameters.parse({"test_fraction": shared.get("test_fraction")}).test_fraction > 0
    found = plan(Grid(given.strategies, given.fractions, seeds, shared, given.baselines, tested=tested))
    for note in found.notes:
        print(note)
    return found
