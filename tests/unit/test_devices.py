import subprocess
import sys
from pathlib import Path

import pytest
import torch

from subset_trainer.errors import UserError
from subset_trainer.training import devices
from subset_trainer.training.devices import Machine

CUDA13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CUDA12 = ["sm_70", *CUDA13]


@pytest.mark.parametrize(
    "capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 3), (12, 0), (12, 1), (13, 0)]
)
def test_gpus_that_the_wheel_has_code_for(capability: tuple[int, int]) -> None:
    devices.check_capability("GPU", capability, CUDA13)


@pytest.mark.parametrize(
    ("capability", "architectures"), [((7, 0), CUDA13), ((6, 1), CUDA12), ((11, 0), CUDA12[:-1])]
)
def test_other_gpus_are_named_with_their_capability(
    capability: tuple[int, int], architectures: list[str]
) -> None:
    with pytest.raises(
        UserError,
        match=rf"the GPU Tesla X has compute capability {capability[0]}\.{capability[1]}, for which",
    ):
        devices.check_capability("Tesla X", capability, architectures)


def test_a_v100_runs_with_the_cuda_12_wheel() -> None:
    devices.check_capability("Tesla V100", (7, 0), CUDA12)


def test_this_torchs_own_list_is_understood() -> None:
    architectures = torch._C._cuda_getArchFlags()
    if architectures is None:
        pytest.skip("this torch was built without CUDA")
    devices.check_capability("H100", (9, 0), architectures.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_asking_for_a_gpu_where_there_is_none() -> None:
    with pytest.raises(UserError, match="device='cuda', but this machine shows no GPU"):
        devices.prepare("cuda", "auto", images=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a usable GPU")
def test_a_gpu_whose_driver_is_too_old_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 2024\n", encoding="utf-8"
    )
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", version)
    with pytest.raises(
        UserError,
        match=r"does not start with its driver \(driver 470\.256\.02\): use an image built with CUDA=12",
    ):
        devices.prepare("auto", "auto", images=True)


@pytest.mark.parametrize(
    ("images", "units", "dtype"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_automatic_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, images: bool, units: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: units)
    assert devices.prepare("cpu", "auto", images).dtype == dtype


def test_precisions_that_are_asked_for_on_a_cpu() -> None:
    assert devices.prepare("cpu", "bfloat16", images=False).dtype == torch.bfloat16
    assert devices.prepare("cpu", "float32", images=True).dtype == torch.float32
    assert devices.prepare("cpu", "float16", images=True).needs_loss_scaling


def test_the_layout_of_images_follows_the_device_and_their_size() -> None:
    cpu, gpu = (Machine(torch.device(name), torch.bfloat16) for name in ("cpu", "cuda"))
    assert cpu.memory_format((3, 32, 40)) == gpu.memory_format((3, 8, 8)) == torch.channels_last
    assert cpu.memory_format((3, 64, 31)) == torch.contiguous_format


def test_processors_are_at_least_one_and_at_most_those_of_the_machine() -> None:
    import os

    assert 1 <= devices.cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("asked", "processes", "threads"),
    [("1", 1, 1), ("64", 1, 6), ("4", 2, 3), ("", 1, 6), ("0", 1, 6), ("many", 1, 6), (None, 9, 1)],
)
def test_threads_are_as_many_as_processors_or_as_few_as_asked_for(
    asked: str | None, processes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        devices.find("cpu", 0, processes)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_deterministic_kernels_are_asked_for_from_all_libraries() -> None:
    """In a process of its own: the settings are the process's."""
    code = (
        "import os, torch; from subset_trainer.training import devices; devices.prepare('cpu', 'auto', True); "
        "torch.backends.cudnn.benchmark = True; devices.be_deterministic(); "
        "print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, "
        "os.environ['CUBLAS_WORKSPACE_CONFIG'], bool(torch.empty(2**20).isnan().any()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert output.stdout.strip() == "True False :4096:8 False"
