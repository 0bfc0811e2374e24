"""Corrections of labels that people doubt; they act on training folds alone.

A correction is a row id, field, from, to. It holds for all training photos of its id whose recorded
value is ``from``: two rows swap two classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.artefacts import resolve
from lib.data.labels import refuse
from lib.errors import DataError, ParameterError
from lib.task.attributes import LABEL, Task
from lib.textfiles import read_rows

COLUMNS = ["id", "field", "from", "to"]


class Correction(NamedTuple):
    """One row of a relabel file, its values as recorded numbers."""

    id: str
    field: str
    old: int
    new: int
    text: str


def read(files: Sequence[str | Path], task: Task) -> list[Correction]:
    """Return the corrections of some files; DataError for an unknown value or two answers."""
    tables = [_read(resolve(file)) for file in files]
    empty = pd.DataFrame(columns=[*COLUMNS, "file"], dtype=str)
    rows = pd.concat([empty, *tables], ignore_index=True).drop_duplicates(COLUMNS)
    twice = rows.id[rows.duplicated(["id", "field", "from"])]
    refuse(twice, "relabel: two answers for one value of id", "keep one")
    return [_correction(row, task) for row in rows.to_dict("records")]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} not found: relabel names it; give its path, or an empty list")
    table = pd.DataFrame(read_rows(path, COLUMNS), dtype=str)[COLUMNS]
    return table.apply(lambda column: column.str.strip()).assign(file=path.name)


def _correction(row: dict[str, str], task: Task) -> Correction:
    text = f"{row['id']}, {row['field']}, from {row['from']!r} to {row['to']!r}"
    try:
        attribute = task[row["field"]]
        numbers = attribute.parse(row["from"]), attribute.parse(row["to"])
    except ParameterError as error:
        raise DataError(f"{row['file']}: {text}: {error}") from None
    return Correction(row["id"], row["field"], *numbers, text)


def relabel(
    images: pd.DataFrame, files: Sequence[str | Path], task: Task
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images with corrected labels, and each correction with its ``outcome``.

    Where a spreadsheet has taken the zeros in front of an id, the only id that can be meant is.
    """
    corrections, changed = read(files, task), images.copy()
    train = images[images.split == "train"]
    ids = pd.Series(train.id.unique(), dtype=str)
    outcomes = []
    for row in corrections:
        ident, said = _known_id(row.id, ids)
        photos = train[train.id == ident]
        chosen = photos.index[photos[row.field] == row.old]
        changed.loc[chosen, row.field] = row.new
        texts = map(task[row.field].text, (row.old, row.new))
        outcome = _outcome(row, photos, len(chosen), task) + said
        outcomes.append((row.id, row.field, *texts, outcome))
    labels = task.encode(task.groups(changed.loc[train.index]))
    changed.loc[train.index, LABEL] = labels.astype("Int64")
    return changed, pd.DataFrame(outcomes, columns=[*COLUMNS, "outcome"], dtype=str)


def _known_id(ident: str, ids: pd.Series) -> tuple[str, str]:
    """Return the id that is meant, and what to say if it is not written so in the table."""
    if (ids == ident).any():
        return ident, ""
    alike = ids[ids.str.strip().str.lstrip("0") == ident.lstrip("0")]
    if len(alike) > 1:
        raise DataError(f"relabel: id {ident!r} may mean {', '.join(alike)}: write it in full")
    return (alike.iloc[0], f" (as id {alike.iloc[0]!r})") if len(alike) else (ident, "")


def _outcome(row: Correction, photos: pd.DataFrame, applied: int, task: Task) -> str:
    if applied:
        return f"applied to {applied} photos"
    if photos.empty:
        return "no such id"
    if (photos[row.field] == row.new).any():
        return f"already {task[row.field].text(row.new)}"
    found = task[row.field].text(photos[row.field].iloc[0])
    raise DataError(f"relabel: {row.text}: recorded is {found!r}, neither of them: correct the row")


def without_effect(changes: pd.DataFrame) -> pd.DataFrame:
    """Return the corrections that changed nothing: no such id, or already as they want it."""
    return changes[~changes.outcome.str.startswith("applied")]


def told(changes: pd.DataFrame) -> str:
    """Return in a sentence how many corrections changed nothing, and why."""
    idle = without_effect(changes).outcome.value_counts()
    why = ", ".join(f"{outcome}: {count}" for outcome, count in idle.items())
    return f"{idle.sum()} of {len(changes)} corrections changed nothing" + f" ({why})" * bool(why)
