#!/opt/venv/bin/python
"""What takes what in the image, as a Markdown table: `docker run --rm subset-trainer image-size`.

Sizes are in MB (a million bytes), of the files as they lie unpacked. The limit is 1,200 MB beside torch, torchvision,
triton and the CUDA libraries.
"""

import importlib.metadata
import os
import re
from pathlib import Path

# The distributions that bring torch and CUDA, in both locks.
TORCH = re.compile(r"^(torch|torchvision|triton|nvidia-.*|cuda-.*)$")
SHOWN = 12


def main() -> None:
    packages = distribution_bytes()
    torch = sum(size for name, size in packages.items() if TORCH.match(name))
    rest = sorted(((size, name) for name, size in packages.items() if not TORCH.match(name)), reverse=True)
    total = tree_bytes(Path("/"))
    rows = [("torch, torchvision, triton, CUDA libraries", torch)]
    rows += [(name, size) for size, name in rest[:SHOWN]]
    rows.append((f"{len(rest) - SHOWN} smaller packages", sum(size for size, _ in rest[SHOWN:])))
    rows.append(("operating system and Python", total - sum(packages.values())))
    rows.append(("**all**", total))
    rows.append(("**beside torch and CUDA**", total - torch))
    print("| what | MB |\n| --- | ---: |")
    for name, size in rows:
        print(f"| {name} | {size / 1e6:,.0f} |")


def distribution_bytes() -> dict[str, int]:
    """Bytes of each installed distribution's files; a file that two of them list counts for the first."""
    counted: set[str] = set()
    sizes: dict[str, int] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-")
        for file in distribution.files or []:
            path = os.path.normpath(str(distribution.locate_file(file)))
            if path not in counted and os.path.lexists(path):
                counted.add(path)
                sizes[name] = sizes.get(name, 0) + os.lstat(path).st_size
    return sizes


def tree_bytes(root: Path) -> int:
    """Bytes of all files of the root file system: mounts (/proc, /sys, what a run adds) are left out."""
    device = root.stat().st_dev
    total = 0
    folders = [root]
    while folders:
        for entry in os.scandir(folders.pop()):
            status = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                if status.st_dev == device:
                    folders.append(Path(entry.path))
            else:
                total += status.st_size
    return total


if __name__ == "__main__":
    main()
