"""A loaded model that answers requests."""

import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from subset_trainer.artifacts import TrainedModel, load_model
from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data import Kind
from subset_trainer.data.requests import REQUEST
from subset_trainer.training import devices


class Predictor:
    """A trained model on the device of the machine, usable from several threads.

    It computes in float32, whatever precision the model was trained in.
    """

    def __init__(
        self, model: TrainedModel, device: torch.device, image_pixels: int = MOST_IMAGE_PIXELS
    ) -> None:
        self._classifier = model.classifier
        self._device = device
        self._machine = devices.Machine(device, torch.float32)
        self._classifier.place(device, self._machine.memory_format(model.preprocessing.input_shape))
        # One forward pass at a time: each uses all processors or the GPU, and only one batch is in memory.
        self._lock = threading.Lock()
        self.preprocessing: Kind = model.preprocessing.bounded(image_pixels)

    @classmethod
    def load(cls, directory: Path, image_pixels: int = MOST_IMAGE_PIXELS) -> "Predictor":
        """Load a job's model folder, onto the GPU if there is one. `image_pixels`: as in `Settings`.

        Raises:
            UserError: there is no such model, or the GPU cannot be used.
        """
        model = load_model(directory)
        device = devices.find("auto")
        # Otherwise cuDNN would benchmark kernels again for every new batch size.
        torch.backends.cudnn.benchmark = False
        return cls(model, device, image_pixels)

    def describe(self) -> str:
        return self._machine.describe()

    def probabilities(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Batches of inputs → float32 [N, C].

        Raises:
            UserError: the model's output for an example is not finite, or `batches` raises it.
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
                    f"example {done + int(odd[0]) + 1}: the model's output is not a number; expected values closer "
                    "to training's."
                )
            done += len(rows)
            found.append(rows)
        return np.concatenate(found)
