"""What CORDS's loaders share: a loader of the present subset, and the gradients that selections use."""

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from subset_selection.classes import members
from subset_selection.craig import CraigPerBatch, Medoids, feature_distances, gradient_distances
from subset_selection.embedding import Evaluation
from subset_selection.items import Fields
from subset_selection.settings import Settings
from subset_selection.types import Pool, Subset
from subset_selection.units import Units

SCOPES = {"PerClass", "PerBatch", "Supervised", "PerClassPerGradient"}


class _Weighted(Dataset[Any]):
    """Some items of a data set, each with its weight as a last field."""

    def __init__(self, dataset: Any, indices: Any, weights: Any) -> None:
        self.dataset, self.indices, self.weights = dataset, indices, weights

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        return (*self.dataset[int(self.indices[position])], self.weights[position])

    def __len__(self) -> int:
        return len(self.indices)


class DSSDataLoader:
    """What all of CORDS's loaders share: a loader of the present subset, to which other attributes belong. Further
    arguments are those of ``torch.utils.data.DataLoader``, for the subset.

    Args:
        dataset: N items (input, label).
        dss_args: ``fraction``; the budget is ⌊fraction·N⌋, as in CORDS.
        logger: None: this module's.

    Raises:
        ValueError: an argument is missing or not understood, or the budget is zero.
    """

    needs: ClassVar[tuple[str, ...]] = ("fraction", "device")
    """What ``dss_args`` must have, beside what the parent classes need."""

    def __init__(self, dataset: Any, dss_args: Any, logger: Any, *args: Any, **kwargs: Any) -> None:
        given = dict(dss_args.items() if isinstance(dss_args, Mapping) else vars(dss_args))
        needed = (name for kind in reversed(type(self).__mro__) for name in vars(kind).get("needs", ()))
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(f"dss_args lacks {', '.join(missing)}, which {type(self).__name__} needs")
        self.dss_args: dict[str, Any] = given
        self.fraction = given["fraction"]
        self.len_full = len(dataset)
        self.budget = int(self.len_full * self.fraction) if 0 <= self.fraction <= 1 else 0
        if not self.budget:
            raise ValueError(
                f"fraction={self.fraction!r} of {self.len_full} examples: expected at least one, and at most all"
            )
        self.logger = logger or logging.getLogger(__name__)
        self.dataset, self.device = dataset, given["device"]
        self.loader_args, self.loader_kwargs = args, kwargs
        self.cur_epoch = 1
        self.wtdataloader = self._loader_of(range(self.len_full), [1] * self.len_full)
        self._prepare()
        self._begin()

    def __getattr__(self, name: str) -> Any:
        if name == "subset_loader":  # not made yet
            raise AttributeError(name)
        return getattr(self.subset_loader, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.subset_loader)

    def __len__(self) -> int:
        return len(self.subset_loader)

    def resample(self) -> None:
        """Select a new subset."""
        begun = time.monotonic()
        self.subset_indices, self.subset_weights = self._selected()
        self.logger.info(
            "Epoch: %d, %s subset selection finished, takes %.4f. ",
            self.cur_epoch,
            type(self).__name__.removesuffix("DataLoader"),
            time.monotonic() - begun,
        )
        self._refresh()

    def _prepare(self) -> None:
        """Check the strategy's own arguments."""

    def _begin(self) -> None:
        """Have a first subset."""
        self.subset_indices, self.subset_weights = self._random()
        self._refresh()

    def _selected(self) -> tuple[Any, Any]:
        raise NotImplementedError

    def _random(self) -> tuple[Any, Any]:
        numpy = import_module("numpy")
        return numpy.random.choice(self.len_full, size=self.budget, replace=False), torch.ones(self.budget)

    def _refresh(self) -> None:
        self.subset_loader: DataLoader[Any] = self._loader_of(self.subset_indices, self.subset_weights)
        self.batch_wise_indices = list(self.subset_loader.batch_sampler or ())

    def _loader_of(self, indices: Any, weights: Any) -> DataLoader[Any]:
        weighted = _Weighted(self.dataset, indices, weights)
        return DataLoader(weighted, *self.loader_args, **self.loader_kwargs)


def in_order(loader: Any) -> DataLoader[Any]:
    """All of a loader's data in the order of its data set, also if the loader shuffles or drops the last batch."""
    if loader.batch_size is None:
        raise ValueError("the loader has no batch_size: expected one instead of a batch_sampler of its own")
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory and torch.cuda.is_available(),
    )


class OfGradients:
    """The gradients of a model's last layer on both loaders' data sets, and what the strategies do with them.

    Args:
        loader: whose arguments hold: ``model``, ``loss``, ``num_classes``, ``linear_layer``, ``selection_type``.
        scopes: the values of ``selection_type`` that the strategy knows.
    """

    def __init__(self, loader: Any, scopes: set[str]) -> None:
        arguments = loader.dss_args
        self.scope: str = arguments["selection_type"]
        if self.scope not in scopes:
            raise ValueError(f"selection_type={self.scope!r}: expected one of {', '.join(sorted(scopes))}")
        loss = arguments["loss"]
        plain = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None and not loss.label_smoothing
        if not plain or loss.reduction != "none":
            raise ValueError(
                f"loss={loss!r}: expected CrossEntropyLoss(reduction='none'), without weight or label_smoothing, whose "
                "gradients the selection uses"
            )
        self.model: nn.Module = arguments["model"]
        self._linear = bool(arguments["linear_layer"])
        self.train_loader, self.val_loader = loader.train_loader, loader.val_loader
        self.batch: int = self.train_loader.batch_size
        self.generator = torch.Generator()
        self._classes: int = arguments["num_classes"]
        self._passes = 0

    def pool(self, loader: Any) -> Pool:
        """The outputs for all examples of a loader's data set, in its order. Afterwards torch's generator and Python's
        are where CORDS's pass leaves them, with its loader's seed and the draws of a data set that augments."""
        count = len(loader.dataset)
        states: list[Any] = []

        def batches() -> Iterator[Any]:
            yield from in_order(loader)
            states.extend((torch.get_rng_state(), random.getstate()))

        pool = Evaluation(self.model, Fields()).pool(batches(), count, count)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        self._passes += 1
        assert pool.features is not None
        return pool if self._linear else Pool(pool.labels, pool.logits, pool.features[:, :0])

    def inputs(self, loader: Any) -> Pool:
        """The inputs themselves as features [N, D], without the model."""
        inputs, labels = zip(*in_order(loader), strict=True)
        features = torch.cat([part.flatten(1).float() for part in inputs])
        return Pool(
            torch.cat(labels), features.new_zeros(len(features), int(torch.cat(labels).max()) + 1), features
        )

    def by_class(self, train: Pool, budget: int, choose: Callable[[int, Tensor, int], Subset]) -> Subset:
        """Select within each class, ⌈budget·n/N⌉ of its n examples as in CORDS."""
        for _ in range(self._passes * self._classes):
            iter(DataLoader([]))  # type: ignore[arg-type]  # CORDS reads each class again, with a loader that draws a seed
        self._passes = 0
        parts = []
        for label, indices in enumerate(members(train.labels, train.classes)):
            if len(indices):
                parts.append(choose(label, indices, math.ceil(budget * len(indices) / len(train))))
        return Subset.of(
            torch.cat([part.indices for part in parts]), torch.cat([part.weights for part in parts])
        )

    def batches(self, train: Pool) -> Units:
        """The batches of the training loader, in the order of the data."""
        return Units.batches(torch.arange(len(train), device=train.device), self.batch)

    def picks(self, budget: int, units: Units) -> int:
        """The number of batches that CORDS picks for a budget."""
        return min(len(units), math.ceil(budget / self.batch))


def mixed(subset: Subset) -> tuple[list[int], Tensor]:
    """The subset in a random order from NumPy's generator, as CORDS mixes classes."""
    order = torch.from_numpy(import_module("numpy").random.permutation(len(subset.indices)))
    return subset.indices[order].tolist(), subset.weights[order]


class ByGradients(DSSDataLoader):
    """A loader that selects by gradients."""

    needs: ClassVar[tuple[str, ...]] = ("model", "loss", "num_classes", "linear_layer", "selection_type")
    scopes: set[str]

    def _prepare(self) -> None:
        self._gradients = OfGradients(self, self.scopes)
        self.train_model = self._gradients.model

    @cached_property
    def strategy(self) -> Any:
        """With the attribute ``model``, a copy as in CORDS, whose mode a script may set. Selections do not use it: they
        evaluate the model in training, always in eval mode."""
        return SimpleNamespace(model=copy.deepcopy(self.train_model))


class Craig(ByGradients):
    """CRAIG (Mirzasoleiman et al., ICML 2020).

    ``dss_args`` also has ``model``, ``loss``, ``num_classes``, ``linear_layer``, ``selection_type`` (PerClass,
    PerBatch, Supervised), ``optimizer`` (not used: the search is exact) and ``if_convex`` (whether the inputs are
    compared, not the gradients).
    """

    needs: ClassVar[tuple[str, ...]] = ("optimizer", "if_convex")
    scopes = SCOPES - {"PerClassPerGradient"}

    def _prepare(self) -> None:
        super()._prepare()
        if self.dss_args["if_convex"] and self._gradients.scope == "PerBatch":
            raise ValueError("if_convex=True does not work with selection_type='PerBatch'")

    def _selected(self) -> tuple[Any, Any]:
        of, convex = self._gradients, bool(self.dss_args["if_convex"])
        train = of.inputs(of.train_loader) if convex else of.pool(of.train_loader)
        settings = Settings(scope="supervised")
        medoids = Medoids(settings, feature_distances if convex else gradient_distances, weighted=True)
        with torch.no_grad():
            if of.scope == "PerBatch":
                units = of.batches(train)
                picks = of.picks(self.budget, units)
                subset = CraigPerBatch(settings).among(train, units, picks, of.generator)
            elif of.scope == "Supervised":
                subset = medoids.select(train, train, self.budget, of.generator)
            else:

                def choose(label: int, indices: Tensor, quota: int) -> Subset:
                    part = medoids.select(train.at(indices), train, quota, of.generator)
                    return Subset(indices.cpu()[part.indices], part.weights)

                return mixed(of.by_class(train, self.budget, choose))
        return subset.indices.tolist(), subset.weights


def without_selcon(module: str) -> Callable[[str], NoReturn]:
    """The ``__getattr__`` of a module that has all of CORDS's loaders but this one."""

    def missing(name: str) -> NoReturn:
        if name == "SELCONDataLoader":
            raise ImportError(
                "SELCONDataLoader selects for regression, which this package does not do: its loaders select for "
                "classification; CORDS's own is in cords.utils.data.dataloader.SL.adaptive"
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing
