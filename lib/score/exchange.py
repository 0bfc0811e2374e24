"""Probabilities as CSV, to other teams and from them: a folder with ``oof.csv`` and ``test.csv``.

The first column names the photo, as in the task's answer, and there is a column for each class of
the label, by its name; a run of some attributes has ``<attribute> <class>`` instead. Rows are
joined on the photo, never by position. ``python -m lib.tables RUN --out FOLDER`` writes one.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib import artefacts
from lib.data.labels import refuse
from lib.errors import ArtefactError, DataError, FacefoldError, some
from lib.score import ensemble, predict, runs
from lib.score.runs import Run
from lib.task.attributes import LABEL, Task
from lib.task.tables import normalised, parts, probabilities
from lib.textfiles import read_rows

FILES = {"oof": "oof.csv", "test": "test.csv"}  # by the kind of their photos
SUM = 1e-3  # how far from 1 the probabilities of a photo may sum up to: they may be rounded


class Outside(NamedTuple):
    """Tables from outside by member, and their files' hashes; a member's name holds its hash."""

    oof: dict[str, pd.DataFrame]
    test: dict[str, pd.DataFrame]
    hashes: dict[str, dict[str, str]]


def columns(task: Task, part: str) -> dict[str, str]:
    """Return the columns of a part in our tables, by their names in a CSV."""
    first = "" if part == LABEL else f"{part} "
    names = [f"{first}{name}" for name in task.classes(part)]
    return dict(zip(names, task.columns(part), strict=True))


def write(tables: Mapping[str, pd.DataFrame], task: Task, folder: Path) -> None:
    """Write the "oof" and the "test" table, with a row per photo, as FILES of a folder."""
    for kind, table in tables.items():
        named = [{code: name for name, code in columns(task, part).items()}
                 for part in parts(table, task)]  # fmt: skip
        given = pd.concat([table[[*codes]].rename(columns=codes) for codes in named], axis=1)
        given = given.rename_axis(task.answer.columns[0]).reset_index()
        artefacts.write_table(given, folder / FILES[kind])


def read(path: Path, task: Task, keys: pd.Index) -> pd.DataFrame:
    """Return the table of a CSV with its rows in the order of ``keys``.

    DataError for columns or photos that are not those of the task and of ``keys``, each once, and
    for what are no probabilities that sum to 1.
    """
    photo = task.answer.columns[0]
    rows = pd.DataFrame(read_rows(path, [photo]), dtype=str)
    rows = rows.set_index(rows.pop(photo).str.strip().rename("key"))
    _check_photos(rows.index, keys, path)
    numbers = rows.rename(columns=_codes(list(rows), task, path))
    numbers = numbers.apply(pd.to_numeric, errors="coerce")
    for column in numbers:
        wrong = numbers.index[~numbers[column].between(0, 1)]  # a gap is not between
        refuse(wrong.to_series(), f"{path}: no probability", "write numbers from 0 to 1, dot first")
    for part in parts(numbers, task):
        sums = probabilities(numbers, task, part).sum(axis=1)
        wrong = sums.index[(sums - 1).abs() > SUM]
        refuse(wrong.to_series(), f"{path}: sums of {part} are not 1", "divide each row by its sum")
    return normalised(numbers.loc[keys], task)


def _check_photos(found: pd.Index, keys: pd.Index, path: Path) -> None:
    faults = {
        "repeated": found[found.duplicated()],
        "missing": keys.difference(found, sort=False),
        "unknown": found.difference(keys, sort=False),
    }
    if told := [f"{some(odd, 'photos')} {fault}" for fault, odd in faults.items() if len(odd)]:
        raise DataError(f"{path}: {'; '.join(told)}: it needs the {len(keys)} of your runs once")


def _codes(header: Sequence[str], task: Task, path: Path) -> dict[str, str]:
    """Return the columns of our tables by those of a CSV: the label's, or those of attributes."""
    known = {part: columns(task, part) for part in [*task.parts(), *task.names]}
    whole = [names for names in known.values() if set(names) <= set(header)]
    found = {name: code for names in whole for name, code in names.items()}
    if not found or set(found) != set(header):
        accepted = " or ".join(some(names, "columns") for names in known.values())
        raise DataError(
            f"{path}: next to {task.answer.columns[0]!r} it needs {accepted}, named by classes, "
            f"and has {some(header, 'columns')}"
        )
    return found


def members(folders: Sequence[str], own: Mapping[str, Run], task: Task) -> Outside:
    """Return the members of other teams, for the photos, labels and people of the first own run.

    What has no out-of-fold probabilities cannot be scored, weighted or compared: it is refused.
    """
    first = next(iter(own.values()))
    oof, tests = first.oof(), first.test().index.unique()
    facts = oof[[name for name in ensemble.FACTS if name in oof]]
    found = Outside({}, {}, {})
    for folder in map(artefacts.resolve, folders):
        digests = hashes(folder)
        name = f"{folder.name}@{artefacts.fingerprint(digests)}"
        found.hashes[name] = digests
        found.oof[name] = read(folder / FILES["oof"], task, oof.index).join(facts)
        found.test[name] = read(folder / FILES["test"], task, tests)
    return found


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each of a folder's FILES; ArtefactError where one is missing."""
    for path in (folder / name for name in FILES.values()):
        if not path.is_file():
            raise ArtefactError(
                f"{path} is missing: a member from outside needs {' and '.join(FILES.values())}, "
                "since without out-of-fold probabilities nobody knows what it adds: ask for both"
            )
    return {name: artefacts.file_hash(folder / name) for name in FILES.values()}


def of_run(run: Run, tta: str = "none") -> dict[str, pd.DataFrame]:
    """Return a run's tables with a row per photo; on test photos the mean over its folds."""
    tables = {kind: {run.name: predict.viewed(run, kind, tta)} for kind in FILES}
    return {kind: ensemble.vote(table, run.task, "soft") for kind, table in tables.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 for a run that cannot be read."""
    purpose = (
        "Write a run's out-of-fold and test probabilities as CSV for other people's ensembles."
    )
    parser = argparse.ArgumentParser("python -m lib.tables", description=purpose)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a finished run, such as runs/demo")
    add("--out", required=True, metavar="FOLDER", help="where oof.csv and test.csv go")
    add("--tta", default="none", choices=predict.VIEWS, help="views that are averaged (none)")
    given = parser.parse_args(arguments)
    folder = artefacts.resolve(given.out)
    try:
        run = runs.load(str(given.run.parent), given.run.name)
        write(of_run(run, given.tta), run.task, folder)
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {', '.join(FILES.values())}")
    return 0
