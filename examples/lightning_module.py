"""A Lightning module that trains on a fifth of its data, chosen again every other epoch."""

import sys

import torch
from lightning import LightningModule, Trainer
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from subset_selection import SubsetLoader
from subset_selection.lightning import SubsetCallback

torch.manual_seed(0)
labels = torch.randint(10, (5_000,))
inputs = 0.5 * torch.randn(10, 32)[labels] + torch.randn(5_000, 32)
train_set = TensorDataset(inputs[:4_000], labels[:4_000])


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        rows, classes, weights = batch
        losses = cross_entropy(self.body(rows), classes, reduction="none")
        return {"loss": losses @ weights / weights.sum(), "losses": losses}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


net = Classifier()
loader = SubsetLoader(train_set, net.body, strategy="gradmatch", fraction=0.2, select_every=2, batch_size=64)
trainer = Trainer(max_epochs=10, accelerator="cpu", callbacks=[SubsetCallback()])
trainer.fit(
    net, loader, ckpt_path=sys.argv[1] if len(sys.argv) > 1 else None
)  # from a checkpoint: it resumes
right = net.body(inputs[4_000:]).argmax(1) == labels[4_000:]
print(f"accuracy on {len(right)} test examples: {right.float().mean():.1%}")
