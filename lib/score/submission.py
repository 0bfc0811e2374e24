"""Submissions: written in the order of the sample, checked before the quota is spent, recorded in a ledger.

``python -m lib.submission check FILE --sample INFO`` checks any file: exit code 0, or 2 with what is wrong.
"""

import argparse
import csv
import io
import math
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock

from lib.artefacts import atomic, file_hash, git_commit, write_json
from lib.errors import ArtefactError, DataError, FacefoldError, ParameterError
from lib.task.labels import CLASSES

COLUMNS = ["ImageID", "ans"]
ACCEPTED = {str(k) for k in range(len(CLASSES))}
LEDGER = "ledger.csv"
LEDGER_COLUMNS = [
    "name",
    "time",
    "runs",
    "method",
    "tta",
    "oof_macro_f1",
    "sha256",
    "commit",
    "test_photos_used",
    "public",
    "private",
]


def sample_ids(sample: Path) -> pd.Series:
    """Return the ImageIDs of info.csv in their order; no other column is read, least of all ``ans``."""
    try:
        ids = pd.read_csv(sample, usecols=["ImageID"], dtype=str, keep_default_na=False)["ImageID"]
    except FileNotFoundError:
        raise DataError(f"there is no {sample}; give the competition's info.csv as the sample") from None
    except ValueError as error:
        raise DataError(f"{sample} is not the competition's info.csv: {error}") from None
    if ids.duplicated().any():
        raise DataError(f"{sample} repeats {_some(ids[ids.duplicated()])}; get the competition's file again")
    return ids


def check(submission: pd.DataFrame | Path | str, sample: Path) -> None:
    """Raise DataError unless ``submission`` (frame or CSV) has exactly the sample's rows and a class 0..17 in each.

    Refused: other columns, ids that are missing, unknown, repeated or in another order, gaps, anything but an integer
    written as such, classes outside 0..17, and the same class in every row.
    """
    frame = submission if isinstance(submission, pd.DataFrame) else _read(Path(submission))
    if list(frame.columns) != COLUMNS:
        raise DataError(f"columns are {list(frame.columns)}, accepted are exactly {COLUMNS}; rename or drop columns")
    _check_ids(frame["ImageID"].astype(str).reset_index(drop=True), sample_ids(sample))
    _check_classes(frame.reset_index(drop=True))


def _read(path: Path) -> pd.DataFrame:
    """Read a CSV as text, so that nothing is repaired or converted on the way."""
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV text in UTF-8 ({error}); export it again as CSV") from None
    if not rows:
        raise DataError(f"{path} is empty; accepted is a header {','.join(COLUMNS)} and a row a photo")
    odd = [f"row {number}: {row}" for number, row in enumerate(rows) if len(row) != len(rows[0])]
    if odd:
        raise DataError(f"{_some(odd)} not {len(rows[0])} fields like the header {rows[0]}; remove or add commas there")
    return pd.DataFrame(rows[1:], columns=rows[0])


def _check_ids(ids: pd.Series, expected: pd.Series) -> None:
    faults = {
        "repeated": (ids[ids.duplicated()], "keep one row a photo"),
        "not in the sample": (ids[~ids.isin(expected)], "remove them, or look for a changed spelling"),
        "missing": (expected[~expected.isin(ids)], "give every photo a row"),
    }
    for fault, (wrong, mend) in faults.items():
        if len(wrong):
            raise DataError(f"ImageIDs {fault}: {_some(wrong)}; accepted are the sample's {len(expected)}, once each: {mend}")
    moved = ids[ids != expected]
    if len(moved):
        first = moved.index[0]
        raise DataError(
            f"row {first + 1} is {ids[first]!r} where the sample has {expected[first]!r} ({len(moved)} rows differ): "
            "sort the rows into the order of the sample"
        )


def _check_classes(frame: pd.DataFrame) -> None:
    text = frame["ans"].astype(str).where(frame["ans"].notna(), "")
    faults = {
        "gaps": (text.str.strip() == "", "predict a class for each"),
        "not integers": (~text.str.fullmatch(r"-?\d+"), "write whole numbers, such as 3 instead of 3.0"),
        "outside the classes": (~text.isin(ACCEPTED), "use label = 6 mask + 3 gender + age group"),
    }
    for fault, (wrong, mend) in faults.items():
        if wrong.any():
            rows = [f"{photo}: {answer!r}" for photo, answer in zip(frame["ImageID"][wrong], text[wrong], strict=True)]
            raise DataError(f"answers {fault}: {_some(rows)}; accepted are the integers 0 to {len(CLASSES) - 1}: {mend}")
    if len(text) > 1 and text.nunique() == 1:
        raise DataError(f"ans is {text[0]} in all {len(text)} rows; that is a sample or a broken model, not a prediction")


def _some(values: Sequence) -> str:
    shown = ", ".join(str(value) for value in list(values)[:5])
    return f"{len(values)} rows ({shown}{', …' if len(values) > 5 else ''})"


def write(name: str, predictions: pd.Series, sample: Path, submissions_dir: Path) -> Path:
    """Write ``submissions_dir/name.csv`` in the order of ``sample`` and return its path.

    ``predictions``: classes 0..17 by ImageID, in any order. DataError as in ``check``. A file of that name with other
    contents is refused by a ParameterError, as a ledger row may point to it; with the same contents it is left alone.
    """
    path, ids = submission_path(name, submissions_dir), sample_ids(sample)
    position = pd.Series(ids.index, ids)
    frame = pd.DataFrame({"ImageID": predictions.index, "ans": predictions.to_numpy()})
    frame = frame.sort_values("ImageID", key=lambda keys: keys.map(position), ignore_index=True)
    check(frame, sample)
    text = frame.to_csv(index=False, lineterminator="\n").encode()
    if path.exists() and path.read_bytes() != text:
        raise ParameterError(f"{path} exists with other predictions: choose another `submission` name, or delete that file")
    if not path.exists():
        with atomic(path) as temporary:
            temporary.write_bytes(text)
    return path


def submission_path(name: str, submissions_dir: Path) -> Path:
    """Return ``submissions_dir/name.csv``; ParameterError for a name that is no plain file name, or the ledger's."""
    if not re.fullmatch(r"[\w][\w.+-]*", name) or f"{name}.csv" == LEDGER:
        raise ParameterError(f"submission={name!r} must be letters, digits and . _ + - only, and not 'ledger': it names a file")
    return submissions_dir / f"{name}.csv"


def record(
    name: str,
    submissions_dir: Path,
    *,
    runs: Sequence[str],
    method: str,
    weights: Sequence[float],
    tta: str,
    oof_macro_f1: float,
    oof_macro_f1_without_tta: float,
    test_photos_used: bool = False,
) -> None:
    """Append the submission ``name`` to the ledger and write the same facts to ``name.json``.

    ``test_photos_used``: whether a run learnt from test photos (pseudo-labels). A name with the same file hash is not
    recorded twice. Rows that are there, and the scores that a user typed into them, are never touched.
    """
    path = submission_path(name, submissions_dir)
    if not path.exists():
        raise ArtefactError(f"there is no {path} to record; write the submission first")
    facts = {"runs": list(runs), "method": method, "tta": tta, "oof_macro_f1": oof_macro_f1, "sha256": file_hash(path)}
    row = {
        **facts,
        "name": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": ";".join(runs),
        "oof_macro_f1": "" if math.isnan(oof_macro_f1) else f"{oof_macro_f1:.5f}",
        "commit": git_commit(),
        "test_photos_used": "yes" if test_photos_used else "no",
    }
    with FileLock(submissions_dir / f".{LEDGER}.lock"):
        _append(row, submissions_dir / LEDGER)
        more = {"weights": list(weights), "oof_macro_f1_without_tta": oof_macro_f1_without_tta}
        write_json({**facts, **more}, path.with_suffix(".json"))


def _append(row: dict[str, str], ledger: Path) -> None:
    """Append ``row`` below the ledger's own header, in one write, unless its name and hash are there."""
    text = ledger.read_text(encoding="utf-8-sig") if ledger.exists() else ""
    known = csv.DictReader(io.StringIO(text or ",".join(LEDGER_COLUMNS)))
    header = _check_header(known.fieldnames, ledger)
    if any((old["name"], old["sha256"]) == (row["name"], row["sha256"]) for old in known):
        return
    addition = io.StringIO()
    writer = csv.DictWriter(addition, header, restval="", lineterminator="\n")
    if not text:
        writer.writeheader()
    writer.writerow(row)
    with ledger.open("a", encoding="utf-8", newline="") as file:
        file.write("\n" * (text != "" and not text.endswith("\n")) + addition.getvalue())


def _check_header(header: Sequence[str], ledger: Path) -> Sequence[str]:
    missing = [column for column in LEDGER_COLUMNS if column not in header]
    if missing:
        raise DataError(
            f"{ledger} lacks the columns {missing} in its header {list(header)}; save it with commas and put them back"
        )
    return header


def read_ledger(submissions_dir: Path) -> pd.DataFrame:
    """Return the ledger, a row a submission; scores are floats, NaN where not yet filled in; empty before the first row.

    DataError if columns are gone or a score is no number.
    """
    path = submissions_dir / LEDGER
    if not path.exists():
        return pd.DataFrame(columns=LEDGER_COLUMNS)
    ledger = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    _check_header(list(ledger.columns), path)
    return ledger.assign(**{column: _numbers(ledger, column, path) for column in ("oof_macro_f1", "public", "private")})


def _numbers(ledger: pd.DataFrame, column: str, path: Path) -> pd.Series:
    text = ledger[column].str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = numbers.isna() & (text != "")
    if wrong.any():
        rows = [f"{name}: {score!r}" for name, score in zip(ledger["name"][wrong], text[wrong], strict=True)]
        raise DataError(f"{path}: {column} of {_some(rows)} is no number; write 0.7123, or nothing")
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.submission", description="Check a submission before it is uploaded.")
    command = parser.add_subparsers(required=True).add_parser("check", help="refuse a file that would not score")
    command.add_argument("file", type=Path, metavar="FILE", help="the CSV to be uploaded: ImageID,ans")
    command.add_argument("--sample", type=Path, metavar="INFO", required=True, help="the competition's info.csv")
    options = parser.parse_args(arguments)
    try:
        check(options.file, options.sample)
    except FacefoldError as error:
        print(error, file=sys.stderr)
        return 2
    answers = _read(options.file)["ans"]
    print(f"{options.file}: valid, {len(answers)} rows, {answers.nunique()} of {len(CLASSES)} classes")
    return 0
