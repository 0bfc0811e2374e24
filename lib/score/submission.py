"""Submissions: written in the order of the test photos, and checked before an upload is spent.

``python -m lib.submission check FILE --sample INFO`` checks any file: exit code 0, or 2 and what is
wrong. The task's answer says what a file holds: a column with the label's number or its name, a
column per attribute with its class names, or a column of probabilities per class.
"""

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib import artefacts
from lib.errors import DataError, FacefoldError, ParameterError, some
from lib.score import ledger, metrics
from lib.task import attributes
from lib.task.attributes import LABEL, Task
from lib.task.tables import probabilities
from lib.textfiles import read_rows, read_text


def class_columns(task: Task) -> dict[str, str]:
    """Return the columns that hold a class, each with the part that it answers."""
    if task.answer.format == "attributes":
        return {name: name for name in task.names}
    return {task.answer.columns[1]: LABEL}


def accepted(task: Task, part: str) -> list[str]:
    """Return what a column of classes may hold: names, or the numbers of the format "index"."""
    classes = task.classes(part)
    return list(map(str, range(len(classes)) if task.answer.format == "index" else classes))


def probability_columns(task: Task) -> dict[str, list[str]]:
    """Return the columns of probabilities by part: of the label its class names."""
    parts = task.parts()
    return {p: list(task.classes()) if p == LABEL else task.columns(p) for p in parts}


def columns(task: Task) -> list[str]:
    """Return the columns of a submission."""
    if task.answer.format == "probabilities":
        answered = [name for names in probability_columns(task).values() for name in names]
    else:
        answered = list(class_columns(task))
    return [task.answer.columns[0], *answered]


def answers(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the rows of a submission: a table of predictions as the task's answer wants it."""
    if task.answer.format == "probabilities":
        given = pd.concat([probabilities(table, task, part) for part in task.parts()], axis=1)
    else:
        guess, parts = metrics.predicted(table, task), class_columns(task).values()
        texts = [np.array(accepted(task, part))[guess[part]] for part in parts]
        given = pd.DataFrame(dict(enumerate(texts)), table.index)
    return given.reset_index().set_axis(columns(task), axis=1)


def sample_ids(sample: Path, task: Task) -> list[str]:
    """Return the photos of a sample submission in their order; its answers are not used."""
    ids = _rows(sample, task)[task.answer.columns[0]]
    if repeated := [photo for photo, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{sample} repeats {some(repeated, 'photos')}; get the file again")
    return ids


def check(
    submission: pd.DataFrame | Path | str, ids: Sequence[str], task: Task, uploaded: bool = True
) -> None:
    """Raise DataError unless ``submission`` (frame or CSV) answers each photo of ``ids`` in order.

    Refused: no photos, other columns, photos that are missing, unknown, repeated or in another
    order, gaps, anything but the classes written as such or probabilities that sum to 1, and, of
    what is ``uploaded``, the same answer in every row.
    """
    frame = submission if isinstance(submission, pd.DataFrame) else _read(Path(submission), task)
    if list(frame.columns) != columns(task):
        raise DataError(
            f"columns are {list(frame.columns)}, accepted are exactly {columns(task)}; "
            "rename or drop columns"
        )
    photo, *answered = columns(task)
    _check_ids(frame[photo].astype(str).reset_index(drop=True), pd.Series(ids, dtype=str))
    text = frame[answered].astype(str).where(frame[answered].notna(), "").set_axis(ids)
    for column in text:
        _refuse(text[column], text[column].str.strip() == "", "gaps", "answer every photo")
    probable = task.answer.format == "probabilities"
    check_answers = _check_probabilities if probable else _check_classes
    check_answers(text, task)
    if uploaded and len(text) > 1 and (text.nunique() == 1).all():
        raise DataError(
            f"all {len(text)} rows answer {', '.join(text.iloc[0])}: that is a sample or a broken "
            "model, not a prediction"
        )


def _read(path: Path, task: Task) -> pd.DataFrame:
    """Read a submission as text; a comma at the end of a row, harmless elsewhere, is refused."""
    table = _rows(path, task)
    rows = csv.reader(read_text(path).splitlines())
    if longer := [",".join(row) for row in rows if len(row) > len(table)]:
        raise DataError(f"{some(longer, 'rows')} end in a comma too many; remove it")
    return pd.DataFrame(table, dtype=str)


def _rows(path: Path, task: Task) -> dict[str, list[str]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}; check the path")
    return read_rows(path, task.answer.columns[:1])


def _check_ids(ids: pd.Series, expected: pd.Series) -> None:
    if expected.empty:
        raise DataError("there are no test photos, so there is nothing to submit")
    faults = {
        "repeated": (ids[ids.duplicated()], "keep one row per photo"),
        "unknown": (ids[~ids.isin(expected)], "remove them, or correct their spelling"),
        "missing": (expected[~expected.isin(ids)], "give every photo a row"),
    }
    for fault, (wrong, fix) in faults.items():
        if len(wrong):
            raise DataError(
                f"photos {fault}: {some(wrong, 'rows')}; accepted are the {len(expected)} of the "
                f"sample, once each: {fix}"
            )
    moved = ids.index[ids != expected]
    if len(moved):
        raise DataError(
            f"row {moved[0] + 1} is {ids[moved[0]]!r} where the sample has "
            f"{expected[moved[0]]!r} ({len(moved)} rows differ): sort the rows into its order"
        )


def _check_classes(text: pd.DataFrame, task: Task) -> None:
    for column, part in class_columns(task).items():
        classes = accepted(task, part)
        numbers = f"{classes[0]} to {classes[-1]}, written as whole numbers (3, not 3.0)"
        fix = numbers if task.answer.format == "index" else some(classes, "names")
        wrong = ~text[column].isin(classes)
        _refuse(text[column], wrong, "outside the classes", f"accepted are {fix}")


def _check_probabilities(text: pd.DataFrame, task: Task) -> None:
    numbers = text.apply(pd.to_numeric, errors="coerce")
    for column in text:
        wrong = ~numbers[column].between(0, 1)
        _refuse(text[column], wrong, "that are no probabilities", "write numbers from 0 to 1")
    for part, names in probability_columns(task).items():
        sums = numbers[names].sum(axis=1)
        wrong = ~np.isclose(sums, 1, atol=1e-3)
        _refuse(sums, wrong, f"of {part} that do not sum to 1", "divide each row by its sum")


def _refuse(given: pd.Series, wrong: Sequence[bool], fault: str, fix: str) -> None:
    if rows := [f"{photo}: {answer!r}" for photo, answer in given[wrong].items()]:
        raise DataError(f"answers {fault}: {some(rows, 'rows')}; {fix}")


def write(
    name: str,
    table: pd.DataFrame,
    ids: Sequence[str],
    task: Task,
    submissions_dir: Path,
    decided: pd.DataFrame | None = None,
    uploaded: bool = True,
) -> Path:
    """Write the predictions of ``table`` as ``submissions_dir/name.csv``; return its path.

    ``ids`` are the test photos in the order of the file; ``table`` has a row for each, in any
    order, and is kept as ``name.parquet``. The answers are those of ``decided``, where a decision
    other than the most probable class was taken. DataError as in ``check``. A file of that name
    with other contents is refused by a ParameterError, as a row of the ledger may point to it.
    """
    if not re.fullmatch(r"[\w][\w.+-]*", name) or f"{name}.csv" == ledger.FILE:
        raise ParameterError(
            f"submission={name!r} names a file: use letters, digits and . _ + - only, "
            "and not 'ledger'"
        )
    path, place = submissions_dir / f"{name}.csv", pd.Series(range(len(ids)), list(ids))
    rows = answers(table if decided is None else decided, task)
    frame = rows.sort_values(rows.columns[0], key=lambda photos: photos.map(place))
    check(frame, ids, task, uploaded)
    text = frame.to_csv(index=False, lineterminator="\n", float_format="%.7g").encode()
    if path.exists() and path.read_bytes() != text:
        raise ParameterError(
            f"{path} exists with other predictions: choose another `submission` name, or delete it"
        )
    if not path.exists():
        with artefacts.atomic(path) as temporary:
            temporary.write_bytes(text)
    artefacts.write_table(table, path.with_suffix(".parquet"))
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    purpose = "Check a submission before it is uploaded."
    parser = argparse.ArgumentParser("python -m lib.submission", description=purpose)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("check", help="refuse a file that would not score")
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help="the CSV to be uploaded")
    add("--sample", type=Path, metavar="INFO", required=True, help="CSV that lists the test photos")
    add("--task", default=attributes.DEFAULT, help="name of a file in params/tasks")
    options = parser.parse_args(arguments)
    try:
        task = attributes.load(options.task)
        ids = sample_ids(options.sample, task)
        check(options.file, ids, task)
    except FacefoldError as error:
        told = isinstance(error, DataError)
        hint = f" (checked for task {options.task!r}: --task names another)" if told else ""
        print(f"{error}{hint}", file=sys.stderr)
        return 2
    print(f"{options.file}: valid, {len(ids)} rows")
    return 0
