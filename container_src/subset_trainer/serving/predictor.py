"""The model, ready to answer."""

import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from subset_trainer.artifacts import TrainedModel, load_model
from subset_trainer.data import Kind
from subset_trainer.data.requests import REQUEST
from subset_trainer.training import devices


class Predictor:
    """A trained model on the device that the machine has, for several threads.

    Its arithmetic is float32, whatever precision it was trained in.
    """

    def __init__(self, model: TrainedModel, device: torch.device) -> None:
        self._classifier = model.classifier
        self._device = device
        self._machine = devices.Machine(device, torch.float32)
        self._classifier.place(device, self._machine.memory_format(model.preprocessing.input_shape))
        # One pass at a time: it keeps all processors or the GPU busy by itself, and the memory is one batch's.
        self._lock = threading.Lock()
        self.preprocessing: Kind = model.preprocessing

    @classmethod
    def load(cls, directory: Path) -> "Predictor":
        """From a job's model folder, onto the GPU where there is one.

        Raises:
            UserError: there is no such model, or a GPU that cannot be used.
        """
        model = load_model(directory)
        device = devices.find("auto")
        # It would try out kernels anew for every number of examples that a request brings.
        torch.backends.cudnn.benchmark = False
        return cls(model, device)

    def describe(self) -> str:
        return self._machine.describe()

    def probabilities(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Batches of what the model takes → float32 [N, C].

        Raises:
            UserError: of an example the model gives no numbers, or as the batches.
        """
        found = [np.zeros((0, len(self.preprocessing.classes)), np.float32)]
        done = 0
        for batch in batches:
            with self._lock, torch.inference_mode():
                logits = self._classifier(torch.from_numpy(batch).to(self._device))
                rows = self._classifier.objective.answer(logits).cpu().numpy()
            odd = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(odd):
                raise REQUEST.error(
                    f"example {done + int(odd[0]) + 1}: the model's output is no number; expected values nearer to "
                    "training's."
                )
            done += len(rows)
            found.append(rows)
        return np.concatenate(found)
