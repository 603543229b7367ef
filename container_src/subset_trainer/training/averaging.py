"""The exponential moving average of a classifier's weights."""

from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from subset_trainer.models import Classifier


class MovingAverage(AveragedModel):
    """Keeps in ``module`` the moving average of a classifier's weights and batch-normalisation statistics.

    Averages of the last weights generalise better than the last weights (Izmailov et al., "Averaging weights leads to
    wider optima and better generalization", UAI 2018; Tarvainen & Valpola, "Mean teachers", NeurIPS 2017).

    Args:
        classifier: the classifier, on its device.
        decay: weight of the earlier average at every update. At the n-th update the weight is at most
            (1 + n) / (10 + n), so that the average of a short run does not depend on the initial weights.
    """

    module: Classifier

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self._decay = decay
        self._updates = 0
        super().__init__(classifier, multi_avg_fn=self._mix, use_buffers=True)

    def update_parameters(self, model: Any) -> None:
        """Update the average with the classifier's weights after one training step."""
        self._updates += 1
        super().update_parameters(model)

    def load_state_dict(self, state_dict: Any, *arguments: Any, **options: Any) -> Any:
        """Restore the average and the number of updates."""
        loaded = super().load_state_dict(state_dict, *arguments, **options)
        self._updates = int(self.n_averaged)
        return loaded

    def _mix(self, averages: Any, weights: Any, updates: Any) -> None:
        if not averages[0].is_floating_point():
            # Counts and indices are copied, because their mean has no meaning.
            for average, own in zip(averages, weights, strict=True):
                average.copy_(own)
            return
        # The updates are counted here, because torch's own count would have to be read from the device.
        get_ema_multi_avg_fn(min(self._decay, (1 + self._updates) / (10 + self._updates)))(
            averages, weights, updates
        )
