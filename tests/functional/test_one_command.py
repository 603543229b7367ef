"""`compare DATA`: from a folder to an answer in words, without further options than those that make the test short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SHORT = ["--fractions", "1,0.5", "--strategies", "rs2", "--set", "model=mlp", "epochs=4", "batch_size=64"]


def test_from_a_folder_to_the_answer(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    for channel in ("training", "test"):
        (tmp_path / "animals" / channel).symlink_to(digits / channel)
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "compare", "animals", *SHORT, "augmentation=none", "report=false"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        # Without OMP_NUM_THREADS, so that the first steps are measured with one thread and with all.
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr
    (study,) = (tmp_path / "build/compare").iterdir()
    assert re.fullmatch(r"animals-[0-9a-f]{8}", study.name)
    said = done.stdout
    assert f"up to 9 runs in build/compare/{study.name}: full, rs2, seeds 0, 1, 2" in said
    assert re.search(r"left: 9 runs, about \d+ (s|min)", said)
    assert re.search(r"left: 1 run, about \d+ (s|min)", said)
    threads = json.loads((study / "study.json").read_text())["first_steps"]["threads"]
    used = {json.loads(path.read_text())["threads"] for path in study.glob("runs/*/output/data/summary.json")}
    assert used == {threads}
    assert not list(study.glob(".pace"))
    runs = json.loads((study / "comparison.json").read_text())
    assert {row["run"] for row in runs} == {
        f"{name}-seed-{seed}" for name in ("full", "rs2-0.5", "full-at-0.5") for seed in (0, 1, 2)
    }
    # The answer, then the table, the page and the folder.
    end = said[said.index("left: 1 run,") :]
    places = [
        end.index(text)
        for text in (" seeds", "speed-up", "comparison.html", f"folder: build/compare/{study.name}")
    ]
    assert places == sorted(places)
