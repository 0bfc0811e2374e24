"""Files that go from machine to machine by Ray: there by their hash, back as an archive.

A file is put into the store once, in pieces. A node keeps what it has fetched, named by its hash,
and so fetches nothing twice.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lib import PROJECT, artefacts
from lib.errors import ArtefactError
from lib.workers import one_process

CODE = ("lib", "notebooks", "params")  # what travels as code
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "facefold"  # of a node
PIECE = 64 * 2**20  # bytes of a file that are in memory at a time


class Parcel(NamedTuple):
    """A file that was sent: its path in the project, its SHA-256, its pieces in the store."""

    path: str
    digest: str
    pieces: Sequence[Any]


def send(ray: Any, path: Path) -> Parcel:
    """Put a file of the project into the object store."""
    with path.open("rb") as file:
        pieces = [ray.put(piece) for piece in iter(lambda: file.read(PIECE), b"")]
    return Parcel(str(path.relative_to(PROJECT)), artefacts.file_hash(path), pieces)


def fetch(ray: Any, parcel: Parcel) -> Path:
    """Return the file of a parcel on this node; ArtefactError if it is not what was sent."""
    kept = CACHE / "files" / parcel.digest
    with one_process(kept):
        if not kept.exists():
            with artefacts.atomic(kept) as new:
                with new.open("wb") as file:
                    file.writelines(ray.get(piece) for piece in parcel.pieces)
                _check(parcel.path, artefacts.file_hash(new), parcel.digest)
                new.chmod(0o444)
    return kept


def _check(what: object, found: str, sent: str) -> None:
    if found != sent:
        raise ArtefactError(f"{what} was damaged on its way: the same command sends it again")


def pack(folder: Path) -> tuple[bytes, str]:
    """Return a folder's files, hidden ones apart, as an archive, and its SHA-256."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folder.glob("[!.]*")):
            tar.add(path, path.name)
    return buffer.getvalue(), hashlib.sha256(buffer.getbuffer()).hexdigest()


def unpack(archive: bytes, digest: str, folder: Path) -> None:
    """Put an archive in the place of a folder, whole; ArtefactError if it is not what was sent."""
    _check(folder, hashlib.sha256(archive).hexdigest(), digest)
    with artefacts.atomic(folder) as aside:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(aside, filter="data")
        artefacts.remove(folder)


def copy_code(source: Path, target: Path) -> None:
    """Copy the code of a project into a folder, unless it is there."""
    for name in CODE:
        if not (target / name).exists():
            with artefacts.atomic(target / name) as copy:
                shutil.copytree(source / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
