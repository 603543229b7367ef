"""Installs CORDS 0.0.4 so that it works, into the environment whose Python runs this file.

`pip install cords` cannot succeed: its declared requirements have no solution on Python 3.11 or newer. It is
installed without them; what it really imports is in the lock of the image. Then, in site-packages:

- the top-level package `examples`, which its wheel drops there by mistake, is removed;
- the declared requirements become those that hold, so that `pip check` passes;
- the shim (`cords_shim.py`) is added, which lets it be imported.

All of it is entered in CORDS's RECORD: `pip uninstall cords` removes everything. Running it twice changes nothing more.
"""

import base64
import csv
import hashlib
import importlib.metadata
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements" / "cords.txt"
SHIM = ("cords_shim.py", "cords_shim.pth")
# Declared and never imported by the library (ray, datasets and Sphinx), or supplied by the shim (torchtext).
NOT_NEEDED = {
    "datasets",
    "ray",
    "sphinx-rtd-theme",
    "sphinxcontrib-bibtex",
    "sphinxcontrib-napoleon",
    "torchtext",
}
# Needed, but at another version than the one declared.
ANY_VERSION = {"dotmap", "pyyaml"}


def main() -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(LOCK)],
        check=True,
    )
    importlib.invalidate_caches()
    distribution = importlib.metadata.distribution("cords")
    information = Path(str(distribution.locate_file(f"cords-{distribution.version}.dist-info")))
    site_packages = information.parent

    with (information / "RECORD").open(newline="") as file:
        record = {row[0]: row for row in csv.reader(file)}

    strays = [name for name in record if name.startswith("examples/")]
    for name in strays:
        path = site_packages / name
        path.unlink(missing_ok=True)
        del record[name]
    # Where nobody else has put a package of that name, nothing but empty folders and caches is left of it.
    examples = site_packages / "examples"
    if strays and not any(
        path.is_file() for path in examples.rglob("*") if path.parent.name != "__pycache__"
    ):
        shutil.rmtree(examples, ignore_errors=True)

    metadata = information / "METADATA"
    metadata.write_text(met_requirements(metadata.read_text()))
    (information / "top_level.txt").write_text("cords\n")
    for name in SHIM:
        shutil.copyfile(HERE / name, site_packages / name)
    compiled = py_compile.compile(str(site_packages / "cords_shim.py"), doraise=True)
    assert compiled is not None

    for path in (metadata, information / "top_level.txt", *(site_packages / name for name in SHIM)):
        name = path.relative_to(site_packages).as_posix()
        record[name] = [name, digest(path), str(path.stat().st_size)]
    name = Path(compiled).relative_to(site_packages).as_posix()
    record[name] = [name, "", ""]
    with (information / "RECORD").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(record.values()))
    print(f"CORDS {distribution.version} is installed in {site_packages}")


def met_requirements(metadata: str) -> str:
    """A METADATA file with the requirements that cannot be met, or need not be, taken out of its head."""
    head, separator, body = metadata.partition("\n\n")
    lines = []
    for line in head.split("\n"):
        match = re.match(r"Requires-Dist: ([A-Za-z0-9._-]+)", line)
        name = match[1].lower() if match else ""
        if name in NOT_NEEDED:
            continue
        lines.append(f"Requires-Dist: {name}" if name in ANY_VERSION else line)
    return "\n".join(lines) + separator + body


def digest(path: Path) -> str:
    """A file's hash as RECORD writes it: URL-safe base64 without padding."""
    return (
        "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    )


if __name__ == "__main__":
    main()
