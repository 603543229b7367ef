"""Explains the validation errors of which the trained model is most confident, by the contributions of their parts."""

import logging

import torch
from torch import Tensor

from subset_selection.progress import with_progress
from subset_trainer.data import Splits
from subset_trainer.insight.explanations import Explained, Explanations, surest
from subset_trainer.insight.shapley import NoNumberError, is_exact, shapley_values
from subset_trainer.models import Classifier
from subset_trainer.training import out_of_memory
from subset_trainer.training.evaluation import Judgement

logger = logging.getLogger(__name__)
EVALUATIONS, EVALUATIONS_A_PART = 2_048, 2
"""Model evaluations per explanation: a fixed number plus a number per part, the defaults of the library `shap`."""
EVALUATIONS_OF_A_SLOW_ONE = 1_000
"""The fixed number for image networks and encoders, which is the default of the library `lime` for images."""
MOST_PROBABLE = 5
"""The number of most probable classes whose probabilities are reported. The label's is always reported."""


def explain(
    classifier: Classifier, splits: Splits, judged: Judgement, device: torch.device, count: int, seed: int
) -> Explanations:
    """Explain validation errors. Evaluates in float32, whatever precision the model was trained in.

    Args:
        classifier: the trained classifier, on the device.
        judged: this classifier's results on the validation set.
        count: the maximum number of errors to explain.
        seed: determines the coalitions. They are the same whichever other examples are explained.

    Raises:
        UserError: a file from which examples are streamed can no longer be read.
    """
    labels, predicted = splits.validation.labels, judged.predicted(splits.validation.labels)
    rows = surest(labels.numpy(), predicted.numpy(), judged.rival.numpy(), count)
    errors = int((labels != predicted).sum())
    logger.info("explaining %d of %d errors in %d validation examples", len(rows), errors, len(labels))
    classifier.eval()
    found = []
    explained = _Explaining(classifier, splits, device, seed)
    for row in with_progress(rows.tolist(), len(rows), "explanations"):
        try:
            found.append(explained.example(row, int(predicted[row])))
        except NoNumberError:
            logger.warning(
                "%s is not explained: without some of its parts the model gives no number for it",
                splits.validation_ids[row],
            )
    return Explanations(splits.preprocessing.name, len(labels), errors, found)


class _Explaining:
    """A model, with the values that stand in for absent parts."""

    def __init__(self, classifier: Classifier, splits: Splits, device: torch.device, seed: int) -> None:
        self._classifier, self._splits, self._device, self._seed = classifier, splits, device, seed
        self._forward = out_of_memory.Parts()
        self._absent = splits.preprocessing.absent(splits.train)

    def example(self, row: int, predicted: int) -> Explained:
        """Explain one validation example.

        Raises:
            NoNumberError: the model's output is not finite when some parts are absent.
        """
        splits, preprocessing = self._splits, self._splits.preprocessing
        (batch,) = splits.validation.batches([torch.tensor([row])], torch.device("cpu"))
        texts = splits.validation_texts
        text = None if texts is None else texts[row]
        parts = preprocessing.parts(batch[0], text, self._absent)

        def worth(present_BM: Tensor) -> Tensor:
            return log_odds(self._logits(parts.with_only(present_BM)), predicted)

        most = (EVALUATIONS_OF_A_SLOW_ONE if parts.slow else EVALUATIONS) + EVALUATIONS_A_PART * parts.count
        generator = torch.Generator().manual_seed(self._seed)
        contributions = shapley_values(worth, parts.count, most, generator)
        ends = worth(torch.tensor([[True] * parts.count, [False] * parts.count]))
        probabilities = self._classifier.objective.answer(self._logits(batch))[0]
        label = int(splits.validation.labels[row])
        told = probabilities.topk(min(MOST_PROBABLE, len(probabilities))).indices.tolist()
        exact = is_exact(parts.count, most)
        return Explained(
            id=splits.validation_ids[row],
            label=preprocessing.classes[label],
            predicted=preprocessing.classes[predicted],
            probabilities={
                preprocessing.classes[one]: float(probabilities[one]) for one in dict.fromkeys([*told, label])
            },
            log_odds=float(ends[0]),
            log_odds_absent=float(ends[1]),
            contributions=contributions.numpy(),
            parts=parts,
            values=preprocessing.values(batch[0], parts),
            exact=exact,
            evaluations=2**parts.count if exact else most,
        )

    @torch.inference_mode()
    def _logits(self, inputs: Tensor) -> Tensor:
        return self._forward.of(self._classifier, inputs.to(self._device)).float().cpu()


def log_odds(logits_BC: Tensor, label: int) -> Tensor:
    """[B] ln(p / (1 - p)) of one class. With two classes this is the difference of their logits."""
    others_BC = logits_BC.clone()
    others_BC[:, label] = -torch.inf
    return logits_BC[:, label] - others_BC.logsumexp(1)
