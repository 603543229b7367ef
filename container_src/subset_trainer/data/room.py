"""How much memory the reading of a channel may take: the one place that decides it.

A file's size says little: gzip packs a table a hundredfold, and a digit in a CSV file takes two bytes there and some 25
as a number. So each format counts what its cells take once they are read (the figures are measured, with
`benchmarks/reading_memory.py`), while it reads them, and this module compares the count with what was free at the
beginning. Memory that goes elsewhere meanwhile is noticed, too.
"""

from subset_trainer.data.channels import Channel
from subset_trainer.data.machine import memory_available

RESERVE = 32 << 20
"""Bytes that stay free. Between two looks at the machine much less is read."""
_LOOK = 4 << 20
"""Counted bytes between two looks at the memory that is free."""

CELL = 28
"""Bytes that a cell of text takes beside its characters until it is an encoded number: Arrow's offset, a float64, the
float32 of the model's input, and copies that are dropped."""
STRING = 270
"""Bytes that a text takes in Python beside its characters: the object, its places in a dictionary and a list."""


class Room:
    """The memory for reading one channel.

    Args:
        limit: bytes that may be taken; None: what is free.
    """

    def __init__(self, channel: Channel, limit: int | None = None) -> None:
        free = memory_available()
        self.limit = free if limit is None else min(limit, free)
        self._channel, self._taken, self._looked = channel, 0, 0

    def take(self, needed: int, what: str) -> None:
        """Count bytes that will be held.

        Args:
            what: what takes them all, for messages, such as "file 'a.csv'".

        Raises:
            UserError: more is taken than is free.
        """
        self._taken += needed
        self._refuse(self._taken, what)
        if self._taken - self._looked >= _LOOK:
            self._looked = self._taken
            self.look(what)

    def check(self, needed: int, what: str) -> None:
        """Raise UserError if so many bytes in all, counted ones among them, are more than is free."""
        self._refuse(max(needed, self._taken), what)

    def look(self, what: str, needed: int = 0) -> None:
        """Raise UserError if fewer than `needed` bytes, and a reserve, are free now."""
        left = memory_available()
        if left < needed + RESERVE:
            raise self._error(self._taken + needed, what, min(self.limit, max(0, left)))

    def _refuse(self, needed: int, what: str) -> None:
        if needed > self.limit:
            raise self._error(needed, what, self.limit)

    def _error(self, needed: int, what: str, left: int) -> Exception:
        return self._channel.error(
            f"{what} takes {needed / 1e9:,.1f} GB or more in memory once it is read, of which {max(0, left) / 1e9:.1f} "
            "GB are left; expected less data, or an instance with more memory."
        )
