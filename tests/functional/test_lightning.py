"""The library's loader and callback in the real Lightning: the same subsets, however a fit is stopped, fed, shared."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import SubsetLoader

lightning = pytest.importorskip("lightning.pytorch")
from subset_selection.lightning import SubsetCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[[torch.nn.Module], Any]
Seen = list[tuple[int, int, list[float], list[float]]]
STRATEGIES: dict[str, dict[str, Any]] = {
    "glister": {"strategy": "glister", "fraction": 0.3},
    "infobatch": {"strategy": "infobatch"},
    "warm start": {"strategy": "gradmatch", "fraction": 0.3, "warm_fraction": 0.5, "epochs": 6},
    "loss-filter": {"strategy": "loss-filter", "fraction": 0.3},
}
EPOCHS = 4
HERE = Path(__file__)
ROOT = HERE.parents[2]


def data(examples: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (examples,), generator=draw)
    return TensorDataset(torch.randn(examples, 5, generator=draw) + labels[:, None], labels)


def maker(variant: str, **options: Any) -> Make:
    given: dict[str, Any] = (
        {"validation": data(40, 1), "batch_size": 16, "select_every": 2} | STRATEGIES[variant] | options
    )
    return lambda network: SubsetLoader(data(200, 0), network, **given)


class Module(lightning.LightningModule):  # type: ignore[name-defined]
    def __init__(self, make: Make) -> None:
        super().__init__()
        torch.manual_seed(0)
        linear = torch.nn.Linear
        self.network = torch.nn.Sequential(
            torch.nn.BatchNorm1d(5), linear(5, 8), torch.nn.ReLU(), linear(8, 3)
        )
        self.make, self.seen, self.validated = make, Seen(), list[int]()
        self.returns = True

    def train_dataloader(self) -> Any:
        return self.make(self.network)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, labels, weights = batch
        self.seen.append((self.current_epoch, batch_idx, inputs[:, 0].tolist(), weights.tolist()))
        losses = cross_entropy(self.network(inputs), labels, reduction="none")
        loss = losses @ weights.to(losses.dtype) / weights.sum().to(losses.dtype)
        return {"loss": loss, "losses": losses} if self.returns else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.validated.append(self.current_epoch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = quiet | {"accelerator": "cpu", "max_epochs": EPOCHS, "default_root_dir": folder} | options
    return lightning.Trainer(
        callbacks=[SubsetCallback(), *callbacks], enable_checkpointing=bool(callbacks), **settings
    )


def fit(
    module: Module, folder: Path, *callbacks: Any, ckpt_path: Path | None = None, **options: Any
) -> Module:
    shuffled = DataLoader(data(40, 1), 20, shuffle=True)
    trainer(folder, *callbacks, **options).fit(module, val_dataloaders=shuffled, ckpt_path=ckpt_path)
    return module


def same_weights(one: Module, other: Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, its) for mine, its in pairs)


def in_a_plain_loop(variant: str) -> Module:
    module = Module(maker(variant))
    loader, optimizer = module.train_dataloader(), module.configure_optimizers()
    for epoch in range(EPOCHS):
        module.train()
        for step, (inputs, labels, weights) in enumerate(loader):
            module.seen.append((epoch, step, inputs[:, 0].tolist(), weights.tolist()))
            losses = cross_entropy(module.network(inputs), labels, reduction="none")
            loader.observe(losses)
            optimizer.zero_grad()
            (losses @ weights / weights.sum()).backward()
            optimizer.step()
    return module


@pytest.mark.parametrize("variant", STRATEGIES)
def test_a_fit_trains_on_what_a_plain_loop_does_and_resumes_from_every_step(
    variant: str, tmp_path: Path
) -> None:
    every = lightning.callbacks.ModelCheckpoint(
        tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1
    )
    whole = fit(Module(maker(variant)), tmp_path, every)
    plain = in_a_plain_loop(variant)
    assert whole.seen == plain.seen and same_weights(whole, plain)
    # Every epoch's last batch is noticed, whatever its length: there the trainer validates.
    assert sorted({*whole.validated}) == list(range(EPOCHS))
    steps = [len([seen for seen in whole.seen if seen[0] == epoch]) for epoch in range(EPOCHS)]
    ends = [sum(steps[: epoch + 1]) for epoch in range(EPOCHS - 1)]
    for stop in sorted({1, *ends, ends[0] + 1, ends[1] + 3, ends[1] - 1}):
        resumed = fit(Module(maker(variant)), tmp_path, ckpt_path=tmp_path / f"step={stop}.ckpt")
        assert resumed.seen == whole.seen[stop:] and same_weights(resumed, whole)


@pytest.mark.parametrize("variant", ["glister", "infobatch", "warm start"])
def test_a_fit_resumes_between_epochs(variant: str, tmp_path: Path) -> None:
    between = lightning.callbacks.ModelCheckpoint(
        tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
    )
    whole = fit(Module(maker(variant)), tmp_path, between)
    for epoch in range(EPOCHS - 1):
        resumed = fit(Module(maker(variant)), tmp_path, ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert resumed.seen == [seen for seen in whole.seen if seen[0] > epoch]
        assert same_weights(resumed, whole)


def test_without_the_callback_a_resumed_fit_is_refused(tmp_path: Path) -> None:
    between = lightning.callbacks.ModelCheckpoint(
        tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
    )
    fit(Module(maker("glister")), tmp_path, between)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    alone = lightning.Trainer(accelerator="cpu", max_epochs=EPOCHS, enable_checkpointing=False, **quiet)
    with pytest.raises(RuntimeError, match="epoch 3 of the training begins, and the subsets are at epoch 1"):
        alone.fit(Module(maker("glister")), ckpt_path=tmp_path / "epoch=1.ckpt")


@pytest.mark.parametrize(
    "options",
    [
        {"reload_dataloaders_every_n_epochs": 1},
        {"num_sanity_val_steps": 0},
        {"val_check_interval": 0.5},
        {"accumulate_grad_batches": 3},
    ],
    ids=str,
)
def test_how_a_fit_is_fed_and_checked_does_not_change_its_subsets(
    options: dict[str, Any], tmp_path: Path
) -> None:
    for variant in ("el2n", "infobatch"):
        make = maker("glister", strategy="el2n") if variant == "el2n" else maker(variant)
        if "accumulate_grad_batches" in options:  # the model differs, and with it what is chosen by it
            make = maker("glister", strategy="rs2")
        usual, other = fit(Module(make), tmp_path), fit(Module(make), tmp_path, **options)
        assert usual.seen == other.seen
        if "val_check_interval" in options:
            assert len(other.validated) == 2 * len(usual.validated)
        if "accumulate_grad_batches" in options:
            assert not same_weights(usual, other)


def test_an_epoch_that_the_trainer_cuts_short_is_complete(tmp_path: Path) -> None:
    between = lightning.callbacks.ModelCheckpoint(
        tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
    )
    for limit in (3, 0.5):
        whole = fit(Module(maker("infobatch")), tmp_path, between, limit_train_batches=limit)
        resumed = fit(
            Module(maker("infobatch")),
            tmp_path,
            ckpt_path=tmp_path / "epoch=1.ckpt",
            limit_train_batches=limit,
        )
        assert resumed.seen == [seen for seen in whole.seen if seen[0] > 1]
        steps = [len([seen for seen in whole.seen if seen[0] == epoch]) for epoch in range(EPOCHS)]
        assert steps[0] == (3 if limit == 3 else 6)
        for path in tmp_path.glob("*.ckpt"):
            path.unlink()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_a_selection_is_in_the_trainer_s_precision(precision: str, tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Watched(Module):
        def __init__(self) -> None:
            super().__init__(maker("glister", strategy="el2n"))
            self.network[1].register_forward_hook(lambda layer, inputs, output: self.note(output))

        def note(self, output: torch.Tensor) -> None:
            if not self.network.training:
                seen.append(output.dtype)

    fit(Watched(), tmp_path, precision=precision, limit_val_batches=0)
    assert {*seen} == {torch.float64 if precision == "64-true" else torch.bfloat16}


def test_size_and_seconds_of_selections_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = trainer(tmp_path)
    logging.getLogger("lightning.pytorch").propagate = True
    with caplog.at_level(logging.INFO):
        found.fit(Module(maker("glister")))
    assert found.callback_metrics["subset_size"] == 60
    assert found.callback_metrics["selection_seconds"] > 0
    said = [
        match for record in caplog.records if (match := re.search("epoch.*selected", record.getMessage()))
    ]
    assert [match[0][:33] for match in said] == [
        f"epoch {epoch}: 60 examples selected"[:33] for epoch in (1, 3)
    ]


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (maker("glister"), {"overfit_batches": 2}, r"overfit_batches=2\) replaces the loader's choice"),
        (maker("warm start"), {"max_epochs": 6}, r"max_epochs=6\): expected at most the 4 epochs"),
        (lambda network: DataLoader(data(20, 0)), {}, "is a DataLoader: expected one SubsetLoader"),
        (lambda network: [maker("glister")(network)] * 2, {}, "is a list: expected one SubsetLoader"),
    ],
)
def test_what_does_not_go_with_subsets_is_refused(
    make: Make, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(Module(make), tmp_path, **options)


def test_losses_that_training_step_does_not_return_are_asked_for(tmp_path: Path) -> None:
    module = Module(maker("infobatch"))
    module.returns = False
    with pytest.raises(ValueError, match=r"training_step returned no 'losses': expected \{'loss'"):
        fit(module, tmp_path)

    class Fetching(Module):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(ValueError, match=r"expected training_step\(batch, batch_idx\)"):
        fit(Fetching(maker("infobatch")), tmp_path)


# Two processes, and the package's other name


SCRIPT = """
import importlib.util, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("tested", sys.argv[1])
tested = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tested)
folder, ModelCheckpoint = Path(sys.argv[2]), tested.lightning.callbacks.ModelCheckpoint
two = {"devices": 2, "strategy": "ddp"}
for variant in ("glister", "infobatch"):
    made = tested.maker(variant, batch_size=8)
    given = tested.Module(None)
    loader = made(given.network)  # for the first variant, before there are processes
    tested.trainer(folder, **two).fit(given, loader)
    when = len(given.seen) - 7
    saved = ModelCheckpoint(folder / variant, filename="{step}", every_n_train_steps=when, save_top_k=-1)
    whole = tested.fit(tested.Module(made), folder, saved, **two)
    resumed = tested.fit(tested.Module(made), folder, ckpt_path=folder / variant / f"step={when}.ckpt", **two)
    found = {"whole": whole.seen, "resumed": resumed.seen == whole.seen[when:], "given": given.seen == whole.seen}
    found["weights"] = tested.same_weights(resumed, whole)
    torch.save(found, folder / f"{variant}-{given.global_rank}.pt")
"""


def printed(*arguments: str, folder: Path = ROOT, seconds: float = 120) -> str:
    """What a Python process of its own prints, which has to succeed; without warnings, on one thread."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_share_the_batches_of_one_and_resume(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    printed(str(script), str(HERE), str(tmp_path), seconds=180)
    for variant in ("glister", "infobatch"):
        ranks = [torch.load(tmp_path / f"{variant}-{rank}.pt", weights_only=True) for rank in range(2)]
        assert all(rank["resumed"] and rank["weights"] and rank["given"] for rank in ranks)
        together = [
            (epoch, step, first + second, weights + others)
            for (epoch, step, first, weights), (_, _, second, others) in zip(
                ranks[0]["whole"], ranks[1]["whole"], strict=True
            )
        ]
        alone = in_a_plain_loop(variant)
        # The first epoch's model is that of one process; later ones differ by DDP's mean of the shares' means.
        first = [seen for seen in alone.seen if seen[0] == 0]
        assert together[: len(first)] == first
        for epoch in range(EPOCHS):
            seen = [value for batch in together if batch[0] == epoch for value in batch[2]]
            assert len({*seen}) == len(seen) and (variant == "infobatch" or len(seen) == 60)


def test_it_works_with_pytorch_lightning(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    code = f"""
import importlib.util, sys
import pytorch_lightning
from pathlib import Path
sys.modules["lightning.pytorch"] = pytorch_lightning
spec = importlib.util.spec_from_file_location("tested", {str(HERE)!r})
tested = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tested)
del sys.modules["lightning.pytorch"]
assert issubclass(tested.SubsetCallback, pytorch_lightning.Callback)
module = tested.fit(tested.Module(tested.maker("infobatch")), Path({str(tmp_path)!r}))
assert module.seen == tested.in_a_plain_loop("infobatch").seen
assert not any(name.startswith("lightning.") for name in sys.modules)
"""
    printed("-c", code)


def test_the_example_learns_and_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    source = ROOT / "examples/lightning_module.py"
    assert len(source.read_text().splitlines()) <= 40
    (tmp_path / "stopped.py").write_text(source.read_text().replace("max_epochs=10", "max_epochs=5"))

    def run(script: Path, *arguments: str) -> str:
        folder = tmp_path / script.stem
        folder.mkdir()
        return printed(str(script), *arguments, folder=folder).splitlines()[-1]

    run(tmp_path / "stopped.py")
    (saved,) = (tmp_path / "stopped").rglob("*.ckpt")
    line = run(source, str(saved))
    match = re.fullmatch(r"accuracy on 1000 test examples: (\d+\.\d)%", line)
    assert match is not None and float(match[1]) > 60
