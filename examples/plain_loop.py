"""A loop of one's own that trains on a fifth of its data, chosen again every other epoch; started again, it resumes."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from subset_selection import SubsetLoader

torch.manual_seed(0)
labels = torch.randint(10, (5_000,))
inputs = 0.5 * torch.randn(10, 32)[labels] + torch.randn(5_000, 32)
train_set = TensorDataset(inputs[:4_000], labels[:4_000])

model = Sequential(Linear(32, 64), BatchNorm1d(64), ReLU(), Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = SubsetLoader(train_set, model, strategy="gradmatch", fraction=0.2, select_every=2, batch_size=64)

parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader}
saved = Path(sys.argv[1] if len(sys.argv) > 1 else "plain_loop.pt")
if saved.exists():
    for name, state in torch.load(saved, weights_only=True).items():
        parts[name].load_state_dict(state)
for _ in range(loader.epoch, 10):
    model.train()
    for rows, classes, _ in loader:
        losses = cross_entropy(model(rows), classes, reduction="none")
        optimizer.zero_grad()
        loader.mean(losses).backward()
        optimizer.step()
    torch.save({name: part.state_dict() for name, part in parts.items()}, saved.with_suffix(".new"))
    saved.with_suffix(".new").replace(saved)
right = model.eval()(inputs[4_000:]).argmax(1) == labels[4_000:]
print(f"accuracy on {len(right)} test examples: {right.float().mean():.1%}")
