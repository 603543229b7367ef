"""What a strategy remembers from round to round, in a form that can be kept and given back."""

from typing import Any, ClassVar

from torch import Tensor


class Remembering:
    """A strategy with a memory.

    What it keeps are tensors, numbers, None, and others of its kind, in the attributes that it names.
    """

    REMEMBERED: ClassVar[tuple[str, ...]] = ()

    def memory(self) -> dict[str, Any]:
        """A copy of it, on the CPU: dicts of tensors, numbers and None."""
        return {name: _kept(getattr(self, name)) for name in self.REMEMBERED}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on from what ``memory`` gave."""
        for name in self.REMEMBERED:
            own = getattr(self, name)
            if isinstance(own, Remembering):
                own.recall(memory[name])
            else:
                setattr(self, name, memory[name])


def memory_of(strategy: object) -> dict[str, Any]:
    """What it remembers; nothing of one that does not."""
    return strategy.memory() if isinstance(strategy, Remembering) else {}


def give_back(strategy: object, memory: dict[str, Any]) -> None:
    """The other way."""
    if isinstance(strategy, Remembering):
        strategy.recall(memory)


def _kept(value: Any) -> Any:
    if isinstance(value, Remembering):
        return value.memory()
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value
