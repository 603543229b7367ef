"""What the data was taken to be, decision by decision, before anything is trained.

A decision has a reason and a certainty: *given* by a hyperparameter, *certain* because there is one reading, or *open*
because there are two. Open decisions are refused, all of one stage at once. This module is free of torch, so that the
host's programs can show an understanding too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from subset_trainer.errors import UserError

Certainty = Literal["given", "certain", "open"]
About = Literal["format", "split", "header", "label", "classes", "column", "size", "left out"]


@dataclass(frozen=True)
class Decision:
    """One decision about a channel.

    `about`: what was decided. `name`: the column, file or folder, if the decision is about one. `taken`: what it was
    taken to be. `reason`: why, in words. `examples`: values or names that were found. `setting`: the hyperparameter
    that settles it, as in "label_column=target".
    """

    about: About
    taken: str
    reason: str
    certainty: Certainty = "certain"
    name: str | None = None
    examples: tuple[str, ...] = ()
    setting: str | None = None

    def sentence(self) -> str:
        """One sentence without its final full stop."""
        named = f" {self.name!r}" if self.name is not None else ""
        seen = f" ({', '.join(map(repr, self.examples))})" if self.examples else ""
        if self.certainty == "open":
            settled = f"; set {self.setting}" if self.setting else ""
            return f"{self.about}{named}: {self.reason}{seen}{settled}"
        return f"{self.about}{named}: {self.taken} ({self.reason}){seen}"

    def to_json(self) -> dict[str, Any]:
        """JSON values: only the fields that are set."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value
        }


@dataclass(frozen=True)
class Understanding:
    """What one channel was taken to be.

    `format`: the name of its format. `examples`: their number, None if they were not all read. `classes`: the number of
    examples of each class, in the order of the model's outputs. `complete`: whether everything was read, rather than
    the beginnings of files.
    """

    channel: str
    format: str
    examples: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "channel": self.channel,
            "format": self.format,
            "examples": self.examples,
            "complete": self.complete,
            "classes": dict(self.classes),
            "decisions": [decision.to_json() for decision in self.decisions],
        }


class OpenDecisionsError(UserError):
    """The decisions of a channel that are open. `decisions`: all that were made until then."""

    def __init__(self, message: str, channel: str = "", decisions: tuple[Decision, ...] = ()) -> None:
        super().__init__(message)
        self.channel, self.decisions = channel, decisions


def refuse_open(channel: str, decisions: Iterable[Decision], most: int = 10) -> None:
    """Raise one UserError that lists every open decision: the first ten and their number."""
    decisions = tuple(decisions)
    pending = [decision.sentence() for decision in decisions if decision.certainty == "open"]
    if not pending:
        return
    more = [f"and {len(pending) - most:,} more"] if len(pending) > most else []
    raise OpenDecisionsError(f"{channel} channel: {'; '.join([*pending[:most], *more])}.", channel, decisions)
