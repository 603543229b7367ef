"""In what two images differ, layer by layer, as root where the engine runs: `python3 docker/same.py IMAGE IMAGE`.

The engine's storage driver is overlay2. Of each layer with another digest: files that only one has, files of other
content by suffix, and how many differ in nothing but their time.
"""

import hashlib
import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

Tree = dict[str, tuple[str, int]]


def main() -> None:
    """Print a line for each layer."""
    first, second = (
        json.loads(subprocess.check_output(["docker", "image", "inspect", name]))[0] for name in sys.argv[1:3]
    )
    digests = zip(first["RootFS"]["Layers"], second["RootFS"]["Layers"], strict=True)
    for number, (same, places) in enumerate(
        zip(digests, zip(layers(first), layers(second), strict=True), strict=True)
    ):
        if same[0] == same[1]:
            print(f"layer {number}: the same digest")
            continue
        ours, theirs = map(tree, places)
        both = ours.keys() & theirs.keys()
        other = [path for path in both if ours[path][0] != theirs[path][0]]
        suffixes = Counter(Path(path).suffix or "no suffix" for path in other).most_common()
        only = sorted(ours.keys() ^ theirs.keys())
        times = sum(ours[path][1] != theirs[path][1] for path in both) - len(other)
        odd = sorted(path for path in other if not path.endswith(".pyc"))
        print(
            f"layer {number}: {len(only)} files in one alone {only[:5]}, {len(other)} of other content {suffixes}"
        )
        print(f"    {odd[:10]}; about {max(0, times)} of another time alone")


def layers(image: dict[str, Any]) -> list[Path]:
    """The folders of an image's layers, the lowest first."""
    data = image["GraphDriver"]["Data"]
    lower = data["LowerDir"].split(":")[::-1] if data.get("LowerDir") else []
    return [Path(place) for place in (*lower, data["UpperDir"])]


def tree(folder: Path) -> Tree:
    """Path → digest of the content and the mode; the time of its change in seconds."""
    found: Tree = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(state.st_mode):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            content = ""
        found[str(path.relative_to(folder))] = f"{content} {state.st_mode:o}", int(state.st_mtime)
    return found


if __name__ == "__main__":
    main()
