"""The process of a stage: measures the requested parts one after the other, and reports the result of each.

    python -m benchmarks.gpu.work REQUEST.json

The runner starts it. An answer is a line of JSON: first the part's name alone, then with what became of it.
"""

import importlib
import json
import math
import pkgutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.runner import (
    FAILED,
    MEASURED,
    NOT_MEASURED,
    Context,
    NotMeasured,
    Part,
    Values,
    last_lines,
)


def main(arguments: list[str]) -> int:
    request = json.loads(Path(arguments[0]).read_text())
    stages = importlib.import_module(request["table"]).STAGES
    (stage,) = (stage for stage in stages if stage.name == request["stage"])
    context = Context(
        dry=request["dry"],
        work=Path(request["work"]),
        data=Path(request["data"]) if request["data"] else None,
        known=request["known"],
        ends=request["ends"],
    )
    with Path(request["answers"]).open("a") as answers:
        for part in stage.parts:
            if part.name in request["parts"]:
                _say(answers, {"part": part.name})
                entry = measure(part, context)
                _say(answers, {"part": part.name, "entry": entry})
                if entry["status"] == MEASURED:
                    context.known.setdefault(stage.name, {})[part.name] = entry["values"]
    return 0


def measure(part: Part, context: Context) -> Values:
    """The part's entry in the book, whatever becomes of it."""
    started = time.monotonic()

    def entry(status: str, **more: Any) -> Values:
        return {"status": status, "seconds": round(time.monotonic() - started, 2), **more}

    try:
        settings = {**part.settings, **((part.dry or {}) if context.dry else {})}
        values = pkgutil.resolve_name(part.function)(context, **settings)
    except NotMeasured as reason:
        return entry(NOT_MEASURED, reason=str(reason))
    except Exception as error:  # whatever it is, it is what was found
        traceback.print_exc()
        said = last_lines("".join(traceback.format_exception(error)))
        return entry(FAILED, reason=f"{type(error).__name__}: {error}"[:400], error=said)
    return entry(MEASURED, values=_plain(values))


def _plain(value: Any) -> Any:
    """As JSON has it: no number that is none."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _say(answers: TextIO, answer: Values) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
