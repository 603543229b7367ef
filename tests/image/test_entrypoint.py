"""The program in front of `train`: NVIDIA's compatibility libraries where the driver is too old, and nothing else.

The driver's version comes from /proc, which cannot be replaced in a container, or from nvidia-smi, which can.
"""

from pathlib import Path

import pytest

from tests.image.conftest import Image

NEEDED = {"13": 580, "12": 525}
COMPAT = "/usr/local/cuda/compat"


@pytest.fixture
def fake_driver(tmp_path: Path) -> Path:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver of its own")
    return tmp_path


def options(folder: Path, version: str, compat: bool = True) -> list[str]:
    """`docker run` options for a container that sees a driver of this version, with cuda-compat or without."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    libraries = folder / "compat"
    libraries.mkdir()
    if compat:
        (libraries / "libcuda.so.1").touch()
    return ["-v", f"{program}:/usr/local/bin/nvidia-smi:ro", "-v", f"{libraries}:{COMPAT}:ro"]


def library_path(image: Image, extra: list[str]) -> tuple[list[str], str]:
    done = image.run("printenv", "LD_LIBRARY_PATH", options=extra)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(":"), done.stderr


def test_an_old_driver_gets_the_compatibility_libraries(image: Image, fake_driver: Path) -> None:
    old = NEEDED[image.environment["SUBSET_TRAINER_CUDA"]] - 1
    folders, message = library_path(image, options(fake_driver, f"{old}.183.01"))
    assert folders == [COMPAT, *image.environment["LD_LIBRARY_PATH"].split(":")]
    assert f"({old})" in message
    assert COMPAT in message


@pytest.mark.parametrize("more", [0, 15])
def test_a_new_driver_does_not(image: Image, fake_driver: Path, more: int) -> None:
    new = NEEDED[image.environment["SUBSET_TRAINER_CUDA"]] + more
    folders, message = library_path(image, options(fake_driver, f"{new}.95.05"))
    assert COMPAT not in folders
    assert message == ""


def test_an_old_driver_without_the_libraries(image: Image, fake_driver: Path) -> None:
    folders, message = library_path(image, options(fake_driver, "470.256.02", compat=False))
    assert COMPAT not in folders
    assert message == ""


def test_no_driver(image: Image, fake_driver: Path) -> None:
    folders, message = library_path(image, [])
    assert COMPAT not in folders
    assert message == ""


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.95.05  Release Build  (dvs-builder@U22-I3)",
    ],
)
def test_both_forms_of_the_kernel_module_s_version_are_read(image: Image, tmp_path: Path, line: str) -> None:
    """The program's own text, with the file's name exchanged, inside the image."""
    folder = tmp_path
    (folder / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1)\n")
    extra = [*options(folder, "999.1"), "-v", f"{folder}/version:/driver-version:ro"]
    script = (
        "sed 's#/proc/driver/nvidia/version#/driver-version#' /usr/local/bin/with-cuda-compat >/tmp/it && "
        "SUBSET_TRAINER_CUDA=13 sh /tmp/it printenv LD_LIBRARY_PATH"
    )
    assert image.output("sh", "-c", script, options=extra).startswith(f"{COMPAT}:")


def test_the_command_takes_the_place_of_the_program(image: Image) -> None:
    """So that signals reach it and its exit code is the container's."""
    done = image.run("sh", "-c", 'echo "$$ $1"; exit 7', "name", "two  words")
    assert done.returncode == 7
    assert done.stdout == "1 two  words\n"
