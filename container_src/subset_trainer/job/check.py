"""Checks that need no data, so that invalid jobs are refused early."""

import difflib
import logging

import torch

from subset_trainer import artifacts, models, pretrained
from subset_trainer.config import Hyperparameters
from subset_trainer.contract import SHARDED, Contract
from subset_trainer.data.split_names import split_of
from subset_trainer.errors import UserError
from subset_trainer.training import devices
from subset_trainer.training.parallel.ranks import Ranks

logger = logging.getLogger(__name__)
CHANNELS = ("training", "validation", "test")
LISTINGS = tuple(f"{name}_lst" for name in CHANNELS)
"""The channels that hold the `.lst` files of SageMaker's built-in image classification."""


def check(contract: Contract, hp: Hyperparameters, ranks: Ranks) -> None:
    """Check the channels, the hyperparameters and the device, and seed torch.

    Raises:
        UserError: channels, hyperparameters or hardware do not fit together.
        PlatformError: results cannot be written.
    """
    _check_channels(contract)
    _check_sharded(contract, hp)
    if ranks.first:
        artifacts.check_writable(contract.model, contract.output_data)
    models.check_name(hp.model)
    if ranks.size > 1 and hp.backend == "cords":
        raise UserError(
            f"hyperparameter backend='cords' runs in one process; expected one, and there are {ranks.size}"
        )
    if pretrained.CHANNEL not in contract.channels:
        for name, value in (("fine_tune", "head"), ("model", "encoder")):
            if getattr(hp, name) == value:
                raise UserError(
                    f"hyperparameter {name}={value!r} needs the channel {pretrained.CHANNEL!r}, which is not given"
                )
    devices.find(hp.device, ranks.local_rank, ranks.local_size)
    torch.manual_seed(hp.seed)


def _check_channels(contract: Contract) -> None:
    if "training" not in contract.channels:
        given = ", ".join(contract.channels) or "none"
        raise UserError(
            f"channel 'training' is missing (channels given: {given}); expected the training data there"
        )
    known = (*CHANNELS, *LISTINGS, pretrained.CHANNEL)
    others = [name for name in contract.channels if name not in known]
    meant = {name: near for name in others if (near := _meant(name)) is not None}
    if meant:
        said = ", ".join(f"{name!r} (is it {near!r}?)" for name, near in meant.items())
        raise UserError(
            f"there is no channel {said}; expected the channels {', '.join(known)}, or other names"
        )
    for name in others:
        logger.warning("channel %r is not used; the channels are %s", name, ", ".join(known))


def _meant(name: str) -> str | None:
    """The channel that somebody may have meant by another name, as validation by val: a split would be left unused."""
    near = difflib.get_close_matches(name.lower(), (*CHANNELS, *LISTINGS, pretrained.CHANNEL), 1, 0.8)
    return split_of(name) or next(iter(near), None)


def _check_sharded(contract: Contract, hp: Hyperparameters) -> None:
    if pretrained.CHANNEL in contract.sharded:
        raise UserError(
            f"channel {pretrained.CHANNEL!r} is sharded (S3DistributionType={SHARDED}), and every host needs the "
            "weights; expected FullyReplicated"
        )
    if "training" in contract.sharded and hp.microbatch_size is not None:
        raise UserError(
            f"hyperparameter microbatch_size={hp.microbatch_size} does not go with a sharded training channel "
            f"(S3DistributionType={SHARDED}), whose batches are normalised over all processes; expected none"
        )
    if hp.explain and (sharded := contract.sharded & {"training", "validation"}):
        raise UserError(
            f"hyperparameter explain={hp.explain} does not go with a sharded {max(sharded)} channel "
            f"(S3DistributionType={SHARDED}), of which no host has every example; expected 0, or FullyReplicated"
        )
