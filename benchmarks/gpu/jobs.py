"""What the `train` program does as a whole: the article's experiment, exactness, encoders."""

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.gpu.faults import GIB
from benchmarks.gpu.runner import ROOT, Context, NotMeasured, Values, last_lines
from deploy.grid import program

SPARE_SECONDS = 12.0
"""For starting a run, reading the data and the test at its end, when it is decided whether one fits."""
WAIT_SECONDS = 60.0
"""For a checkpoint that is on its way to the disk."""
Pixels = dict[str, tuple[np.ndarray, np.ndarray]]
"""`train` and `test` → images [N, H, W, 3] uint8, class numbers [N]."""


class Program:
    """The `train` program on a folder that replaces /opt/ml.

    Args:
        context: whose folder it lies in, and whose device it runs on.
        name: of the folder.
        channels: channel → folder.
        values: hyperparameters.
    """

    def __init__(
        self, context: Context, name: str, channels: Mapping[str, Path], values: Mapping[str, Any]
    ) -> None:
        self.base = context.work / "jobs" / name
        device = "cpu" if context.dry else "cuda"
        shutil.rmtree(self.base, ignore_errors=True)
        program.prepare(self.base, channels, {"device": device, "report": "false", **values})
        self.checkpoints = self.base / "checkpoints"
        self.checkpoints.mkdir()
        self.log = ""

    def run(
        self,
        fault: str | None = None,
        environment: Mapping[str, str] | None = None,
        line: Callable[["subprocess.Popen[str]", str], None] = lambda process, text: None,
    ) -> int:
        """To its end: the exit code. `line` is called with each line of the log as it comes."""
        command = (
            [sys.executable, "-m", "benchmarks.gpu.faults", fault] if fault else [program.train_program()]
        )
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
            env={**os.environ, "SAGEMAKER_BASE_DIR": str(self.base.resolve()), **(environment or {})},
        )
        assert process.stdout is not None
        lines = []
        try:
            for text in process.stdout:
                lines.append(text)
                line(process, text)
            process.wait()
        finally:
            process.kill()
            self.log = "".join(lines)
        return process.returncode

    def must_run(self, **how: Any) -> None:
        """Raises RuntimeError with the end of its log where it fails."""
        if code := self.run(**how):
            raise RuntimeError(f"the program ended with {code}: " + " / ".join(last_lines(self.log)[-3:]))

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.base / "output/data/summary.json").read_text())
        return content

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.base / "output/data/history.jsonl").open()]

    def lose(self) -> None:
        """All but the checkpoints."""
        for name in ("model", "output"):
            shutil.rmtree(self.base / name, ignore_errors=True)


def article(context: Context, **values: Any) -> Values:
    """One run of the article's experiment."""
    channels = _real_channels(context)
    _must_fit(context, values)
    name = "-".join(
        str(values.get(each, "default")) for each in ("strategy", "fraction", "epochs", "optimizer")
    )
    job = Program(context, name, channels, values)
    job.must_run()
    summary = job.summary
    later = [row["epoch:seconds"] for row in job.history[1:]] or [job.history[0]["epoch:seconds"]]
    return {
        "strategy": values["strategy"],
        "fraction": values.get("fraction", 1),
        "epochs": values["epochs"],
        "seed": summary["seed"],
        "test_accuracy": summary["test"]["accuracy"],
        "validation_accuracy": summary["validation"]["accuracy"],
        "samples": summary["samples_visited"],
        "examples": summary["examples"],
        "epoch_seconds": statistics.median(later),
        **{
            f"{name}_seconds": summary["seconds"][name]
            for name in ("training", "selection", "evaluation", "total")
        },
        "hyperparameters": {name: str(value) for name, value in values.items()},
    }


def _must_fit(context: Context, values: Mapping[str, Any]) -> None:
    """By what earlier runs took for each sample seen, and for each epoch's evaluation."""
    earlier = [run for run in context.known.get("experiment", {}).values() if run["samples"]]
    if not earlier:
        return
    samples = values["epochs"] * values.get("fraction", 1) * earlier[0]["examples"]["training"]
    step = min(run["training_seconds"] / run["samples"] for run in earlier)
    evaluation = min(run["evaluation_seconds"] / run["epochs"] for run in earlier)
    wanted = samples * step + values["epochs"] * evaluation + SPARE_SECONDS * (not context.dry)
    if wanted > context.seconds_left():
        raise NotMeasured(
            f"it would take about {wanted:.0f} s, and {context.seconds_left():.0f} s of the stage are left"
        )


def _real_channels(context: Context) -> dict[str, Path]:
    """The images as arrays, which every run reads in a moment; made by the first run that needs them.

    Raises:
        NotMeasured: no images were given.
    """
    folders = {name: context.work / "images" / name for name in ("training", "test")}
    done = context.work / "images/done"
    if not done.exists():
        if context.data is None and not context.dry:
            raise NotMeasured("no images were given with --data")
        pixels = _noise({"train": 120, "test": 40}, 32) if context.data is None else _decoded(context.data)
        for folder, part in zip(folders.values(), ("train", "test"), strict=True):
            _write_arrays(folder, *pixels[part])
        done.touch()
    return folders


def _decoded(source: Path) -> Pixels:
    """Every `train/<class>/<image>` and `test/<class>/<image>` of a folder, or of an archive, which is not unpacked."""
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    classes: dict[str, list[str]] = {"train": [], "test": []}
    for path, content in _files(source):
        *_, part, name, _ = ("", "", *path.parts)[-4:]
        if part in images and path.suffix in (".jpg", ".jpeg", ".png"):
            images[part].append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
            classes[part].append(name)
    if not all(images.values()):
        raise NotMeasured(f"--data {source.name}: expected train/<class>/<image> and test/<class>/<image>")
    numbers = {name: number for number, name in enumerate(sorted(set(classes["train"])))}
    return {
        part: (np.stack(images[part]), np.array([numbers[name] for name in classes[part]])) for part in images
    }


def _files(source: Path) -> Iterator[tuple[Path, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                yield path, path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield Path(member.name), file.read()


def _noise(sizes: Mapping[str, int], side: int) -> Pixels:
    draw = np.random.default_rng(0)
    return {
        name: (draw.integers(256, size=(size, side, side, 3), dtype=np.uint8), np.arange(size) % 10)
        for name, size in sizes.items()
    }


def _write_arrays(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", x=images, y=labels)


def _noise_channel(context: Context, images: int) -> dict[str, Path]:
    folder = context.work / f"noise-{images}"
    _write_arrays(folder, *_noise({"train": images}, 32)["train"])
    return {"training": folder}


def resumed(context: Context, images: int, **values: Any) -> Values:
    """Whether a run that was killed and started again ends as one that was not, bit for bit."""
    channels = _noise_channel(context, images)
    values = {"deterministic": "true", "checkpoint_minutes": 0.005, **values}
    whole = Program(context, "whole", channels, values)
    whole.must_run()
    job = Program(context, "killed", channels, values)

    def kill(process: "subprocess.Popen[str]", text: str) -> None:
        if text.startswith("epoch=2 "):
            deadline = time.monotonic() + WAIT_SECONDS
            while not any(job.checkpoints.glob("checkpoint-*.pt")) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()

    code = job.run(line=kill)
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the run was not killed, but ended with {code}")
    job.lose()
    job.must_run()
    ours, theirs = _outcome(job), _outcome(whole)
    return {
        "resumed": bool(re.search("from a checkpoint|resum", job.log)),
        "history_same": ours["history"] == theirs["history"],
        "weights_same": ours["weights"] == theirs["weights"],
        "epochs": len(theirs["history"]),
        "epoch_seconds": whole.history[-1]["epoch:seconds"],
    }


def _outcome(job: Program) -> Values:
    from safetensors.numpy import load_file

    rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in job.history]
    weights = {
        name: value.tobytes() for name, value in load_file(job.base / "model/model.safetensors").items()
    }
    return {"history": rows, "weights": weights}


def memory(context: Context, images: int, gib: float, **values: Any) -> Values:
    """Whether a batch that does not fit is halved until it fits, and the run ends normally."""
    job = Program(context, "memory", _noise_channel(context, images), values)
    job.must_run(fault="memory", environment={GIB: str(gib)})
    sizes = [int(size) for size in re.findall(r"in parts of (\d+)", job.log)]
    return {
        "gib": gib,
        "batch_size": values["batch_size"],
        "parts_of": sizes,
        "halved_and_completed": bool(sizes) and job.summary["status"] == "completed",
    }


def no_code(context: Context, images: int, **values: Any) -> Values:
    """What is said where torch has no code for the GPU."""
    values = {**values, "device": "auto"}
    job = Program(context, "no-code", _noise_channel(context, images), values)
    code = job.run(fault="code")
    said = (job.base / "output/failure").read_text().strip() if (job.base / "output/failure").exists() else ""
    return {"exit_code": code, "said": said, "as_expected": code == 1 and "has no code" in said}


def encoder(context: Context, rows: int, words: int, shape: Mapping[str, int], **values: Any) -> Values:
    """Steps a second of an encoder with random weights, every text as long as it may be."""
    try:
        channels = _encoder_channels(context, rows, words, shape, int(values["max_tokens"]))
    except ModuleNotFoundError as error:
        raise NotMeasured(f"{error}") from error
    job = Program(context, f"encoder-{values['precision']}", channels, values)
    job.must_run()
    samples = job.history[-1]["samples:visited"] / len(job.history)
    seconds = job.history[-1]["epoch:seconds"]
    steps = -(-samples // int(values["batch_size"]))
    return {
        "precision": values["precision"],
        "batch_size": values["batch_size"],
        "max_tokens": values["max_tokens"],
        "shape": dict(shape),
        "steps_per_second": steps / seconds,
        "texts_per_second": samples / seconds,
        "epoch_seconds": seconds,
    }


def _encoder_channels(
    context: Context, rows: int, words: int, shape: Mapping[str, Any], tokens: int
) -> dict[str, Path]:
    """A BERT with random weights and a vocabulary of the given size, and texts of its words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folders = {name: context.work / "texts" / name for name in ("training", "pretrained")}
    if (folders["training"] / "texts.csv").exists():
        return folders
    for folder in folders.values():
        folder.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = [*special, *(f"w{number}" for number in range(words - len(special)))]
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(known)}, unk_token="[UNK]"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(special)
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.save(str(folders["pretrained"] / "tokenizer.json"))
    torch.manual_seed(0)
    configuration = transformers.BertConfig(vocab_size=words, **shape)
    transformers.BertModel(configuration).save_pretrained(folders["pretrained"])
    draw = random.Random(0)  # noqa: S311 - words that mean nothing
    with (folders["training"] / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "text"))
        for row in range(rows):
            writer.writerow(("ab"[row % 2], " ".join(draw.choices(known[len(special) :], k=tokens))))
    return folders
