"""Names of examples, by which a person finds them in the channel's files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain

import numpy as np

from subset_trainer.errors import UserError


class Ids:
    """The names of N examples, created on demand, because a million strings can take more memory than the examples.

    `name`: returns the name of the example at a position. `rows` [N] int64: the positions, in order.
    """

    def __init__(self, name: Callable[[int], str], rows: np.ndarray):
        self._name, self._rows = name, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:
        return self._name(int(self._rows[index]))

    def __iter__(self) -> Iterator[str]:
        return map(self._name, self._rows.tolist())

    def subset(self, indices: np.ndarray) -> "Ids":
        """The names of the examples at `indices` [K]."""
        return Ids(self._name, self._rows[indices])

    def followed_by(self, others: "Ids") -> "Ids":
        """These names, then those of others."""
        count = len(self)
        return Ids(
            lambda row: self[row] if row < count else others[row - count], np.arange(count + len(others))
        )

    @classmethod
    def of_paths(cls, paths: np.ndarray) -> "Ids":
        """Names of examples that are one file each. `paths`: [N] bytes, as the file system stores them."""
        # A file name may be invalid UTF-8, but the files written later must be valid text.
        return cls(lambda row: paths[row].decode("utf-8", "backslashreplace"), np.arange(len(paths)))

    @classmethod
    def numbered(cls, files: Sequence[str], counts: Sequence[int]) -> "Ids":
        """`file[i]`, counted from 0 in each file; `counts` holds the number of examples in each file."""
        starts = np.array([0, *accumulate(counts)], np.int64)

        def name(row: int) -> str:
            file = int(np.searchsorted(starts, row, "right")) - 1
            return f"{files[file]}[{row - int(starts[file])}]"

        return cls(name, np.arange(starts[-1]))

    @classmethod
    def of_lines(
        cls, files: Sequence[str], count: int, read: Callable[[], Iterable[tuple[str, int]]]
    ) -> "Ids":
        """`file:line` for each of `count` examples.

        `read` yields the file and line of each example, in order. It is called once, when the first name is needed.

        Raises:
            UserError: on reading a name, if `read` raises it or yields another number of examples than `count`.
        """
        known: list[np.ndarray] = []

        def name(row: int) -> str:
            if not known:
                number = {file: position for position, file in enumerate(files)}
                found = ((number[file], line) for file, line in read())
                flat = np.fromiter(chain.from_iterable(found), np.int64)
                places = flat.reshape(-1, 2)
                if len(places) != count:
                    raise UserError(
                        f"file '{files[0]}' has changed since it was read, or another has: {len(places):,} rows now; "
                        f"expected {count:,}, as before."
                    )
                known.append(places)
            file, line = known[0][row].tolist()
            return f"{files[file]}:{line}"

        return cls(name, np.arange(count))
