"""Which steps are finished: the executed copy knows a hash of everything that the step has read.

Only stages that make something for later ones can be finished. The others look for new photos or
measure, so they run each time.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib import PROJECT
from lib.runner.stages import Step, needs
from lib.task.attributes import TASKS

KEY = "facefold"  # where a notebook's metadata keeps the key
TABLES = {  # parameters that name folders, and the files that are read there
    "work_dir": "*.parquet",
    "extra_data": "*.parquet",
    "pseudo_data": "*.parquet",
    "other_photos": "*.parquet",
    "outside": "*.csv",
}


def is_finished(step: Step) -> bool:
    """Tell whether the step has made its files from what it would read now."""
    made = [PROJECT / Path(path).expanduser() for path in step.makes]
    copy = PROJECT / Path(f"{step.copy}.ipynb").expanduser()
    if not made or not all(path.is_file() for path in [*made, copy]):
        return False
    return json.loads(copy.read_text(encoding="utf-8"))["metadata"].get(KEY) == key(step)


def key(step: Step) -> str:
    """Return a hash of the step's notebook, parameters, code, and the files that they name."""
    digest = hashlib.sha256(json.dumps(step.settings, sort_keys=True, default=str).encode())
    for path in files(step):
        content = path.read_bytes() if path.is_file() else b"missing"
        digest.update(f"{path} {hashlib.sha256(content).hexdigest()}".encode())
    return digest.hexdigest()


def files(step: Step) -> Iterator[Path]:
    """Yield the files that a step reads, if they are there: code, tables, what others made."""
    yield step.notebook
    yield from sorted((PROJECT / "lib").rglob("*.py"))
    yield TASKS / f"{step.settings.get('task')}.yaml"
    yield from (PROJECT / Path(path).expanduser() for _, _, path in needs(step))
    for name, value in step.settings.items():
        for path in _paths(value):
            if name in TABLES:
                yield from sorted(path.glob(TABLES[name]))
            elif path.is_file():
                yield path


def _paths(value: Any) -> list[Path]:
    texts = [text for text in (value if isinstance(value, list) else [value]) if text]
    return [PROJECT / Path(text).expanduser() for text in texts if isinstance(text, str)]
