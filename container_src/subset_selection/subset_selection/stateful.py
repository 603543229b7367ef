"""The state that a strategy keeps between selections, in a form that a checkpoint can store."""

from typing import Any, ClassVar

from torch import Tensor


class Stateful:
    """A strategy with state.

    The state consists of the attributes that ``STATE`` names: tensors, numbers, None and other ``Stateful`` objects.
    """

    STATE: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state on the CPU: dicts of tensors, numbers and None."""
        return {name: _copied(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        for name in self.STATE:
            own = getattr(self, name)
            if isinstance(own, Stateful):
                own.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])


def state_of(strategy: object) -> dict[str, Any]:
    """The strategy's ``state_dict``; empty for a strategy without state."""
    return strategy.state_dict() if isinstance(strategy, Stateful) else {}


def load_state(strategy: object, state: dict[str, Any]) -> None:
    """Restore the state that ``state_of`` returned; does nothing for a strategy without state."""
    if isinstance(strategy, Stateful):
        strategy.load_state_dict(state)


def _copied(value: Any) -> Any:
    if isinstance(value, Stateful):
        return value.state_dict()
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value
