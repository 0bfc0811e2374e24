"""The photos of one data set: which should exist, which do, and what is in them.

``build_images`` is the entry: it leaves ``images.parquet``, a row per photo with the index ``key``,
and ``issues.parquet``. Nothing after it knows the layout; a new layout is a module and an entry of
LAYOUTS.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.artefacts import resolve, write_table
from lib.data import competition, table
from lib.data.audit import audit
from lib.data.issues import find_issues
from lib.errors import ArtefactError, DataError, pick
from lib.task.attributes import LABEL, Task

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FACTS = ["split", "person", "id", "file"]
FILES = ["bytes", "modified", "status"]


class Layout(NamedTuple):
    """How a data set lies on disk: what it needs, its folders, its photos, what is odd in it."""

    needs: str
    folders: Callable[[Mapping], dict[str, str]]
    photos: Callable[[Path, Task, Mapping, pd.DataFrame], pd.DataFrame]
    issues: Callable[[pd.DataFrame, pd.DataFrame, Task], list[tuple[str, str, str]]]


LAYOUTS = {
    "competition": Layout(
        competition.NEEDS, competition.folders, competition.photos, competition.issues
    ),
    "table": Layout(table.NEEDS, table.folders, table.photos, table.issues),
}


def scan(data_dir: Path, root: str, needs: str) -> pd.DataFrame:
    """List the files below a folder in the order of their names.

    Columns: file (from ``data_dir``), root, folder (from root), name_, stem, photo (by its suffix),
    hidden (macOS leaves ``._*`` twins that only look like photos), bytes, modified (ns).
    """
    if not (data_dir / root).is_dir():
        raise DataError(f"{data_dir / root} not found: {needs}")
    rows = [_file(entry, data_dir / root, root) for entry in _walk(data_dir / root)]
    columns = ["file", "root", "folder", "name_", "stem", "photo", "hidden", "bytes", "modified"]
    kinds = dict.fromkeys(["file", "folder", "stem"], str) | {"photo": bool, "hidden": bool}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def _walk(folder: str | Path) -> Iterator[os.DirEntry]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry.path)
        elif entry.is_file():
            yield entry


def _file(entry: os.DirEntry, base: Path, root: str) -> tuple:
    path = entry.path[len(str(base)) + 1 :].replace(os.sep, "/")
    stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
    hidden, folder = stem.startswith("."), path[: -len(entry.name) - 1]
    photo, stat = suffix.lower() in SUFFIXES and not hidden, entry.stat()
    place = (f"{root}/{path}", root, folder, entry.name, stem.lower() if photo else stem)
    return (*place, photo, hidden, stat.st_size, stat.st_mtime_ns)


def index(
    data_dir: str | Path, task: Task, layout: str, settings: Mapping
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row per photo that should exist, by ``key``, and all files; no picture is opened.

    Columns: split, person, id, file, the recorded number of each attribute and the official label
    (<NA> for eval), further texts of the layout, bytes, modified (ns), and status: "missing" where
    there is no such file.
    """
    data_dir, chosen = resolve(data_dir), pick(LAYOUTS, layout, "layout")
    folders = dict.fromkeys(chosen.folders(settings).values())
    files = pd.concat([scan(data_dir, root, chosen.needs) for root in folders], ignore_index=True)
    photos = chosen.photos(data_dir, task, settings, files)
    photos = photos.merge(files[["file", "bytes", "modified"]], on="file", how="left")
    photos["status"] = np.where(photos.file == "", "missing", "ok")
    train = photos.split == "train"
    for name in task.names:
        photos[name] = photos[name].astype("Int64")
    photos[LABEL] = task.encode(task.groups(photos)).where(train)
    photos = photos.astype(dict.fromkeys([LABEL, "bytes", "modified"], "Int64")).set_index("key")
    first = [*FACTS, *task.names, LABEL]
    more = [name for name in photos if name not in [*first, *FILES]]
    return photos.fillna(dict.fromkeys(more, ""))[[*first, *more, *FILES]], files


def people(images: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per training person: id, what is recorded of people, photos (files that exist).

    Where nothing is recorded per person, it is what is recorded of the person's first photo.
    """
    train = images[images.split == "train"]
    names = ["id", *(task.per("person") or task.names), *texts(images, task)]
    table = train.groupby("person", sort=False)[names].first()
    return table.assign(photos=(train.status != "missing").groupby(train.person).sum())


def texts(images: pd.DataFrame, task: Task) -> list[str]:
    """Return the further columns of text that a layout has brought along."""
    known = {*FACTS, *FILES, *task.names, LABEL, "sha256"}
    return [name for name in images.select_dtypes(["str", "object"]) if name not in known]


def build_images(
    data_dir: str | Path,
    work_dir: str | Path,
    task: Task,
    layout: str,
    layout_settings: Mapping,
    workers: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index and audit a data set; write ``images.parquet`` and ``issues.parquet``, return both.

    Only new and changed files are read when it is called again.
    """
    work_dir = resolve(work_dir)
    listed, files = index(data_dir, task, layout, layout_settings)
    images = audit(listed, data_dir, work_dir / "audit.parquet", workers)
    issues = find_issues(images, files, people(images, task), task, LAYOUTS[layout].issues)
    write_table(images, work_dir / "images.parquet")
    write_table(issues, work_dir / "issues.parquet")
    return images, issues


def load_images(work_dir: str | Path) -> pd.DataFrame:
    """Return ``images.parquet`` of a work folder, which notebook 01 makes."""
    path = resolve(work_dir) / "images.parquet"
    if not path.exists():
        raise ArtefactError(
            f"{path} not found: run the stage 'eda' (notebooks/01_eda.ipynb) with this work_dir "
            "first"
        )
    return pd.read_parquet(path)
