"""How a synthetic data set comes to disk: photos, several processes, and a folder that is whole."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path

import cv2
import numpy as np

from lib import artefacts
from lib.errors import ArtefactError, DataError
from lib.progress import progress


def write_photo(path: Path, photo: np.ndarray) -> None:
    """Write RGB (h, w, 3) as JPEG or PNG; DataError when the disk does not take it."""
    png, jpeg = [cv2.IMWRITE_PNG_COMPRESSION, 1], [cv2.IMWRITE_JPEG_QUALITY, 90]
    if not cv2.imwrite(str(path), photo[..., ::-1], png if path.suffix == ".png" else jpeg):
        raise DataError(f"cannot write {path}: check free disk space and the folder's permissions")


def for_each(function: Callable, people: Sequence, workers: int, title: str) -> None:
    """Call ``function`` on every person, in ``workers`` processes (0: one per core)."""
    workers = workers or os.cpu_count() or 1
    bar = partial(progress, desc=title, total=len(people), unit="person")
    if workers == 1:
        list(bar(map(function, people)))
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the notebook's threads
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
        list(bar(pool.map(function, people)))


@contextmanager
def whole_folder(folder: Path, parameters: dict) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends well, note the parameters and rename it."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        artefacts.write_json(parameters, temporary / "private" / "params.json")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_finished(folder: Path, parameters: dict, make: Callable) -> bool:
    """Tell whether ``folder`` holds this data set; ArtefactError when it holds anything else.

    ``make`` makes such sets: a parameter that it did not have yet counts as its default.
    """
    if not folder.exists():
        return False
    record = folder / "private" / "params.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    if not found or _defaults(make, parameters) | found != parameters:
        held = found or "no synthetic data set"
        raise ArtefactError(
            f"{folder} holds {held}, not {parameters}: remove it or choose another data_dir"
        )
    return True


def _defaults(make: Callable, names: Collection[str]) -> dict:
    given = signature(make).parameters
    return {name: given[name].default for name in names if name in given}
