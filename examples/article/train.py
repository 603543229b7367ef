"""Script mode: trains CORDS's ResNet18 on subsets that CORDS's own GLISTER loader chooses.

SageMaker runs this file inside the image (`entry_point="train.py", source_dir="examples/article"`) and passes
each hyperparameter as `--name value`; the names are the built-in trainer's. Channels hold class folders of
images. CORDS works as it was published; what one has to know about it stands beside the lines concerned. With one
import changed, to `from subset_selection.cords import GLISTERDataLoader`, the script chooses the same subsets,
and chooses them faster.
"""

import argparse
import json
import logging
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader
from cords.utils.models import ResNet18
from dotmap import DotMap
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

IMAGE_SIZE = 32  # CORDS's ResNet18 ends in a pooling over 4×4, so it takes nothing else


def main() -> None:
    """Train, evaluate and save, as the command line and SageMaker's environment say."""
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    # CORDS draws its first subset from numpy's global generator, and candidates from Python's.
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    training, validation, classes = load_data(options)
    on_gpu = device.type == "cuda"
    workers = {"num_workers": options.num_workers, "pin_memory": on_gpu}
    # Both must be sequential: GLISTER's indices count positions in this order. It shuffles its subset itself.
    train_loader = DataLoader(training, batch_size=options.batch_size, shuffle=False, **workers)
    validation_loader = DataLoader(validation, batch_size=options.batch_size, shuffle=False, **workers)

    model = ResNet18(num_classes=len(classes)).to(device)
    per_example_loss = nn.CrossEntropyLoss(reduction="none")  # the weights of the subset come in between
    loader: DataLoader | GLISTERDataLoader
    if options.fraction < 1:
        loader = GLISTERDataLoader(
            train_loader,
            validation_loader,
            DotMap(
                model=model,
                loss=per_example_loss,
                eta=options.learning_rate,
                num_classes=len(classes),
                num_epochs=options.epochs,
                device=device,
                fraction=options.fraction,
                # The first selection comes after this many epochs; until then the subset is random.
                select_every=options.select_every,
                kappa=0,
                linear_layer=True,
                selection_type="Supervised",
                greedy="Stochastic",
            ),
            logging.getLogger("cords"),  # may not be None
            batch_size=options.batch_size,
            shuffle=True,
            pin_memory=on_gpu,
        )
        # CORDS selects with a copy of the model in training mode, where an image's gradient depends on its
        # batch.
        loader.strategy.model.eval()
    else:
        loader = DataLoader(training, batch_size=options.batch_size, shuffle=True, **workers)

    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)

    visited = 0
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        batches = iter(loader)  # selection, when it is due, happens here
        selected = time.perf_counter()
        model.train()
        loss_sum, correct, seen = 0.0, 0, 0
        for inputs, labels, *weights in batches:
            inputs, labels = inputs.to(device), labels.to(device)
            weight = weights[0].to(device) if weights else torch.ones(len(labels), device=device)
            logits = model(inputs)
            losses = per_example_loss(logits, labels)
            loss = torch.dot(losses, weight / weight.sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += losses.sum().item()
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        schedule.step()
        trained = time.perf_counter()
        visited += seen
        validation_loss, validation_accuracy = evaluate(model, validation_loader, per_example_loss, device)
        # One line an epoch in the form that the image's metric definitions read.
        print(
            f"epoch={epoch} train:loss={loss_sum / seen:.4f} train:accuracy={correct / seen:.4f} "
            f"validation:loss={validation_loss:.4f} validation:accuracy={validation_accuracy:.4f} "
            f"epoch:seconds={trained - selected:.3f} selection:seconds={selected - start:.3f} "
            f"samples:visited={visited}",
            flush=True,
        )

    save(model, options, classes)


def parse_arguments() -> argparse.Namespace:
    """Hyperparameters from the command line, folders from SageMaker's environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--fraction", type=float, default=0.3, help="share of the training images in an epoch"
    )
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--select_every", type=int, default=20, help="epochs between two selections")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=0.05)
    parser.add_argument(
        "--augment", type=int, choices=(0, 1), default=1, help="random crops and mirror images"
    )
    parser.add_argument(
        "--validation_fraction", type=float, default=0.1, help="where there is no such channel"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--seed", type=int, default=0)
    environment = os.environ
    parser.add_argument("--training", type=Path, default=environment.get("SM_CHANNEL_TRAINING"))
    parser.add_argument("--validation", type=Path, default=environment.get("SM_CHANNEL_VALIDATION"))
    parser.add_argument("--model_dir", type=Path, default=environment.get("SM_MODEL_DIR"))
    options = parser.parse_args()
    if options.training is None or options.model_dir is None:
        parser.error("outside SageMaker, give --training and --model_dir")
    if not 0 < options.fraction <= 1:
        parser.error(f"--fraction {options.fraction}: expected a number above 0 and at most 1")
    return options


def load_data(options: argparse.Namespace) -> tuple[Dataset, Dataset, list[str]]:
    """The training and the validation images, and the classes' names in the order of their labels."""
    to_tensor = [
        transforms.Resize((IMAGE_SIZE, IMAGE_SIZE)),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ]
    random_changes = [transforms.RandomCrop(IMAGE_SIZE, padding=4), transforms.RandomHorizontalFlip()]
    plain = transforms.Compose(to_tensor)
    # CORDS selects on the very data set that it trains on, so it sees the random changes too.
    changed = transforms.Compose([to_tensor[0], *random_changes, *to_tensor[1:]])

    training = datasets.ImageFolder(options.training, changed if options.augment else plain)
    if options.validation is not None:
        validation = datasets.ImageFolder(options.validation, plain)
        if validation.classes != training.classes:
            raise SystemExit(
                f"the validation channel has the classes {validation.classes}; expected {training.classes}"
            )
        return training, validation, training.classes

    order = np.random.default_rng(options.seed).permutation(len(training))
    held_out = max(1, round(options.validation_fraction * len(training)))
    plain_training = datasets.ImageFolder(options.training, plain)
    return (
        Subset(training, sorted(order[held_out:].tolist())),
        Subset(plain_training, sorted(order[:held_out].tolist())),
        training.classes,
    )


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: DataLoader, per_example_loss: nn.Module, device: torch.device
) -> tuple[float, float]:
    """Mean loss and accuracy (a share of 1) over a loader."""
    model.eval()
    loss_sum, correct, seen = 0.0, 0, 0
    for inputs, labels in loader:
        logits: Tensor = model(inputs.to(device))
        loss_sum += per_example_loss(logits, labels.to(device)).sum().item()
        correct += (logits.argmax(1).cpu() == labels).sum().item()
        seen += len(labels)
    return loss_sum / seen, correct / seen


def save(model: nn.Module, options: argparse.Namespace, classes: list[str]) -> None:
    """Leave the weights and what is needed to use them where SageMaker packs model.tar.gz."""
    options.model_dir.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, options.model_dir / "model.safetensors")
    facts = {"architecture": "cords.utils.models.ResNet18", "classes": classes, "image_size": IMAGE_SIZE}
    (options.model_dir / "model.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
