"""Folders of labelled photos as other tools keep them, read as one table; no picture is opened.

An ImageFolder tree (torchvision) has a folder for each class. Hugging Face's ``imagefolder`` has
``metadata.csv`` or ``metadata.jsonl``, with a column ``file_name`` and a column for each attribute.
In both, folders at the top may be splits: ``train``, ``val``, ``test``.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.data.index import SUFFIXES, scan
from lib.data.labels import refuse
from lib.errors import DataError
from lib.textfiles import kind, read_rows, read_text

LABELLED = ("train", "training", "val", "valid", "validation", "dev")  # all of them are trained on
UNSEEN = ("test", "testing", "eval", "evaluation")
METADATA = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"  # the column that Hugging Face prescribes, from the folder of its table
CLASS = "category"  # the attribute of an ImageFolder tree


def read(folder: Path) -> pd.DataFrame:
    """Return a row per photo: ``path`` (from ``folder``), ``split``, and texts of what is recorded.

    ``split`` is train or eval; of photos in a test folder nothing is read but their path. Photos
    that no row of the metadata names have gaps (NaN). DataError for a folder without photos, links,
    rows without a photo or with the same one, and photos in no folder of a class.
    """
    files = listed(folder)
    photos = _photos(files)
    tables = [PurePosixPath(file) for file in files.file[files.name_.isin(METADATA)]]
    told = _metadata(folder, tables, photos) if tables else _classes(folder, photos)
    learned = photos.split == "train"
    return photos[["path", "split"]].join(told.where(learned))


def listed(folder: Path) -> pd.DataFrame:
    """Return all files of a folder as ``index.scan`` does; DataError for links, or no photo."""
    files = scan(folder, ".", "give the folder of the photos")
    refuse(files.file[files.link], f"{folder}: links are not followed", "copy what they lead to")
    if not files.photo.any():
        raise DataError(f"{folder}: there are no photos in it or below it ({', '.join(SUFFIXES)})")
    return files


def _photos(files: pd.DataFrame) -> pd.DataFrame:
    """Return path, split, and ``inside``: the parts of the path below the folder of a split."""
    paths = files.file[files.photo].map(PurePosixPath)
    parts = paths.map(lambda path: path.parts)
    tops = parts.str[0].str.lower().where(parts.str.len() > 1, "")
    divided = tops.isin(LABELLED).any() and tops.isin([*LABELLED, *UNSEEN]).all()
    split = tops.isin(UNSEEN).map({True: "eval", False: "train"}) if divided else "train"
    inside = parts.str[1:] if divided else parts
    return pd.DataFrame({"path": paths.map(str), "split": split, "inside": inside})


def _classes(folder: Path, photos: pd.DataFrame) -> pd.DataFrame:
    """Return the class of each photo: the first folder of its path, below that of a split."""
    loose = (photos.inside.str.len() < 2) & (photos.split == "train")
    fix = f"put each into the folder of its class, or describe them in {' or '.join(METADATA)}"
    refuse(photos.path[loose], f"{folder}: photos in no folder of a class", fix)
    return pd.DataFrame({CLASS: photos.inside.str[0].str.strip()})


def _metadata(folder: Path, tables: list[PurePosixPath], photos: pd.DataFrame) -> pd.DataFrame:
    """Return what all tables of metadata say of each photo, in the rows of ``photos``."""
    rows = pd.concat([_table(folder, path) for path in tables], ignore_index=True).fillna("")
    names = rows.pop(FILE_NAME)
    refuse(names[names.duplicated()], f"{folder}: {FILE_NAME} repeated", "each photo has one row")
    lost = names[~names.isin(photos.path)]
    refuse(lost, f"{folder}: {FILE_NAME} without a photo", "correct it, or add the photo")
    if clash := sorted({"path", "split"} & set(rows)):
        raise DataError(f"{folder}: metadata has a column {clash[0]!r}: give it another name")
    return rows.set_index(names).reindex(photos.path).set_index(photos.index)


def _table(folder: Path, path: PurePosixPath) -> pd.DataFrame:
    """Return the rows of one table as texts, with ``file_name`` from ``folder``."""
    source = folder / path
    rows = _json_rows(source) if path.suffix == ".jsonl" else read_rows(source, [FILE_NAME])
    table = pd.DataFrame(rows, dtype=str).apply(lambda column: column.str.strip())
    if FILE_NAME not in table:
        raise DataError(f"{source} has no {FILE_NAME!r}; it has {', '.join(table) or 'no rows'}")
    named = table[FILE_NAME].fillna("").str.replace("\\", "/")
    return table.assign(**{FILE_NAME: named.map(lambda name: str(path.parent / name))})


def _json_rows(path: Path) -> list[dict[str, str]]:
    return [
        {name: _text(value) for name, value in row.items()} for row in _parsed(path) if row != {}
    ]


def _parsed(path: Path) -> Iterator[dict]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is no JSON ({error.msg}): correct it") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is {kind(row)}: write {{{FILE_NAME!r}: ...}}")
        yield row


def _text(value: object) -> str:
    """Return a value as a CSV would have it; ``null`` is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
