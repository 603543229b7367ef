"""Progress of a long selection: a bar of tqdm where somebody sees it, else lines in the log."""

import re
import subprocess
import sys

from tests.unit.test_progress import in_a_terminal

SCRIPT = """
import logging, sys, time
if sys.stderr.isatty():
    import fcntl, struct, termios
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
if {hidden}:
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None  # as where it is not installed
    import importlib.util
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *more: None if name == "tqdm" else found(name, *more)
import torch
from subset_selection import SubsetLoader, progress
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
progress.SECONDS = progress.BAR_SECONDS = {seconds}

class Slow:
    def __len__(self):
        return 40
    def __getitem__(self, index):
        time.sleep(0.02)
        return torch.full((4,), float(index % 2)), index % 2

from subset_selection.source import Reading
loader = SubsetLoader(
    Slow(), torch.nn.Linear(4, 2), strategy="el2n", fraction=0.5, batch_size=20, reading=Reading(batch_size=4)
)
next(iter(loader))
"""


def said(hidden: bool = False, seconds: float = 0.1) -> str:
    """What is written where nobody watches."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(hidden=hidden, seconds=seconds)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stderr


LINE = r"^evaluating training examples: \d+ of 40$"
BAR = r"evaluating training examples: +\d+%\|.*\| \d+/40 "


def test_a_terminal_that_has_tqdm_shows_a_bar_which_is_gone_at_the_end() -> None:
    shown = in_a_terminal(SCRIPT.format(hidden=False, seconds=0.1)).replace("\r", "\n")
    assert re.search(BAR, shown) and not re.search(LINE, shown, re.MULTILINE)
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()[-1].strip() == ""


def test_a_terminal_without_tqdm_shows_lines() -> None:
    shown = in_a_terminal(SCRIPT.format(hidden=True, seconds=0.1)).replace("\r", "")
    assert re.search(LINE, shown, re.MULTILINE) and not re.search(BAR, shown)


def test_a_log_has_lines_also_where_tqdm_is_installed() -> None:
    lines = said()
    counts = [int(count) for count in re.findall(r"examples: (\d+) of 40$", lines, re.MULTILINE)]
    assert 2 <= len(counts) <= 8 and counts == sorted({*counts})
    assert not re.search(BAR, lines)


def test_a_short_selection_says_nothing_of_its_progress() -> None:
    assert not re.search(f"{LINE}|{BAR}", said(seconds=60), re.MULTILINE)
