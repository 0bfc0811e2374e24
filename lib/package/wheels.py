"""The packages that inference needs: listed with their versions, fetched, and installed offline.

Installing imports the standard library alone: it comes before anything else is installed.
"""

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from lib.errors import ArtefactError

LIST = "requirements.txt"  # in a package
FOLDER = "wheels"
GIVEN = ("torch", "torchvision")  # gigabytes, and in every image of a code competition
NEEDED = (
    *GIVEN, "accelerate", "albumentations", "facenet-pytorch", "filelock", "huggingface_hub",
    "numpy", "opencv-python-headless", "pandas", "pillow", "psutil", "pyarrow", "PyYAML",
    "safetensors", "scikit-learn", "scipy", "threadpoolctl", "timm", "tqdm", "ttach",
)  # fmt: skip


def write(folder: Path, download: bool, more: Iterable[str] = ()) -> None:
    """Write the list of packages to ``folder``; ``download`` fetches the wheels of all but GIVEN.

    ``more`` is what is needed besides NEEDED. ArtefactError if they cannot be fetched.
    """
    pins = {name: f"{name}=={version(name)}" for name in needed([*NEEDED, *more])}
    (folder / LIST).write_text("\n".join(pins.values()) + "\n", "utf-8")
    if download:
        fetched = [pin for name, pin in pins.items() if name not in GIVEN]
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", folder / FOLDER, *fetched)


def needed(names: Iterable[str]) -> list[str]:
    """Return packages and all that they need; what GIVEN need is there with them."""
    from packaging.requirements import Requirement  # where packages are made, accelerate brings it
    from packaging.utils import canonicalize_name

    found, todo = set[str](), [*names]
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in found and name not in GIVEN:
            asked = map(Requirement, requires(name) or [])
            here = {"extra": ""}
            todo += [one.name for one in asked if not one.marker or one.marker.evaluate(here)]
        found.add(name)
    return sorted(found)


def install_missing(folder: Path) -> list[str]:
    """Install what the list names and this machine lacks, from the folder's wheels; return it.

    A package that is there in another version is left as it is.
    """
    pins = (folder / LIST).read_text("utf-8").split()
    missing = [pin for pin in pins if not _there(pin.split("==")[0])]
    if missing:
        _pip("install", "--no-index", "--no-deps", "--find-links", folder / FOLDER, *missing)
    return missing


def _there(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
        raise ArtefactError(f"{' '.join(command[2:5])} ... failed: {reason}; make the package with "
                            "--wheels on a machine with network")  # fmt: skip
