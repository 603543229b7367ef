"""Which hosts train, and which of several reasons is the job's."""

import json
from pathlib import Path

import pytest
import torch

from subset_trainer.config import parse
from subset_trainer.contract import Contract
from subset_trainer.errors import AlgorithmError, PlatformError, UserError
from subset_trainer.training.parallel import launcher
from subset_trainer.training.parallel.hosts import Hosts, Reason


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("have", "values", "expected"),
    [
        (0, {}, 1),
        (8, {}, 8),
        (8, {"processes_per_host": 4}, 4),
        (8, {"device": "cpu"}, 1),
        (0, {"processes_per_host": 3}, 3),
    ],
)
def test_one_process_a_gpu(
    have: int, values: dict[str, object], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, have)
    assert launcher.processes_here(parse(values)) == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 4)
    with pytest.raises(UserError, match="processes_per_host=8, but the host has 4 GPUs"):
        launcher.processes_here(parse({"processes_per_host": 8}))


def test_hosts_without_gpus_leave_the_training_to_those_with() -> None:
    """A heterogeneous cluster's groups, of which one prepares data for the other."""
    met = {"algo-1": {"gpus": 0}, "algo-2": {"gpus": 8}, "algo-3": {"gpus": 1}}
    assert launcher._taking_part(met) == ["algo-2", "algo-3"]
    assert launcher._taking_part({"algo-1": {"gpus": 0}, "algo-2": {"gpus": 0}}) == ["algo-1", "algo-2"]


def test_a_shard_on_a_host_that_does_not_train_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ("algo-1", "algo-2")
    met = {"algo-1": {"gpus": 0}, "algo-2": {"gpus": 8}}
    monkeypatch.setattr(Hosts, "meet", lambda self, facts: met)
    job = Contract(tmp_path, {}, {}, hosts, "algo-1", None, None, sharded=frozenset({"training"}))
    with pytest.raises(
        UserError, match=r"^channel 'training' is sharded .*, and algo-1, without a GPU, would keep"
    ):
        launcher.run(job, parse({}))


def leave(folder: Path, rank: int, error: UserError | PlatformError, bystander: bool = False) -> None:
    (folder / f"{rank}.json").write_text(Reason.of(error, bystander).to_json(), encoding="utf-8")


def test_a_process_that_was_at_fault_is_believed_before_bystanders(tmp_path: Path) -> None:
    leave(tmp_path, 0, PlatformError("connection closed by peer"), bystander=True)
    leave(tmp_path, 3, UserError("batch_size is too large"))
    reason = launcher._reason(tmp_path, {0: 2, 3: 1}, "algo-1")
    assert reason == Reason("batch_size is too large", "UserError")
    assert type(reason.error()) is UserError


def test_one_that_was_killed_is_believed_before_bystanders(tmp_path: Path) -> None:
    """The launcher ends the remaining ones with SIGTERM, which says nothing."""
    leave(tmp_path, 0, PlatformError("connection closed by peer"), bystander=True)
    reason = launcher._reason(tmp_path, {0: 2, 1: -15, 2: -11}, "algo-1")
    assert (
        reason is not None and "process 2 of the training, on algo-1, was ended by SIGSEGV" in reason.sentence
    )


def test_bystanders_are_believed_where_nobody_else_speaks(tmp_path: Path) -> None:
    leave(tmp_path, 1, PlatformError("connection closed by peer"), bystander=True)
    reason = launcher._reason(tmp_path, {1: 2, 0: -15}, "algo-1")
    assert reason is not None and reason.bystander
    assert launcher._reason(tmp_path / "none", {}, "algo-1") is None


def test_a_reason_is_sent_whole() -> None:
    reason = Reason.of(AlgorithmError("naïve\nsentence"), True)
    assert Reason.from_json(json.dumps(json.loads(reason.to_json()))) == reason


def test_hosts_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subset_trainer.training.parallel.hosts.PORT", 29_777)
    hosts = Hosts(("localhost", "algo-2", "algo-3"), "localhost", 0.01)
    with pytest.raises(PlatformError, match=r"2 of 3 hosts did not come .*: algo-2, algo-3 \(see"):
        hosts.meet({"gpus": 0})


def test_the_network_s_interface_is_the_one_that_the_platform_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "FI_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    (tmp_path / "net/eth0").mkdir(parents=True)
    (tmp_path / "efa/rdmap0").mkdir(parents=True)
    monkeypatch.setattr(launcher, "NETWORK", tmp_path / "net")
    monkeypatch.setattr(launcher, "EFA", tmp_path / "none")
    launcher._prepare_network("eth9")
    assert "GLOO_SOCKET_IFNAME" not in launcher.os.environ
    launcher._prepare_network("eth0")
    assert launcher.os.environ["GLOO_SOCKET_IFNAME"] == launcher.os.environ["NCCL_SOCKET_IFNAME"] == "eth0"
    assert "FI_PROVIDER" not in launcher.os.environ
    monkeypatch.setattr(launcher, "EFA", tmp_path / "efa")
    launcher._prepare_network(None)
    assert launcher.os.environ["FI_PROVIDER"] == "efa"
