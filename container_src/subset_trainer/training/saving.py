"""Saves a run's state to checkpoints, and restores it from one."""

import logging

from torch import nn

from subset_trainer.errors import UserError, first_line
from subset_trainer.training import divergence
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.state import RunState

logger = logging.getLogger(__name__)
OTHERS = "random of others"
"""Key of the states of torch's generators in the processes after the first, each of which draws its own dropout.
Earlier versions did not keep them: there all resume with the first one's."""


class Saving:
    """The checkpoints of one training. All processes call it together; the first one reads and writes.

    Args:
        state: the state to save.
        model: the model; it is saved only if its weights are finite.
        plan: the plan of the training.
        place: the device and the processes.
        checkpoints: the checkpoints of the first process; None: nothing is saved.
    """

    def __init__(
        self, state: RunState, model: nn.Module, plan: Plan, place: Place, checkpoints: Checkpoints | None
    ) -> None:
        self._state, self._model, self._plan, self._place = state, model, plan, place
        self._checkpoints = checkpoints
        self._kept = place.ranks.from_first(lambda: checkpoints is not None)

    def resume(self) -> bool:
        """Load the newest checkpoint, if there is one, and return whether there was one.

        Raises:
            UserError: the checkpoint belongs to another run, or its content does not fit.
        """
        state, ranks, epochs = self._state, self._place.ranks, self._plan.epochs
        gathered = ranks.from_first(lambda: self._checkpoints.load() if self._checkpoints else None)
        if not gathered:
            return False
        try:
            if ranks.rank and (others := gathered.get(OTHERS)):
                gathered["random"] = others[ranks.rank - 1]
            state.within = state.load_state_dict(gathered)
            state.within.take_own(ranks.rank)
            state.done = [EpochReport.unpacked(packed, epochs) for packed in gathered["reports"]]
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            name = self._checkpoints.loaded if self._checkpoints else "that was loaded"
            reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
            raise UserError(
                f"the checkpoint {name} does not fit this run ({reason}); expected one that this version has written "
                "for the same model; use another folder of checkpoints, or resume=never to start anew, which removes it"
            ) from error
        done, count = len(state.done), len(epochs)
        at = f"epoch {done + 1}, step {state.within.step}" if done < count else "its end"
        logger.info("resuming from a checkpoint: %d of %d epochs are done (%s)", done, count, at)
        return True

    def due(self) -> bool:
        """Whether this process considers another checkpoint due."""
        return self._checkpoints is not None and self._checkpoints.due()

    def save(self, last: bool = False) -> None:
        """Save the state between two updates. With ``last``, wait until the checkpoint is written."""
        if not self._kept:
            return
        state = self._state
        with self._place.interruption.deferred():
            within = state.within.gathered(self._place.ranks)
            random = self._place.ranks.everyones(state.random(within))
            # A run must not resume from weights that are not finite, so the previous checkpoint stays the newest.
            if self._checkpoints and divergence.finite(self._model):
                gathered = {**state.gather(within), "reports": [report.packed() for report in state.done]}
                gathered[OTHERS] = random[1:]
                self._checkpoints.save(len(state.done) + 1, within.step, gathered, last)
