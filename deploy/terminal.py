"""Output that any terminal or pipe can take: characters that its encoding lacks are replaced."""

import codecs
import io
import logging
import os
import sys

PLAIN = {
    "─": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "·": "-",
    "…": "...",
    "→": "->",
    "±": "+/-",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "█": "#",
    "░": ".",
    "━": "-",
    "│": "|",
    "┃": "|",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "\u00a0": " ",
}
"""Characters of this program's own texts → what stands for them where an encoding lacks them."""
HANDLER = "subset-trainer-plain"
CLOSED_PIPE = 141
"""Exit code of a program that a closed pipe ended, as a shell reports it."""


def prepare() -> None:
    """Let stdout and stderr take every text. A text of the user's is escaped where the encoding lacks its letters."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        # In the locale C they are not strict: they would write back the bytes of names that they could not decode.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=HANDLER)


def quiet() -> None:
    """Let libraries report warnings, and nothing less: SageMaker's SDK turns on INFO for all of them when imported."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("sagemaker.config").addFilter(lambda record: record.levelno >= logging.WARNING)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(
        PLAIN.get(letter) or letter.encode("unicode_escape").decode() for letter in wrong
    ), error.end


def forget_stdout() -> None:
    """Let nothing more be written to a closed pipe, not even by Python's own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
