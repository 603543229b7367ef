"""The image's bill of materials: whether it is complete, and under which licences the image's parts are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.image.conftest import Image
from tests.image.test_training import QUICK

BILL = "/usr/share/doc/subset-trainer/sbom.cdx.json"
STRONG = re.compile(
    r"(?<!L)(?<!Lesser )\bA?GPL|(?<!Lesser )General Public License|Affero|SSPL|Server Side Public|BUSL|Business Source|"
    r"Commons Clause|non-?commercial|\bNC\b|Elastic License|PolyForm",
    re.IGNORECASE,
)
"""Licences that would bind what is built on the image, or forbid a use of it."""
READ_BY_HAND = {
    # Their metadata say it in words that the tool does not take up; read in the licence files that they bring.
    "cleanlab": "Apache-2.0",
    "cords": "MIT",
    "inotify_simple": "BSD-2-Clause",
    "protobuf": "BSD-3-Clause",
    "torchvision": "BSD-3-Clause",
    "transformers": "Apache-2.0",
    # They bring none: read in the source's repository, and in what the other CUDA packages say.
    "apricot-select": "MIT",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "nvidia-cusparselt-cu13": "LicenseRef-NVIDIA-Proprietary",
    "nvidia-cusparselt-cu12": "LicenseRef-NVIDIA-Proprietary",
}


@pytest.fixture(scope="module")
def parts(image: Image) -> list[dict[str, Any]]:
    bill = json.loads(image.output("cat", BILL))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found: list[dict[str, Any]] = bill["components"]
    return found


def of(parts: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in parts if part.get("purl", "").startswith(f"pkg:{kind}/")}


def names(part: dict[str, Any]) -> list[str]:
    """The licences that a part declares: expressions, identifiers, names."""
    entries = part.get("licenses", [])
    return [
        entry.get("expression") or entry["license"].get("id") or entry["license"].get("name", "")
        for entry in entries
    ]


def test_the_bill_of_materials_has_every_package(image: Image, parts: list[dict[str, Any]]) -> None:
    code = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions()}))
"""
    assert {name: part["version"] for name, part in of(parts, "pypi").items()} == image.python(code)
    listed = image.output("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n").splitlines()
    found = {name: part["version"] for name, part in of(parts, "deb").items()}
    assert found == dict(line.split(" ") for line in listed)


def test_no_python_package_is_under_a_licence_that_binds_its_users(parts: list[dict[str, Any]]) -> None:
    packages = of(parts, "pypi")
    told = {name: names(part) or [READ_BY_HAND.get(name, "")] for name, part in packages.items()}
    assert [name for name, licences in told.items() if not any(licences)] == []
    # Of alternatives one suffices.
    bound = {
        name: bad
        for name, licences in told.items()
        if (bad := [one for one in licences if all(map(STRONG.search, re.split(r"\s+OR\s+", one)))])
    }
    assert bound == {}


@pytest.mark.parametrize(
    ("licence", "strong"),
    [
        *[
            (name, True)
            for name in ("GPL-3.0-only", "AGPL-3.0", "GNU General Public License v3", "CC-BY-NC-4.0")
        ],
        *[
            (name, False)
            for name in ("LGPL-2.1", "GNU Lesser General Public License v3 (LGPLv3)", "MIT", "ZPL-2.1")
        ],
        ("GNU Library or Lesser General Public License (LGPL)", False),
    ],
)
def test_which_licences_bind(licence: str, strong: bool) -> None:
    assert (STRONG.search(licence) is not None) == strong


def test_the_system_s_packages_are_the_distribution_s_own(image: Image, parts: list[dict[str, Any]]) -> None:
    """Programs of the system may be under the GPL, as bash and the C library's tools are: they stand beside ours. They
    are those of the base image, Python and what it depends on, unchanged, each with its copyright file, none for the
    AGPL or for non-commercial use."""
    packages = of(parts, "deb")
    lacking = image.output(
        "sh",
        "-c",
        "for one in $(dpkg-query --show --showformat='${Package}\\n'); do "
        "[ -e /usr/share/doc/$one/copyright ] || echo $one; done",
    )
    assert lacking == ""
    bad = re.compile(r"AGPL|Affero|non-?commercial|\bNC\b", re.IGNORECASE)
    assert {name: told for name, part in packages.items() if any(map(bad.search, told := names(part)))} == {}


def test_no_program_has_another_user_s_rights(image: Image) -> None:
    assert image.output("find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""


def test_what_makes_the_bill_is_not_in_the_image(image: Image) -> None:
    assert (
        image.output("sh", "-c", "command -v cyclonedx-py pip pip3; ls -d /opt/sbom 2>/dev/null; true") == ""
    )


def test_pip_is_there_for_scripts_alone(image: Image, tmp_path: Path) -> None:
    """A requirements.txt with options, and a script that calls pip itself; without a network."""
    done = image.run("python", "-m", "pip", "--version")
    assert done.returncode == 1 and "No module named pip" in done.stderr
    source = tmp_path / "input" / "data" / "code"
    package = source / "packages"
    package.mkdir(parents=True)
    wheel(package)
    (source / "requirements.txt").write_text(
        "# options, a marker and a comment\n--no-index\n--find-links packages\n"
        "own-package >= 1.0 ; python_version > '3'\n"
    )
    (source / "own.py").write_text(
        "import subprocess, sys, own_package\n"
        "print('installed', own_package.VALUE, flush=True)\n"
        "print(subprocess.run([sys.executable, '-m', 'pip', '--version'], check=True, capture_output=True).stdout)\n"
    )
    configuration = tmp_path / "input" / "config"
    configuration.mkdir()
    given = {"sagemaker_program": "own.py", "sagemaker_submit_directory": "/opt/ml/input/data/code", **QUICK}
    (configuration / "hyperparameters.json").write_text(
        json.dumps({k: json.dumps(v) for k, v in given.items()})
    )
    done = image.run("train", options=["-v", f"{tmp_path}:/opt/ml"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed 7" in done.stdout and "pip " in done.stdout


def wheel(folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "own_package-1.0-py3-none-any.whl", "w") as archive:
        about = "own_package-1.0.dist-info"
        archive.writestr("own_package.py", "VALUE = 7\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = ("own_package.py", f"{about}/METADATA", f"{about}/WHEEL", f"{about}/RECORD")
        archive.writestr(f"{about}/RECORD", "".join(f"{file},,\n" for file in files))


def test_the_history_names_no_secret(image: Image) -> None:
    config = json.loads(
        subprocess.run(
            ["docker", "image", "inspect", image.name], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    )[0]
    said = json.dumps([config["Config"], config.get("ContainerConfig")])
    assert not re.search(r"passw|secret|token|AKIA|credential", said, re.IGNORECASE)
