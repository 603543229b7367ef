"""What a user finds in the image, and what must not be in it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.image.conftest import Image

ROOT = Path(__file__).resolve().parents[2]
BEYOND_TORCH_MB = 1420
PIP = "PYTHONPATH=$(ls /opt/pip/*.whl) python -m pip"
# Compute capabilities that each lock's torch must have code for.
ARCHITECTURES = {
    "13": {"sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"},
    "12": {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"},
}


def test_the_command_is_train_in_exec_form(image: Image) -> None:
    assert image.config["Cmd"] == ["train"]
    assert image.config["Entrypoint"] == ["with-cuda-compat"]


def test_environment(image: Image) -> None:
    assert image.environment["PYTHONUNBUFFERED"] == "1"
    assert image.environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert set(image.environment["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility"}
    assert image.environment["PATH"].startswith("/opt/venv/bin:")


def test_labels_name_version_and_revision(image: Image) -> None:
    labels = image.config["Labels"]
    project = tomllib.loads((ROOT / "container_src/pyproject.toml").read_text())["project"]
    installed = image.python(
        "import json, importlib.metadata as m; print(json.dumps(m.version('subset-trainer')))"
    )
    assert labels["org.opencontainers.image.version"] == project["version"] == installed
    assert re.fullmatch(r"[0-9a-f]{40}(-modified)?|unknown", labels["org.opencontainers.image.revision"])
    assert labels["subset-trainer.cuda"] == image.environment["SUBSET_TRAINER_CUDA"]


def test_a_build_without_arguments_has_the_project_s_version() -> None:
    project = tomllib.loads((ROOT / "container_src/pyproject.toml").read_text())["project"]
    assert f"ARG VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text()


def test_train_is_this_project_s(image: Image) -> None:
    """sagemaker-training brings a program of the same name."""
    assert image.output("sh", "-c", "command -v train").strip() == "/opt/venv/bin/train"
    assert "subset_trainer.entrypoint" in image.output("cat", "/opt/venv/bin/train")


def test_installed_versions_are_the_locked_ones(image: Image) -> None:
    code = """
import importlib.metadata, json
from packaging.markers import default_environment
from packaging.utils import canonicalize_name
versions = {canonicalize_name(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
print(json.dumps([versions, default_environment()]))
"""
    installed, environment = image.python(code)
    folder = ROOT / "docker" / "requirements"
    cuda = image.environment["SUBSET_TRAINER_CUDA"]
    lines = [
        line
        for lock in ("build.txt", f"cuda{cuda}.txt", "cords.txt")
        for line in (folder / lock).read_text().splitlines()
        if line and line[0] not in " #"
    ]
    locked = {}
    for line in lines:
        requirement = Requirement(line.removesuffix("\\"))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            locked[requirement.name] = str(requirement.specifier).removeprefix("==")
    # It is beside the environment, for scripts: see test_pip_is_there_for_scripts_alone.
    pip = locked.pop("pip")
    assert image.output("sh", "-c", "ls /opt/pip").strip() == f"pip-{pip}-py3-none-any.whl"
    # What the checkout itself is built into.
    for own in ("subset-trainer", "subset-selection"):
        installed.pop(own)
    assert installed == locked
    assert {
        "torch",
        "torchvision",
        "cords",
        "dotmap",
        "sagemaker-training",
        "boto3",
        "sagemaker",
        "mlflow-skinny",
        "sagemaker-mlflow",
        "tensorboard",
    } <= locked.keys()
    assert locked["cords"] == "0.0.4"
    assert locked["sagemaker"].startswith("2.")


def test_installed_packages_agree(image: Image) -> None:
    done = image.run("sh", "-c", f"{PIP} check")
    # It is not installed: see test_pip_is_there_for_scripts_alone.
    expected = r"sagemaker-training \S+ requires pip, which is not installed\."
    assert re.fullmatch(expected, done.stdout.strip()), done.stdout + done.stderr


def test_what_scripts_need_can_be_imported(image: Image) -> None:
    code = """
import boto3, dotmap, safetensors.torch, sagemaker_training.entry_point, torch, torchvision
import mlflow, sagemaker_mlflow, torch.utils.tensorboard
from sagemaker.experiments import load_run
from subset_trainer import artifacts, config, entrypoint
print("null")
"""
    image.python(code)


def test_torch_is_built_for_the_gpus_that_the_lock_serves(image: Image) -> None:
    cuda = image.environment["SUBSET_TRAINER_CUDA"]
    version, flags = image.python(
        "import json, torch; print(json.dumps([torch.version.cuda, torch._C._cuda_getArchFlags()]))"
    )
    assert version.startswith(f"{cuda}.")
    assert ARCHITECTURES[cuda] <= set(flags.split())


def test_cuda_libraries_are_the_wheels(image: Image) -> None:
    """The loader must not be sent to a base image's CUDA libraries first."""
    folders = image.environment["LD_LIBRARY_PATH"].split(":")
    assert all(folder.startswith("/usr/local/nvidia/") for folder in folders)


def test_cords_works_with_no_preparation(image: Image) -> None:
    code = """
import importlib.util, json, sys
import numpy
before = numpy.geterr()
quick = not any(name in sys.modules for name in ("cords", "sklearn", "torch"))
from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader
from cords.utils.models import ResNet18
from cords.utils.data.datasets.SL import gen_dataset
import cords.selectionstrategies.helpers.omp_solvers, cords.selectionstrategies.helpers.optimalWeights
import sklearn.datasets
try:
    sklearn.datasets.load_boston()
except NotImplementedError as error:
    refusal = str(error)
print(json.dumps([quick, numpy.geterr() == before, importlib.util.find_spec("examples") is None, refusal]))
"""
    quick, unchanged, no_examples, refusal = image.python(code)
    assert quick, "something imports heavy packages at the interpreter's start"
    assert unchanged, "importing CORDS changed numpy's error state"
    assert no_examples, "CORDS's stray top-level package is installed"
    assert "load_boston" in refusal


def test_cords_shim_costs_nothing_at_start(image: Image) -> None:
    done = image.run("python", "-X", "importtime", "-c", "")
    microseconds = re.search(r"\|\s*(\d+) \|\s+cords_shim", done.stderr)
    assert microseconds, done.stderr
    assert int(microseconds[1]) < 20_000


def test_uninstalling_cords_takes_the_shim_along(image: Image) -> None:
    """What the install step added is in CORDS's RECORD."""
    done = image.output(
        *(
            "sh",
            "-c",
            f"{PIP} uninstall -y cords && cd /opt/venv/lib/python3*/site-packages && ls -d cords* ; true",
        )
    )
    assert "Successfully uninstalled cords" in done
    assert not [line for line in done.splitlines() if line.startswith("cords")]


def test_no_compilers(image: Image) -> None:
    programs = "gcc g++ cc c++ clang cpp ld as make"
    found = image.output("sh", "-c", f"for program in {programs}; do command -v $program; done; true")
    assert found == ""


def test_nothing_lies_below_opt_ml(image: Image) -> None:
    assert image.output("sh", "-c", "ls -A /opt/ml 2>/dev/null; true") == ""


def test_no_package_settings_are_baked_in(image: Image) -> None:
    """The build takes the machine's indexes, credentials and certificates, and leaves none of them behind."""
    assert image.output("sh", "-c", f"{PIP} config list").strip() == ""
    leftovers = image.output(
        "sh",
        "-c",
        "find /run/secrets /root/.cache /root/.config /root/.pip /root/.netrc /etc/pip.conf /etc/xdg/pip -type f "
        "2>/dev/null; true",
    )
    assert leftovers == ""
    history = subprocess.run(
        ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image.name],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    for setting in ("index-url", "find-links", "trusted-host", "_proxy=", "_PROXY=", "BEGIN CERTIFICATE"):
        assert setting not in history
    # Of secrets the build's commands name where BuildKit mounts them, and no more.
    said = re.sub(r"--mount=type=secret,\S+", "", history)
    assert not re.search(r"passw|secret|token|AKIA|credential|[a-z]+://[^/\s]*@", said, re.IGNORECASE), said
    assert not {name for name in image.environment if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}


def test_this_machine_s_own_certificates_are_not_in_the_image(image: Image) -> None:
    certificates = sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))
    if not certificates:
        pytest.skip("this machine has no certificates of its own")
    bundle = "".join(image.output("cat", "/etc/ssl/certs/ca-certificates.crt").split())
    for path in certificates:
        text = path.read_text()
        assert "BEGIN CERTIFICATE" in text
        assert "".join(text.split("-----")[2].split()) not in bundle, path.name


def test_size(image: Image) -> None:
    table = image.output("image-size")
    rows = dict(re.findall(r"^\| (.+?) \| ([\d,]+) \|$", table, flags=re.MULTILINE))
    sizes = {name: int(size.replace(",", "")) for name, size in rows.items()}
    assert sizes["torch, torchvision, triton, CUDA libraries"] > 3000, table
    assert 0 < sizes["**beside torch and CUDA**"] <= BEYOND_TORCH_MB, table


def test_a_change_of_our_code_makes_a_small_layer(image: Image) -> None:
    layers = subprocess.run(
        [
            "docker",
            "history",
            "--no-trunc",
            "--human=false",
            "--format",
            "{{.Size}} {{.CreatedBy}}",
            image.name,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    ours = [int(line.split()[0]) for line in layers if "/mnt/wheels/*.whl" in line]
    assert len(ours) == 1
    assert 0 < ours[0] < 5_000_000
