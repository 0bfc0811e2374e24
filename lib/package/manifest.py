"""The seal of a package: the SHA-256 of each of its files, checked before anything is predicted."""

import json
from pathlib import Path

from lib import artefacts
from lib.artefacts import file_hash
from lib.errors import ArtefactError, some

FILE = "manifest.json"
OPEN = ("kernel", "dataset-metadata.json")  # not sealed: the user writes names into them


def write(folder: Path) -> None:
    """Write the manifest of everything in ``folder`` that is sealed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder) for path in files]
    hashes = {n.as_posix(): file_hash(folder / n) for n in names if n.parts[0] not in OPEN}
    artefacts.write_json({"sha256": hashes}, folder / FILE)


def check(folder: Path) -> None:
    """Raise an ArtefactError unless every file of the manifest is there, unchanged."""
    path = folder / FILE
    if not path.is_file():
        raise ArtefactError(f"{folder} is no package: it has no {FILE}; give a package's folder")
    hashes = json.loads(path.read_text("utf-8"))["sha256"]
    wrong = [name for name, known in hashes.items() if _hash(folder / name) != known]
    if wrong:
        raise ArtefactError(
            f"{folder} is not as it was sealed: {some(wrong, 'files')} changed or missing; copy "
            "the package again, or make it again by python -m lib.package"
        )


def _hash(path: Path) -> str:
    return file_hash(path) if path.is_file() else ""
