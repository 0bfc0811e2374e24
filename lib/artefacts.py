"""Files that stages leave for one another: found by fingerprint, written whole or not at all."""

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

from lib import PROJECT
from lib.errors import ArtefactError

# What pandas raises for parquet files that were cut short or in which single bits were changed.
DAMAGE = (OSError, ValueError, KeyError, TypeError, NotImplementedError)
SPACE = "free some space (python -m lib.run --clean work lists crops that no run needs)"


def resolve(path: str | Path) -> Path:
    """Return ``path`` if it is absolute, else the path from the project's folder."""
    return PROJECT / Path(path).expanduser()


def temporary_name(path: Path) -> Path:
    """Return the name under which this process makes ``path``: it tells host and process."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")


def leftovers(folder: Path, name: str = "*", suffix: str = "tmp") -> list[Path]:
    """Return what processes of this host that have died were making in a folder."""
    return [
        path
        for path in sorted(folder.glob(f".{name}.{platform.node()}.*.{suffix}"))
        if not psutil.pid_exists(int(path.name.split(".")[-2]))
    ]


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what processes of this host that have died were making in a folder."""
    for path in leftovers(folder, name):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link but not what it links to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name; rename it to ``path`` when the block ends well, else remove it.

    The block makes a file or a folder of that name. A full disk is an ArtefactError, and leaves
    what was at ``path`` whole.
    """
    with full_disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        temporary = temporary_name(path)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            remove(temporary)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn a disk that fills up in this block into an ArtefactError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise ArtefactError(f"the disk is full, {path} was not written: {SPACE}") from None


def check_space(folder: Path, needed: float) -> None:
    """Raise an ArtefactError unless the disk of ``folder`` has ``needed`` bytes free."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        sizes = f"{needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free"
        raise ArtefactError(f"{folder}: {sizes}: {SPACE}")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as parquet or CSV (by the path's suffix), atomically."""
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary)
        else:
            frame.to_csv(temporary, index=False)


def read_table(work_dir: str | Path, name: str, stage: str, notebook: str) -> pd.DataFrame:
    """Return a parquet file of a work folder; ArtefactError says which stage makes it."""
    path = resolve(work_dir) / name
    made = f"run the stage {stage!r} (notebooks/{notebook}.ipynb) with this work_dir"
    if not path.exists():
        raise ArtefactError(f"{path} not found: {made} first")
    return read_parquet(path, f"delete it, then {made}")


def read_parquet(path: Path, fix: str) -> pd.DataFrame:
    """Return a parquet file; ArtefactError with the ``fix`` when it is gone or damaged."""
    try:
        return pd.read_parquet(path)
    except DAMAGE as error:
        raise ArtefactError(f"{path} cannot be read ({error}): {fix}") from None


def read_cache(path: Path) -> pd.DataFrame | None:
    """Return a parquet file that can be made again; None where it is missing or, told, damaged."""
    try:
        return read_parquet(path, "made again") if path.exists() else None
    except ArtefactError as damage:
        print(damage)
        return None


def write_text(text: str, path: Path) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(value, path: Path) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(json.dumps(value, indent=2, default=str) + "\n", path)


def fingerprint(*values) -> str:
    """Return 12 hex digits that change when any of the JSON-like ``values`` changes."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_commit() -> str:
    """Return the short commit, with ``+`` when code or parameters differ; "" outside a checkout.

    New files that git does not track, such as a user's own parameters, are no difference.
    """
    commit = _git("rev-parse", "--short=10", "HEAD")
    tracked = ("--porcelain", "--untracked-files=no", "--", "lib", "notebooks", "params")
    changed = commit and _git("status", *tracked)
    return f"{commit}+" if changed else commit


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
