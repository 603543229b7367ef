"""A callback for Lightning, beside a :class:`~subset_selection.loader.SubsetLoader` as the train dataloader.

It works with the packages ``lightning`` and ``pytorch_lightning``. Only the packages that import it need either.
"""

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor

from subset_selection.loader import SubsetLoader
from subset_selection.sampler import Selection

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.rank_zero import rank_zero_info
else:
    _names = ("lightning", "pytorch_lightning")
    _found = [name for name in _names if name in sys.modules] or [name for name in _names if find_spec(name)]
    if not _found:
        raise ImportError(
            "subset_selection.lightning needs Lightning: pip install lightning (or subset-selection[lightning])"
        )
    _package = {"lightning": "lightning.pytorch"}.get(_found[0], _found[0])
    Callback = import_module(_package).Callback
    rank_zero_info = import_module(f"{_package}.utilities.rank_zero").rank_zero_info

PLAIN = ("SingleDeviceStrategy", "DDPStrategy", "SingleDeviceXLAStrategy")
"""Lightning's strategies that keep the whole model in each process, which a selection evaluates there."""


class SubsetCallback(Callback):  # type: ignore[misc, unused-ignore]  # Any where Lightning is not installed
    """Lets a Lightning ``Trainer`` train on a :class:`~subset_selection.loader.SubsetLoader`::

        class Classifier(LightningModule):
            def training_step(self, batch, batch_idx):
                inputs, labels, weights = batch
                losses = cross_entropy(self.network(inputs), labels, reduction="none")
                return {"loss": losses @ weights / weights.sum(), "losses": losses}

        module = Classifier()
        loader = SubsetLoader(train_set, module.network, strategy="infobatch", batch_size=128)
        Trainer(callbacks=[SubsetCallback()]).fit(module, loader, validation_loader)

    It has the loader's state in Lightning's checkpoints, within an epoch and between, also where the loader is made
    again (``train_dataloader``, ``reload_dataloaders_every_n_epochs``); observes the losses that ``training_step``
    returns; makes selections in the trainer's precision; tells the trainer how many batches each epoch has; and logs
    the size of each epoch's subset (``subset_size``) and the seconds of each selection (``selection_seconds``).

    Args:
        losses: the field of ``training_step``'s result that has each example's own loss [B]; only strategies that need
            losses (``infobatch``) need it.
    """

    def __init__(self, losses: str = "losses") -> None:
        self._field = losses
        self._loader: SubsetLoader | None = None
        self._state: dict[str, Any] | None = None
        """A checkpoint's, until the loader is there."""
        self._trained: int | None = None
        """Number of the epoch's batches that were trained on; None between epochs."""
        self._told: Selection | None = None

    # Lightning's hooks, in the order of a fit

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """See ``lightning.pytorch.Callback``.

        Raises:
            ValueError: a setting of the trainer, or the form of ``training_step``, does not go with subsets.
        """
        if stage != "fit":
            return
        if overfit := getattr(trainer, "overfit_batches", 0):
            raise ValueError(
                f"Trainer(overfit_batches={overfit!r}) replaces the loader's choice of examples: expected 0"
            )
        if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
            raise ValueError(
                "training_step(dataloader_iter) fetches batches by itself, so that nobody knows which ones were "
                "trained on: expected training_step(batch, batch_idx)"
            )
        if not trainer.current_epoch:
            self._loader = None  # an earlier fit's

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See ``lightning.pytorch.Callback``."""
        state = self._state
        loader = self._adopt(trainer)
        if loader.under_way:  # Lightning does not call on_train_epoch_start where it resumes within an epoch
            self._begin(loader)
        # Of an epoch that was complete when it was saved, Lightning asks itself whether it was.
        steps = None if state is None or loader.under_way else state["steps"]
        self._fit_lengths(trainer, loader, steps)

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See ``lightning.pytorch.Callback``."""
        loader = self._adopt(trainer)
        self._begin(loader)
        self._fit_lengths(trainer, loader)
        self._report(pl_module, loader)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """See ``lightning.pytorch.Callback``."""
        loader = self._adopt(trainer)
        self._fit_lengths(trainer, loader)  # in an epoch that began without on_train_epoch_start
        self._report(pl_module, loader)

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See ``lightning.pytorch.Callback``.

        Raises:
            ValueError: the strategy needs the losses, and ``training_step`` did not return them.
        """
        loader = self._adopt(trainer)
        self._trained = batch_idx + 1
        losses = outputs.get(self._field) if isinstance(outputs, Mapping) else None
        if isinstance(losses, Tensor):
            loader.observe(losses)
        elif loader.subsets.needs_losses and isinstance(outputs, Tensor | Mapping) and len(outputs):
            raise ValueError(
                f"the strategy needs the losses, and training_step returned no {self._field!r}: expected "
                f"{{'loss': the weighted mean, {self._field!r}: one for each example of the batch}}"
            )

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See ``lightning.pytorch.Callback``."""
        self._adopt(trainer).end_epoch()  # also where limit_train_batches leaves it early
        self._trained = None

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """See ``lightning.pytorch.Callback``."""
        if stage == "fit" and self._loader is not None and self._loader.subsets.evaluation is not None:
            self._loader.subsets.evaluation.reset_precision()

    # State

    def state_dict(self) -> dict[str, Any]:
        """See ``lightning.pytorch.Callback``. Lightning calls it in all processes, and keeps the first one's."""
        if self._loader is None:
            return {} if self._state is None else {"loader": self._state}
        self._loader.share_losses()
        return {"loader": self._loader.state_dict(self._trained)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See ``lightning.pytorch.Callback``."""
        self._state = state_dict.get("loader")

    # Parts

    def _adopt(self, trainer: "Trainer") -> SubsetLoader:
        """The train dataloader, with the state of a checkpoint, or of the loader that it takes the place of."""
        loader = trainer.train_dataloader
        if not isinstance(loader, SubsetLoader):
            raise ValueError(
                f"SubsetCallback: the train dataloader is a {type(loader).__name__}: expected one SubsetLoader"
            )
        if loader is self._loader and self._state is None:
            return loader
        if loader is not self._loader:
            self._check(trainer, loader)
        state = self._state
        if state is None and self._loader is not None:
            state = self._loader.state_dict()
        if state is not None:
            loader.load_state_dict(state)
        self._loader, self._state, self._told = loader, None, None
        return loader

    def _check(self, trainer: "Trainer", loader: SubsetLoader) -> None:
        if (
            loader.epochs is not None
            and trainer.max_epochs is not None
            and trainer.max_epochs > loader.epochs
        ):
            raise ValueError(
                f"Trainer(max_epochs={trainer.max_epochs}): expected at most the {loader.epochs} epochs of the loader "
                "(epochs=, of which a warm start makes fewer: loader.epochs)"
            )
        evaluation = loader.subsets.evaluation
        if evaluation is None:
            return
        bases = {base.__name__ for base in type(trainer.strategy).__mro__}
        if not bases & {*PLAIN} or "DeepSpeedStrategy" in bases:
            raise ValueError(
                f"Trainer(strategy={type(trainer.strategy).__name__}) keeps parts of the model in each process, "
                "and a selection evaluates all of it: expected one device or ddp, or a strategy without a model (rs2, "
                "infobatch)"
            )
        plugin = trainer.precision_plugin
        evaluation.precision, evaluation.convert = plugin.forward_context, plugin.convert_input

    def _begin(self, loader: SubsetLoader) -> None:
        loader.begin()
        self._trained = loader.done

    def _fit_lengths(self, trainer: "Trainer", loader: SubsetLoader, steps: int | None = None) -> None:
        """Lightning asks for the number of batches once. Epochs on a subset have fewer than those on all examples, and
        those of InfoBatch differ: it would not notice their last batch, and neither validate nor save."""
        loop, limit = trainer.fit_loop, trainer.limit_train_batches
        steps = len(loader) if steps is None else steps
        if limit is not None:
            steps = min(steps, limit) if isinstance(limit, int) else max(1, int(steps * limit))
        fetcher, combined = loop._data_fetcher, loop._combined_loader
        assert fetcher is not None
        assert combined is not None
        if loop.max_batches == steps == fetcher.length:
            return
        combined.limits = [steps]
        if combined._iterator is not None:
            combined._iterator.limits = [steps]
        loop.max_batches = fetcher.length = steps
        if isinstance(trainer.val_check_interval, float) and trainer.val_check_batch is not None:
            trainer.val_check_batch = max(1, int(steps * trainer.val_check_interval))

    def _report(self, pl_module: "LightningModule", loader: SubsetLoader) -> None:
        selection = loader.last_selection
        if selection is None or selection is self._told:
            return
        self._told = selection
        size, seconds, note = len(selection.subset.indices), selection.seconds, selection.note
        values = {"subset_size": float(size), "selection_seconds": seconds}
        # All processes have the same subset, and wait for the slowest.
        pl_module.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        rank_zero_info(
            f"epoch {selection.epoch}: {size:,} examples selected in {seconds:.1f} s{f' ({note})' if note else ''}"
        )
