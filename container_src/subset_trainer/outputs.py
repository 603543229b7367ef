"""The files that a run of the built-in trainer owns: what an earlier run left of them never passes for this run's.

docs/reference/outputs.md describes them. They are removed when a run begins. A run that is resumed restores its history
and its subsets from the checkpoint. No other file is touched.
"""

import contextlib
import json
from pathlib import Path

from subset_trainer.contract import Contract

MODEL = ("model.json", "model.safetensors", "tokenizer.json")
RESULTS = (
    "understanding.json",
    "history.jsonl",
    "summary.json",
    "test_predictions.npz",
    "report.html",
    "examples.parquet",
    "explanations.json",
)
SUBSETS = "epoch-*.npz"
EVENTS = "events.out.tfevents.*"
CHECKPOINTS = "checkpoint-*.pt"
DESCRIBED = ("architecture", "classes", "preprocessing", "hyperparameters")
"""Keys of the built-in trainer's model.json, by which it is known from a file of the same name."""


def clear(contract: Contract) -> None:
    """Remove the model, the results and the subsets of an earlier run.

    Raises:
        OSError: a file cannot be removed.
    """
    subsets = contract.output_data / "subsets"
    for folder, names in ((contract.model, MODEL), (contract.output_data, RESULTS)):
        for name in names:
            _remove(folder / name)
            _remove(folder / f".{name}.tmp")  # of a run that was killed while it wrote
    if not subsets.is_symlink():
        for file in (*subsets.glob(SUBSETS), *subsets.glob(f".{SUBSETS}.tmp")):
            _remove(file)
        with contextlib.suppress(OSError):  # it is not there, or it holds files that are not the run's
            subsets.rmdir()


def clear_events(contract: Contract, resume: bool) -> None:
    """Remove the event files of an earlier run. Where the run may resume from a checkpoint, they are its first part."""
    if not (resume and any(contract.checkpoints.glob(CHECKPOINTS))):
        for file in contract.tensorboard.glob(EVENTS):
            _remove(file)


def clear_if_of_trainer(contract: Contract) -> None:
    """Before a script of the user's own: clear only where an earlier run of the built-in trainer has left its model or
    its summary. Files of these names may be the script's, too."""
    if _holds(contract.model / MODEL[0], DESCRIBED) or _holds(
        contract.output_data / "summary.json", ("strategy", "samples_visited", "hyperparameters")
    ):
        clear(contract)


def _holds(path: Path, keys: tuple[str, ...]) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and all(key in content for key in keys)


def _remove(path: Path) -> None:
    if path.is_file() or path.is_symlink():
        path.unlink(missing_ok=True)
