"""A script of one's own with the library's loader, killed again and again, ends as if it had not been.

`make test` kills each strategy once, in processes forked from one that has imported torch. `make soak` starts each
anew, and kills each three times with and without workers: 30 kills.
"""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.soak.own_loop import STRATEGIES, train

SOAK = "SOAK_MINUTES" in os.environ
KILLS = 3 if SOAK else 1
SEED = int(os.environ.get("SOAK_SEED") or 0)
VARIANTS = [(strategy, workers) for strategy in STRATEGIES for workers in (0, 2)]
AIMS = ("training", "selecting", "saving")
if not SOAK:
    VARIANTS = [variant for number, variant in enumerate(VARIANTS) if number % 4 in (0, 3)]
SECONDS = 120
"""For what should have been over by then."""


def begin(folder: str, strategy: str, workers: int, said: Connection) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers, as in a script
    train(Path(folder), strategy, workers, said.send)


def run(folder: Path, strategy: str, workers: int, aim: str | None, draw: random.Random) -> str | None:
    """Start or resume the script, and kill it.

    Returns:
        where it was killed; None: it came to its end.
    """
    context: Any = multiprocessing.get_context("spawn" if SOAK else "forkserver")
    if not SOAK:
        context.set_forkserver_preload(["torch", "subset_selection.loader"])
    listening, saying = context.Pipe(duplex=False)
    process = context.Process(target=begin, args=(str(folder), strategy, workers, saying))
    process.start()
    saying.close()
    after, last, steps = draw.randint(1, 10), "", 0
    try:
        while listening.poll(SECONDS):
            last = listening.recv()
            steps += last.startswith("step")
            # It has gone on from a state, and has made another, before it is killed.
            if aim is None or steps < after:
                continue
            if aim == "training" or last == aim or steps > after + 40:
                time.sleep(draw.uniform(0, 0.01))
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                aim = None
    except EOFError:
        pass
    process.join(SECONDS)
    listening.close()
    if process.exitcode == 0:
        return None
    assert process.exitcode == -signal.SIGKILL
    assert (folder / "saved.pt").exists()
    return last.split()[0]


def outcome(folder: Path) -> Any:
    end = torch.load(folder / "end.pt", weights_only=True)
    return end["seen"], {name: value.tolist() for name, value in end["model"].items()}


@pytest.mark.parametrize(("strategy", "workers"), VARIANTS)
def test_a_script_that_is_killed_resumes_with_the_same_subsets(
    strategy: str, workers: int, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    draw = random.Random(f"{strategy} {workers} {SEED}")
    assert run(whole, strategy, workers, None, draw) is None
    places = []
    # Strategies that do not evaluate the model have no selection long enough to be hit.
    aims = [aim for aim in AIMS if aim != "selecting" or strategy not in ("infobatch", "rs2")]
    for number in range(KILLS):
        place = run(killed, strategy, workers, aims[(number + len(strategy)) % len(aims)], draw)
        assert place is not None, "the script came to its end before it was killed"
        places.append(place)
    assert run(killed, strategy, workers, None, draw) is None
    assert outcome(killed) == outcome(whole)
    print(f"{strategy}, {workers} workers, seed {SEED}: killed at {', '.join(places)}")
