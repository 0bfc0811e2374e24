"""The photos of one data set: which should exist, which do, and what is in them.

``build_images`` writes ``images.parquet``, a row per photo with the index ``key``. Nothing after it
knows the layout; a new layout is a module and an entry of LAYOUTS.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.artefacts import read_table, resolve, write_table
from lib.data import competition, table
from lib.data.audit import audit
from lib.data.issues import find_issues
from lib.errors import DataError, pick
from lib.task.attributes import LABEL, Task

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FACTS = ["split", "person", "id", "file"]
FILES = ["bytes", "modified", "status"]


# A layout is a module: what it needs (NEEDS), its folders, its photos, and the issues it finds.
LAYOUTS: dict[str, Any] = {"competition": competition, "table": table}


def scan(data_dir: Path, root: str, needs: str) -> pd.DataFrame:
    """List the files below a folder in the order of their names.

    Columns: file (from ``data_dir``), root, folder (from root), name_, stem, photo (by its suffix),
    hidden (macOS leaves ``._*`` twins that only look like photos), link (to a folder, or out of
    this one: never followed), bytes, modified (ns).
    """
    if not (data_dir / root).is_dir():
        raise DataError(f"{data_dir / root} not found: {needs}")
    rows = [_file(entry, data_dir / root, root) for entry in _walk(data_dir / root)]
    texts, flags = ["file", "root", "folder", "name_", "stem"], ["photo", "hidden", "link"]
    table = pd.DataFrame(rows, columns=[*texts, *flags, "bytes", "modified"])
    return table.astype(dict.fromkeys(texts, str) | dict.fromkeys(flags, bool))


def _walk(folder: str | Path) -> Iterator[os.DirEntry]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif entry.is_symlink() or entry.is_file():
            yield entry


def _file(entry: os.DirEntry, base: Path, root: str) -> tuple:
    path = entry.path[len(str(base)) + 1 :].replace(os.sep, "/")
    stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
    hidden, link = stem.startswith("."), entry.is_symlink() and _leaves(entry.path, base)
    photo = suffix.lower() in SUFFIXES and not hidden and not link
    folder, stat = path[: -len(entry.name) - 1], entry.stat(follow_symlinks=not link)
    place = (f"{root}/{path}", root, folder, entry.name, stem.lower() if photo else stem)
    return (*place, photo, hidden, link, stat.st_size, stat.st_mtime_ns)


def _leaves(link: str, base: Path) -> bool:
    """Tell whether a link leads anywhere but to a file below ``base``."""
    target = Path(os.path.realpath(link))
    return not (target.is_file() and target.is_relative_to(os.path.realpath(base)))


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
    files = pd.concat([scan(data_dir, root, chosen.NEEDS) for root in folders], ignore_index=True)
    photos = chosen.photos(data_dir, task, settings, files[~files.link])
    photos = photos.merge(files[["file", "bytes", "modified"]], on="file", how="left")
    photos["status"] = np.where(photos.file == "", "missing", "ok")
    train = photos.split == "train"
    if not train.any():
        raise DataError(f"{data_dir}: its table of training photos has no rows; give it some")
    for name in task.names:
        photos[name] = photos[name].astype("Int64")
    photos[LABEL] = task.encode(task.groups(photos)).where(train)
    photos = photos.astype(dict.fromkeys([LABEL, "bytes", "modified"], "Int64")).set_index("key")
    first = [*FACTS, *task.names, LABEL]
    more = [name for name in photos if name not in [*first, *FILES]]
    return photos.fillna(dict.fromkeys(more, ""))[[*first, *more, *FILES]], files


def people(images: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per training person: id, what is recorded of people, else of the first photo.

    ``photos`` counts the files that exist.
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
    """Index and audit a data set; write ``images.parquet`` and ``issues.parquet``, return both."""
    work_dir = resolve(work_dir)
    listed, files = index(data_dir, task, layout, layout_settings)
    images = audit(listed, data_dir, work_dir / "audit.parquet", workers)
    issues = find_issues(images, files, people(images, task), task, LAYOUTS[layout].issues)
    write_table(images, work_dir / "images.parquet")
    write_table(issues, work_dir / "issues.parquet")
    return images, issues


def load_images(work_dir: str | Path) -> pd.DataFrame:
    """Return ``images.parquet`` of a work folder, which notebook 01 makes."""
    return read_table(work_dir, "images.parquet", "eda", "01_eda")
