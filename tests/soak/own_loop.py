"""A training of one's own with the library's loader, which saves its state after every step; see test_loader_kills."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from subset_selection import SubsetLoader

STRATEGIES: dict[str, dict[str, Any]] = {
    "glister": {"fraction": 0.4, "select_every": 3},
    "gradmatch": {"fraction": 0.4, "select_every": 2},
    "infobatch": {},
    "loss-filter": {"fraction": 0.4},
    "rs2": {"fraction": 0.4},
}
EPOCHS = 9


def train(folder: Path, strategy: str, workers: int, say: Callable[[str], None]) -> None:
    """Train, or resume from the state in the folder; all that must be the same in the end is in its ``end.pt``.

    It says `begun N` with the steps of the state, `step N`, `saving`, and `selecting` in a selection's passes.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    inputs = torch.randn(300, 6) + labels[:, None]
    layers = (torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.2))
    model = torch.nn.Sequential(*layers, torch.nn.Linear(16, 3))

    def slowly(module: torch.nn.Module, given: Any, output: Tensor) -> None:
        if not module.training:
            say("selecting")
            time.sleep(0.002)

    model.register_forward_hook(slowly)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = SubsetLoader(
        TensorDataset(inputs, labels),
        model,
        validation=TensorDataset(inputs[:60], labels[:60]),
        strategy=strategy,
        batch_size=16,
        num_workers=workers,
        persistent_workers=workers > 0,
        **STRATEGIES[strategy],
    )
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader}
    seen: list[Any] = []
    if (folder / "saved.pt").exists():
        saved = torch.load(folder / "saved.pt", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["drawn"])
        seen = saved["seen"]
    say(f"begun {len(seen)}")
    while loader.epoch < EPOCHS:
        for rows, classes, weights in loader:
            model.train()
            losses = cross_entropy(model(rows), classes, reduction="none")
            optimizer.zero_grad()
            loader.mean(losses).backward()
            optimizer.step()
            seen.append((loader.epoch, rows[:, 0].tolist(), weights.tolist()))
            say("saving")
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"seen": seen, "drawn": torch.get_rng_state(), **states}, folder / "new.pt")
            (folder / "new.pt").replace(folder / "saved.pt")
            say(f"step {len(seen)}")
    torch.save({"seen": seen, "model": model.state_dict()}, folder / "end.pt")
