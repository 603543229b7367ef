"""CORDS's loaders that select again as the model learns; see :mod:`subset_selection.cords`."""

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from subset_selection.cords.base import SCOPES, ByGradients, Craig, DSSDataLoader, mixed, without_selcon
from subset_selection.divided import of_class
from subset_selection.glister import Glister, ValidationState
from subset_selection.gradmatch import GradMatch, GradMatchPerBatch
from subset_selection.settings import Settings
from subset_selection.types import Pool, Subset
from subset_selection.units import Units

if not TYPE_CHECKING:
    __getattr__ = without_selcon(__name__)


class AdaptiveDSSDataLoader(DSSDataLoader):
    """Selects again every ``select_every`` epochs, after a warm start of ⌈fraction·⌊kappa·num_epochs⌋⌉ epochs on all
    data. Between these and epoch ⌊kappa·num_epochs⌋ an epoch is empty, as in CORDS. Other arguments are those of
    :class:`DSSDataLoader`.

    Args:
        train_loader: its data set is selected from, with its ``batch_size``, ``collate_fn`` and ``num_workers``.
        val_loader: its data set guides the selection.
        dss_args: ``select_every``, ``device``, ``kappa``, with kappa > 0 ``num_epochs``, and the strategy's own.
    """

    needs: ClassVar[tuple[str, ...]] = ("select_every", "kappa")

    def __init__(
        self, train_loader: Any, val_loader: Any, dss_args: Any, logger: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.train_loader, self.val_loader = train_loader, val_loader
        super().__init__(train_loader.dataset, dss_args, logger, *args, **kwargs)
        self.select_every, self.kappa = self.dss_args["select_every"], self.dss_args["kappa"]
        self.select_after = self.warmup_epochs = 0
        if self.kappa > 0:
            if "num_epochs" not in self.dss_args:
                raise ValueError("dss_args lacks num_epochs, which a warm start (kappa > 0) needs")
            self.select_after = int(self.kappa * self.dss_args["num_epochs"])
            self.warmup_epochs = math.ceil(self.select_after * self.fraction)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, with a selection if it is due."""
        loader: Any = self._of_epoch()
        if (
            loader is self.subset_loader
            and self.cur_epoch > 1
            and (self.cur_epoch - 1) % self.select_every == 0
        ):
            self.resample()
            loader = self.subset_loader
        self.cur_epoch += 1
        return iter(loader)

    def __len__(self) -> int:
        return len(self._of_epoch())

    def _of_epoch(self) -> Any:
        if self.warmup_epochs < self.cur_epoch <= self.select_after:
            return DataLoader([])  # type: ignore[arg-type]
        return self.wtdataloader if self.cur_epoch <= self.warmup_epochs else self.subset_loader


class RandomDataLoader(AdaptiveDSSDataLoader):
    """A uniform sample, drawn again once, at the first selection. CORDS seeds NumPy by the clock before it draws; this
    loader leaves the seed."""

    def __init__(self, train_loader: Any, dss_args: Any, logger: Any, *args: Any, **kwargs: Any) -> None:
        self._kept: tuple[Any, Any] | None = None
        super().__init__(train_loader, train_loader, dss_args, logger, *args, **kwargs)

    def _selected(self) -> tuple[Any, Any]:
        self._kept = self._kept or self._random()
        return self._kept


class OLRandomDataLoader(RandomDataLoader):
    """A fresh uniform sample at every selection."""

    def _selected(self) -> tuple[Any, Any]:
        return self._random()


class GLISTERDataLoader(ByGradients, AdaptiveDSSDataLoader):
    """GLISTER (Killamsetty et al., AAAI 2021). With ``greedy="Stochastic"`` the candidates are drawn by Python's
    ``random.sample``, as in CORDS.

    ``dss_args`` also has ``model``, ``loss``, ``eta``, ``num_classes``, ``linear_layer``, ``selection_type`` (PerClass,
    PerBatch, Supervised), ``greedy`` (Stochastic, Naive, RGreedy) and, for RGreedy, ``r``.
    """

    needs: ClassVar[tuple[str, ...]] = ("eta", "greedy")
    scopes = SCOPES - {"PerClassPerGradient"}

    def _prepare(self) -> None:
        super()._prepare()
        greedy = self.dss_args["greedy"]
        searches = {"Stochastic": "stochastic", "Naive": "naive", "RGreedy": "rgreedy"}
        if greedy not in searches:
            raise ValueError(f"greedy={greedy!r}: expected one of {', '.join(searches)}")
        if greedy == "RGreedy" and "r" not in self.dss_args:
            raise ValueError("dss_args lacks r, the number of rounds of RGreedy")
        rounds = self.dss_args["r"] if greedy == "RGreedy" else 15
        self._glister = _Glister(
            Settings(eta=self.dss_args["eta"], greedy=searches[greedy], greedy_rounds=rounds)  # type: ignore[arg-type]
        )

    def _selected(self) -> tuple[Any, Any]:
        with torch.no_grad():
            indices = self._picks()
        return indices, torch.ones(len(indices))

    def _picks(self) -> list[int]:
        of, budget = self._gradients, self.budget
        train, validation = of.pool(of.train_loader), of.pool(of.val_loader)

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            units, guide = Units.singles(indices), of_class(validation, label)
            return Subset.of(indices[self._glister.search(train, units, guide, quota, of.generator)])

        if of.scope == "PerClass":
            return of.by_class(train, budget, choose).indices.tolist()
        if of.scope == "PerBatch":
            units = of.batches(train)
            picked = self._glister.search(train, units, validation, of.picks(budget, units), of.generator)
            return units.members(picked).tolist()
        return self._glister.search(train, Units.of_all(train), validation, budget, of.generator).tolist()


class _Glister(Glister):
    """With CORDS's candidates of the stochastic search."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.greedy == "stochastic":
            self._search = _sampling


def _sampling(
    train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
) -> Tensor:
    """Stochastic greedy whose candidates Python's ``random.sample`` draws from those that remain."""
    remaining = list(range(len(units)))
    size = int(len(units) / picks * math.log(100))
    picked = []
    for count in range(picks):
        drawn = random.sample(remaining, min(size, len(remaining)))
        residuals, features = units.rows(train, torch.tensor(drawn, device=train.device))
        best_1 = units.mean(state.gains(residuals, features)).argmax().view(1)
        picked.append(drawn[int(best_1)])
        remaining.remove(picked[-1])
        if count + 1 < picks:
            state.step(*units.share(residuals, features, best_1))
    return torch.tensor(picked, device=train.device)


class GradMatchDataLoader(ByGradients, AdaptiveDSSDataLoader):
    """GRAD-MATCH (Killamsetty et al., ICML 2021).

    ``dss_args`` also has ``model``, ``loss``, ``eta`` (not used), ``num_classes``, ``linear_layer``, ``selection_type``
    (PerClass, PerBatch, PerClassPerGradient), ``valid``, ``v1`` (not used), ``lam`` and ``eps``.
    """

    needs: ClassVar[tuple[str, ...]] = ("eta", "valid", "v1", "lam", "eps")
    scopes = SCOPES - {"Supervised"}

    def _selected(self) -> tuple[Any, Any]:
        of, given = self._gradients, self.dss_args
        settings = Settings(
            lam=given["lam"],
            eps=given["eps"],
            match="validation" if given["valid"] else "training",
            scope="per-class" if of.scope == "PerClass" else "per-class-per-gradient",
        )
        train = of.pool(of.train_loader)
        validation = of.pool(of.val_loader) if given["valid"] else train
        if of.scope == "PerBatch":
            with torch.no_grad():
                units = of.batches(train)
                subset = GradMatchPerBatch(settings).among(
                    train, units, validation, of.picks(self.budget, units), of.generator
                )
            # CORDS matches the sum of the batches' means, and this the sum over all examples.
            batch = (of.val_loader if given["valid"] else of.train_loader).batch_size
            order = subset.indices.argsort()
            return subset.indices[order].tolist(), subset.weights[order] / batch

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            part = GradMatch(settings).select(train.at(indices), validation, quota, of.generator)
            order = part.indices.argsort()  # CORDS's
            return Subset(indices.cpu()[part.indices[order]], part.weights[order])

        return mixed(of.by_class(train, self.budget, choose))


class CRAIGDataLoader(Craig, AdaptiveDSSDataLoader):
    __doc__ = Craig.__doc__
