"""Hugging Face's real Trainer on subsets: it learns what a plain loop learns, alone, resumed and in two processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from subset_selection import SubsetLoader
from subset_selection.hf import SelectsSubsets, SubsetTrainer, sequence_losses
from subset_selection.source import Reading
from tests.documentation import ROOT, blocks_of
from tests.functional.forked import in_processes

HERE = "tests.functional.test_hugging_face"
EXAMPLES, CLASSES, BATCH, EPOCHS = 131, 3, 16, 4
STRATEGIES: dict[str, dict[str, Any]] = {
    "glister": {"strategy": "glister", "fraction": 0.3, "select_every": 2},
    "gradmatch": {"strategy": "gradmatch", "fraction": 0.4, "select_every": 4},
    "infobatch": {"strategy": "infobatch"},
    "warm start": {"strategy": "rs2", "fraction": 0.3, "warm_fraction": 0.5},
}


class Rows:
    """Rows as those of ``datasets.Dataset``: dicts, read one by one or many at a time, with a column more than the
    model takes."""

    def __init__(self, examples: int = EXAMPLES, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        labels = torch.randint(CLASSES, (examples,), generator=draw)
        tokens = torch.randint(3, 50, (examples, 8), generator=draw)
        tokens[:, :3] = 10 * labels[:, None] + 5
        tokens[:, 7] = torch.arange(examples) % 50
        self.rows = [
            {"idx": index, "input_ids": ids, "attention_mask": [1] * 8, "label": label}
            for index, (ids, label) in enumerate(zip(tokens.tolist(), labels.tolist(), strict=True))
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self.rows[index] for index in indices]


def classifier(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "num_labels": CLASSES,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    config = BertConfig(
        vocab_size=50,
        max_position_embeddings=8,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **shape,
    )
    return BertForSequenceClassification(config)


def arguments(folder: Path, **given: Any) -> TrainingArguments:
    options: dict[str, Any] = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
    }
    return TrainingArguments(str(folder), **{**options, **given})


def trainer(folder: Path, selection: dict[str, Any], model: Any = None, **given: Any) -> SubsetTrainer:
    """A trainer with plain SGD, whose rate stays."""
    of_trainer = {
        name: given.pop(name)
        for name in ("callbacks", "train_dataset", "eval_dataset", "losses")
        if name in given
    }
    model = model or classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SubsetTrainer(
        model=model,
        args=arguments(folder, **given),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
        selection={"validation": Rows(40, 1), "seed": 5, **selection},
        **{"train_dataset": Rows(), **of_trainer},
    )


def in_a_plain_loop(selection: dict[str, Any], smoothing: float = 0.0) -> tuple[Any, list[Tensor]]:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = SubsetLoader(
        Rows(),
        model,
        collate_fn=default_data_collator,
        reading=Reading(8, collate_fn=default_data_collator),
        inputs=("input_ids", "attention_mask"),
        **{"validation": Rows(40, 1), "seed": 5, "epochs": EPOCHS, "batch_size": BATCH, **selection},
    )
    chosen = []
    for _ in range(loader.epochs or 0):
        known = loader.last_selection
        for batch in loader:
            model.train()
            outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            losses = cross_entropy(
                outputs.logits, batch["labels"], reduction="none", label_smoothing=smoothing
            )
            optimizer.zero_grad()
            (losses @ (batch["weights"] / batch["weights"].sum())).backward()
            optimizer.step()
            loader.observe(losses)
        if loader.last_selection is not known and loader.last_selection is not None:
            chosen.append(loader.last_selection.subset.indices)
    return model, chosen


class Selections(TrainerCallback):
    """What was chosen before each epoch."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.chosen: list[Tensor] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "subset_size" in state.log_history[-1]:
            self.chosen.append(self.trainer.last_selection.subset.indices)


def close(one: Any, other: Any) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(first, second, rtol=1e-4, atol=1e-5) for first, second in pairs)


def equal(one: Any, other: Any) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("variant", STRATEGIES)
def test_the_trainer_learns_what_a_plain_loop_does(variant: str, accumulated: int, tmp_path: Path) -> None:
    seen = Selections()
    seen.trainer = trained = trainer(
        tmp_path,
        STRATEGIES[variant],
        callbacks=[seen],
        per_device_train_batch_size=BATCH // accumulated,
        gradient_accumulation_steps=accumulated,
    )
    trained.train()
    model, chosen = in_a_plain_loop(STRATEGIES[variant])
    assert [part.tolist() for part in seen.chosen] == [part.tolist() for part in chosen]
    assert (equal if accumulated == 1 else close)(trained.model, model)
    assert trained.state.epoch == len(trained.subsets._schedule or ())


@pytest.mark.parametrize("variant", ["accepts no loss kwargs", "label smoothing", "workers"])
def test_other_arguments_of_the_trainer_change_no_gradient(variant: str, tmp_path: Path) -> None:
    model = classifier()
    given: dict[str, Any] = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    if variant == "accepts no loss kwargs":
        model.accepts_loss_kwargs = False
    elif variant == "label smoothing":
        given["label_smoothing_factor"] = 0.2
    else:
        given |= {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trained = trainer(tmp_path, STRATEGIES["gradmatch"], model, **given)
    trained.train()
    plain, _ = in_a_plain_loop(STRATEGIES["gradmatch"], given.get("label_smoothing_factor", 0.0))
    assert close(model, plain)


def test_the_log_says_what_each_selection_took(tmp_path: Path) -> None:
    trained = trainer(tmp_path, STRATEGIES["glister"], eval_strategy="epoch", eval_dataset=Rows(40, 1))
    trained.train()
    selections = [line for line in trained.state.log_history if "subset_size" in line]
    assert [line["epoch"] for line in selections] == [0, 2]
    assert all(line["subset_size"] == round(0.3 * EXAMPLES) for line in selections)
    assert all(line["selection_seconds"] > 0 for line in selections)
    assert trained.last_selection is not None and trained.last_selection.epoch == 3
    # An evaluation computes the model's own loss.
    assert sum("eval_loss" in line for line in trained.state.log_history) == EPOCHS


def test_a_rate_that_falls_has_fallen_after_the_last_epoch_also_of_fewer_updates(tmp_path: Path) -> None:
    trained = SubsetTrainer(
        model=classifier(),
        args=arguments(tmp_path, learning_rate=0.01, num_train_epochs=6),
        train_dataset=Rows(),
        selection={"strategy": "infobatch"},
    )
    trained.train()
    assert trained.state.global_step < 6 * 9 and trained.lr_scheduler.get_last_lr() == [0.0, 0.0]  # type: ignore[union-attr]
    rates = [line["learning_rate"] for line in trained.state.log_history if "learning_rate" in line]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.0005


# Killed and resumed

INTERRUPTED = {"glister": 9, "infobatch": 37, "warm start": 22}
"""Variant → the update after which it is killed: within an epoch, before a selection."""


class Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def with_dropout(folder: Path, variant: str, *callbacks: TrainerCallback) -> SubsetTrainer:
    return SubsetTrainer(
        model=classifier(dropout=0.1),
        args=arguments(
            folder / variant,
            learning_rate=0.01,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=6,
        ),
        train_dataset=Rows(),
        callbacks=list(callbacks),
        selection={**STRATEGIES[variant], "validation": Rows(40, 1)},
    )


def killed(folder: Path) -> None:
    torch.set_num_threads(1)
    for variant, step in INTERRUPTED.items():
        if not (child := os.fork()):
            with_dropout(folder, variant, Kill(step)).train()
        os.waitpid(child, 0)


def lines_of(trained: Trainer) -> list[dict[str, float]]:
    lines = [line for line in trained.state.log_history if "train_runtime" not in line]
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in lines]


def test_a_killed_run_resumes_with_the_same_subsets_and_ends_the_same(tmp_path: Path) -> None:
    in_processes(HERE, "killed", tmp_path / "killed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for variant, step in INTERRUPTED.items():
            saved = {path.name for path in (tmp_path / "killed" / variant).iterdir()}
            assert saved == {f"checkpoint-{number}" for number in range(6, step, 6)}
            resumed = with_dropout(tmp_path / "killed", variant)
            resumed.train(resume_from_checkpoint=True)
            whole = with_dropout(tmp_path / "whole", variant)
            whole.train()
            assert lines_of(resumed) == lines_of(whole)
            assert equal(resumed.model, whole.model)
    finally:
        torch.set_num_threads(threads)


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path: Path) -> None:
    plain = Trainer(model=classifier(), args=arguments(tmp_path, save_strategy="epoch"), train_dataset=Rows())
    plain.train()
    with pytest.raises(ValueError, match=r"has no subset_selection\.pt"):
        trainer(tmp_path, STRATEGIES["glister"]).train(resume_from_checkpoint=True)


# Two processes


class Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = state.global_step == 10
        return control


class Watched(SubsetTrainer):
    """Notes the indices of each batch of each update."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.read: list[tuple[int, list[int]]] = getattr(self, "read", [])
        self.read.append((self.subsets._begun, inputs["subset_indices"].tolist()))
        return super().training_step(model, inputs, *args, **kwargs)


def of_two(folder: Path, variant: str, size: int, callbacks: list[Any], **given: Any) -> Watched:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Watched(
        model=model,
        args=arguments(folder, per_device_train_batch_size=8 // size, gradient_accumulation_steps=2, **given),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
        train_dataset=Rows(),
        callbacks=callbacks,
        selection={**STRATEGIES[variant], "validation": Rows(40, 1), "seed": 5},
    )


def together(folder: Path) -> None:
    torch.set_num_threads(1)
    seen: dict[str, Any] = {}
    for variant in ("gradmatch", "infobatch"):
        selections = Selections()
        selections.trainer = trained = of_two(folder / variant, variant, 2, [selections])
        assert trained.args.world_size == 2
        trained.train()
        seen[variant] = {
            "read": trained.read,
            "chosen": [subset.tolist() for subset in selections.chosen],
            "model": trained.model.state_dict(),  # type: ignore[union-attr]
        }
    saved: dict[str, Any] = {"save_strategy": "steps", "save_steps": 10}
    of_two(folder / "stopped", "infobatch", 2, [Stop()], **saved).train()
    resumed = of_two(folder / "stopped", "infobatch", 2, [], **saved)
    resumed.train(resume_from_checkpoint=True)
    seen["resumed"] = {"read": resumed.read, "model": resumed.model.state_dict()}  # type: ignore[union-attr]
    torch.save(seen, folder / f"{os.environ['RANK']}.pt")


def test_two_processes_get_one_subset_and_learn_what_one_does(tmp_path: Path) -> None:
    in_processes(HERE, "together", tmp_path, 2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for variant in ("gradmatch", "infobatch"):
        selections = Selections()
        selections.trainer = alone = of_two(tmp_path / "alone", variant, 1, [selections])
        alone.train()
        assert first[variant]["chosen"] == second[variant]["chosen"]
        assert first[variant]["chosen"] == [subset.tolist() for subset in selections.chosen]
        # Each batch of the one process is that of the two together.
        shared = [
            (epoch, [*indices, *others])
            for (epoch, indices), (_, others) in zip(
                first[variant]["read"], second[variant]["read"], strict=True
            )
        ]
        assert shared == alone.read and all(1 < len(indices) <= 4 for _, indices in first[variant]["read"])
        copy = classifier()
        for seen in (first, second):
            copy.load_state_dict(seen[variant]["model"])
            assert close(alone.model, copy)
    for seen in (first, second):
        assert seen["resumed"]["read"] == seen["infobatch"]["read"][20:]
        for name, value in seen["resumed"]["model"].items():
            assert torch.equal(value, seen["infobatch"]["model"][name])


# Other tasks, and what is refused


def texts(examples: int = 48) -> list[dict[str, Any]]:
    tokens = torch.randint(3, 50, (examples, 8), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        {"input_ids": ids, "attention_mask": [1] * 8, "labels": [*ids[:5], -100, -100, -100]}
        for ids in tokens
    ]


def language_model() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50,
        n_positions=8,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
    )
    return GPT2LMHeadModel(config)


def test_a_language_model_trains_with_its_own_loss(tmp_path: Path) -> None:
    tuned = trainer(
        tmp_path,
        {"strategy": "full", "shuffle": False, "validation": None},
        language_model(),
        train_dataset=texts(),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
    )
    tuned.train()
    plain = language_model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    ordinary = Trainer(
        model=plain,
        args=arguments(
            tmp_path,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            train_sampling_strategy="sequential",
        ),
        train_dataset=texts(),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
    )
    ordinary.train()
    assert close(tuned.model, plain)


def test_infobatch_prunes_sequences_by_their_mean_loss(tmp_path: Path) -> None:
    tuned = trainer(
        tmp_path,
        {"strategy": "infobatch", "validation": None},
        language_model(),
        train_dataset=texts(),
        losses=sequence_losses,
    )
    tuned.train()
    sizes = [line["subset_size"] for line in tuned.state.log_history if "subset_size" in line]
    assert sizes[0] == 48 and max(sizes[1:]) < 48
    losses = [line["loss"] for line in tuned.state.log_history if "loss" in line]
    assert losses[-1] < losses[0]
    # Of one sequence, its mean over the tokens is the model's own loss.
    batch = default_data_collator(texts()[:1])
    outputs = tuned.model(**batch)  # type: ignore[misc]
    assert torch.allclose(sequence_losses(outputs, batch["labels"]), outputs.loss)


@pytest.mark.parametrize("strategy", ["glister", "gradmatch", "infobatch"])
def test_a_language_model_is_refused_by_strategies_that_need_what_it_has_not(
    strategy: str, tmp_path: Path
) -> None:
    tuned = trainer(
        tmp_path, {"strategy": strategy, "validation": texts(8)}, language_model(), train_dataset=texts()
    )
    with pytest.raises(ValueError, match=r"expected one class index for each|give losses="):
        tuned.train()


class WeightedClasses(Trainer):
    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 5.0, 1.0]))
        return (loss, outputs) if return_outputs else loss


class Weighted(SelectsSubsets, WeightedClasses):
    pass


def test_a_loss_of_one_s_own_is_kept_or_refused_and_never_replaced(tmp_path: Path) -> None:
    def made(strategy: str, **given: Any) -> Weighted:
        model = classifier()
        return Weighted(
            model=model,
            args=arguments(tmp_path),
            train_dataset=Rows(),
            selection={"strategy": strategy, "fraction": 0.9, "seed": 5},
            **given,
        )

    with pytest.raises(ValueError, match="the compute_loss of the Trainer's subclass gives one number"):
        made("craig").train()
    kept = made("rs2")
    kept.train()
    assert kept._recognised is False
    other = trainer(tmp_path, {"strategy": "rs2", "fraction": 0.9})
    other.compute_loss_func = lambda outputs, labels, num_items_in_batch=None: outputs.logits.square().sum()
    other.train()
    assert other._recognised is False

    def by_class(outputs: Any, labels: Tensor) -> Tensor:
        weight = torch.tensor([1.0, 5.0, 1.0])
        return cross_entropy(outputs.logits, labels, weight=weight, reduction="none")

    made("craig", losses=by_class).train()
    with pytest.raises(ValueError, match=r"gives the shape \(\)"):
        made("craig", losses=lambda outputs, labels: outputs.logits.sum()).train()

    class Replaced(SubsetTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

    with pytest.raises(ValueError, match="compute_loss of a subclass would replace"):
        Replaced(
            model=classifier(),
            args=arguments(tmp_path),
            train_dataset=Rows(),
            selection={"strategy": "rs2"},
        )


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "expected one of": ({"strategy": "glistr"}, {}),
    "no such option": ({"strategy": "rs2", "fractoin": 0.2}, {}),
    "give num_train_epochs in its arguments": ({"strategy": "rs2", "epochs": 3}, {}),
    "chooses within each batch": ({"strategy": "loss-filter"}, {}),
    "needs held-out examples": ({"strategy": "glister", "validation": None}, {}),
    "not max_steps": ({"strategy": "infobatch"}, {"max_steps": 20}),
    "num_train_epochs=2.5, expected a whole number": (
        {"strategy": "rs2", "warm_fraction": 0.5},
        {"num_train_epochs": 2.5},
    ),
    "expected 'random', because the selection orders": (
        {"strategy": "rs2"},
        {"train_sampling_strategy": "group_by_length"},
    ),
    "ignore_data_skip=True": ({"strategy": "rs2"}, {"ignore_data_skip": True}),
    "expected split_batches=False": ({"strategy": "rs2"}, {"accelerator_config": {"split_batches": True}}),
    "fewer than the 40 batches of one update": ({"strategy": "rs2"}, {"gradient_accumulation_steps": 40}),
    "train_dataset: expected a data set with a length": (
        {"strategy": "rs2"},
        {"train_dataset": iter(()), "max_steps": 3},
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_not_served_is_refused_before_training(sentence: str, tmp_path: Path) -> None:
    selection, given = REFUSED[sentence]
    with pytest.raises(ValueError, match=re.escape(sentence)):
        trainer(tmp_path, selection, **given)


# The page and the example


def test_the_page_s_trainer_learns_and_resumes(tmp_path: Path) -> None:
    (block,) = blocks_of(
        "tests/functional/test_hugging_face.py::test_the_page_s_trainer_learns_and_resumes", "python"
    )
    scope: dict[str, Any] = {}
    exec(block.text, scope)

    def options(folder: str, **given: Any) -> TrainingArguments:
        quiet: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_steps": 7}
        return TrainingArguments(str(tmp_path / folder), **{**quiet, **given})

    scope["TrainingArguments"] = options
    sets = Rows(600), Rows(60, 1)
    whole = scope["train"](classifier(), *sets, "whole")
    scope["train"](classifier(), *sets, "stopped", resume=False)
    last = max((tmp_path / "stopped").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)  # the end of the run: what is left is within its last epoch
    resumed = scope["train"](classifier(), *sets, "stopped", resume=True)
    assert resumed.state.global_step == whole.state.global_step == 10 * 12
    assert equal(resumed.model, whole.model)
    rows = Rows(200, 2)
    batch = default_data_collator([{**row, "idx": 0} for row in rows.rows])
    right = whole.model(batch["input_ids"], batch["attention_mask"]).logits.argmax(1) == batch["labels"]
    assert right.float().mean() > 0.9


def test_the_example_learns_and_resumes(tmp_path: Path) -> None:
    source = ROOT / "examples/hugging_face.py"
    assert len(source.read_text().splitlines()) <= 40
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

    def run(*given: str) -> str:
        command = [sys.executable, str(source), *given]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    line = run("saved")
    match = re.fullmatch(r"accuracy on 1000 test examples: (\d+\.\d)%", line)
    assert match is not None and float(match[1]) > 60
    assert run("saved", "resume") == line  # the run was over
