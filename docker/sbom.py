"""The bill of materials of an image: Python's packages, as CycloneDX's own tool lists them, and the system's.

    sbom.py ROOT FILE

ROOT is the image's file system, with its Python environment in ROOT/opt/venv. FILE is CycloneDX 1.6 in JSON, checked
against its schema. Nothing in it depends on the time: the same packages make the same file.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSION = "1.6"
LICENCE = re.compile(r"^License:[ \t]*(\S.*?)\s*$", re.MULTILINE)


def main() -> None:
    """Write FILE."""
    root, file = map(Path, sys.argv[1:])
    tool = Path(sys.executable).with_name("cyclonedx-py")
    command = [tool, "environment", "--sv", VERSION, "--output-reproducible", "--of", "JSON"]
    done = subprocess.run(
        [*command, root / "opt/venv/bin/python"], stdout=subprocess.PIPE, text=True, check=True
    )
    bill = json.loads(done.stdout)
    for part in bill["components"]:  # a wheel from a folder, as this project's own, has none
        part.setdefault("purl", f"pkg:pypi/{part['name']}@{part['version']}")
    bill["components"] = [*bill["components"], *system_packages(root)]
    text = json.dumps(bill, indent=1)
    check(text)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(bill['components'])} packages")


def system_packages(root: Path) -> list[dict[str, Any]]:
    """What dpkg has installed, with the licences that the packages' copyright files name."""
    release = dict(
        line.split("=", 1)
        for line in (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
        if "=" in line
    )
    distribution = release["ID"].strip('"')
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "--show", f"--showformat={form}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = []
    for status, name, version, architecture in (line.split("\t") for line in listed.splitlines()):
        if not status.startswith("ii"):
            continue
        place = f"pkg:deb/{distribution}/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}"
        one: dict[str, Any] = {
            "type": "library",
            "bom-ref": place,
            "name": name,
            "version": version,
            "purl": place,
        }
        names = licences(root / "usr/share/doc" / name / "copyright")
        found.append(
            {**one, **({"licenses": [{"license": {"name": each}} for each in names]} if names else {})}
        )
    return found


def licences(copyright_file: Path) -> list[str]:
    """The short names in a copyright file of Debian's machine-readable form; others are texts, and name none."""
    try:
        text = copyright_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return sorted(set(LICENCE.findall(text)))


def check(text: str) -> None:
    """Exit if a text is no CycloneDX."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the bill of materials is not valid: {error}")


if __name__ == "__main__":
    main()
