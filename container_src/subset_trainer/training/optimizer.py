"""The optimiser of a run, and which of its weights it treats how."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from subset_trainer.config import Hyperparameters
from subset_trainer.config.defaults import FRESH_LAYER_TIMES, JOINING_LAYERS_TIMES
from subset_trainer.models import Classifier, JoinedEncoder, TextEncoder
from subset_trainer.training import muon
from subset_trainer.training.unwrapped import SGD, AdamW


def make(
    classifier: nn.Module, hp: Hyperparameters, learning_rate: float, batch_size: int | None = None
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, Muon or AdamW. Weight decay applies to matrices and kernels only.

    Beside a text encoder that is trained as a whole, fresh layers have a higher learning rate: the last one, or those
    that join the encoder with a table.

    Args:
        classifier: the model, whose weights are updated.
        hp: the run's hyperparameters, whose ``optimizer`` is resolved; ``auto`` is SGD.
        learning_rate: its peak.
        batch_size: number of examples of a step over all processes, so that any number of them train alike; default:
            ``hp.batch_size``.
    """
    parts: list[tuple[Iterable[nn.Parameter], dict[str, Any]]] = [(classifier.parameters(), {})]
    network = classifier.network if isinstance(classifier, Classifier) else None
    if isinstance(network, TextEncoder) and hp.fine_tune == "all" and network.head_is_fresh:
        times = JOINING_LAYERS_TIMES if isinstance(network, JoinedEncoder) else FRESH_LAYER_TIMES
        parts = [(network.body.parameters(), {}), (network.head.parameters(), {"rate_times": times})]
    groups = []
    for parameters, settings in parts:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim > 1]
        exempt = [parameter for parameter in trained if parameter.ndim <= 1]
        groups += [
            {"params": decayed, "weight_decay": hp.weight_decay, **settings},
            {"params": exempt, "weight_decay": 0.0, **settings},
        ]
    if hp.optimizer == "adamw":
        return AdamW(groups, lr=learning_rate, fused=True)
    momentum: dict[str, Any] = {"momentum": hp.momentum, "nesterov": hp.momentum > 0}
    if hp.optimizer == "muon" and isinstance(classifier, Classifier):
        hidden = muon.chosen(classifier, batch_size or hp.batch_size)
        return muon.Muon(
            [part for group in groups for part in _split(group, hidden, momentum)], learning_rate
        )
    return SGD(groups, lr=learning_rate, fused=True, **momentum)


def _split(
    group: dict[str, Any], hidden: set[nn.Parameter], momentum: dict[str, Any]
) -> Iterable[dict[str, Any]]:
    """A group's weights whose updates are orthogonalised, and the others."""
    own = [parameter for parameter in group["params"] if parameter in hidden]
    if own:
        inner = {"momentum": 0.0, "nesterov": False, "inner_momentum": momentum["momentum"]}
        yield {**group, "params": own, "orthogonal": True, **inner}
    yield {**group, "params": [each for each in group["params"] if each not in hidden], **momentum}


def set_rate(made: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of weights this learning rate, times the group's own factor if it has one."""
    for group in made.param_groups:
        group["lr"] = rate * group.get("rate_times", 1)
