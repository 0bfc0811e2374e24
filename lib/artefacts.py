"""Files that stages leave for one another: found by fingerprint, written whole or not at all.

Relative paths mean "from the project's folder", so a notebook opened in JupyterLab and the same
notebook run from the command line read and write the same files.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from lib import PROJECT


def resolve(path: str | Path) -> Path:
    """Return ``path`` if it is absolute, else the path from the project's folder."""
    return PROJECT / Path(path).expanduser()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name; rename it to ``path`` when the block ends well, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as parquet or CSV (by the path's suffix), atomically."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary) if path.suffix == ".parquet" else frame.to_csv(
            temporary, index=False
        )


def write_json(value, path: Path) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")


def fingerprint(*values) -> str:
    """Return 12 hex digits that change when any of the JSON-like ``values`` changes."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_commit() -> str:
    """Return the short commit, with ``+`` when code or parameters differ; "" outside a checkout."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = commit and _git("status", "--porcelain", "--", "lib", "notebooks", "params")
    return f"{commit}+" if changed else commit


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
