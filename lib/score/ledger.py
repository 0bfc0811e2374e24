"""The ledger: a row per submission, in which the user notes the scores of the leaderboard."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock

from lib.artefacts import file_hash, git_commit, write_json
from lib.errors import ArtefactError, DataError, some
from lib.score import metrics
from lib.textfiles import read_rows, read_text

FILE = "ledger.csv"
COLUMNS = (
    "name", "time", "runs", "method", "tta", "metric", "oof_score", "sha256", "commit",
    "test_photos_used", "public", "private",
)  # fmt: skip
SCORES = ("oof_score", "public", "private")


def record(
    submission: Path,
    *,
    runs: Sequence[str],
    method: str,
    weights: Sequence[float],
    tta: str,
    metric: str,
    oof_score: float,
    oof_score_without_tta: float,
    test_photos_used: bool,
    together: bool = False,
    choice: Mapping[str, object],
    other_photos: str = "",
) -> None:
    """Append a submission's CSV to the ledger next to it, and write the same facts to its JSON.

    ``test_photos_used``: whether a run learned from test photos (pseudo-labels). ``together``:
    whether the answer for one test photo depends on other ones; the column ``test_photos_used``
    says "together" then, and "yes" where a run learned from them. ``choice``: how classes were
    decided, and which method was recommended and why; it goes to the JSON alone. ``other_photos``:
    the work folder of other photos than the test photos: there is nothing to upload then, and no
    row. A name with the same file hash is not recorded twice. Rows that are there, and the scores
    that a user typed into them, are never touched.
    """
    if not submission.exists():
        raise ArtefactError(f"there is no {submission} to record; write the submission first")
    facts: dict[str, object] = {"runs": list(runs), "method": method, "tta": tta, "metric": metric}
    facts |= {"oof_score": oof_score, "sha256": file_hash(submission)}
    row = {
        **{name: str(fact) for name, fact in facts.items()},
        "name": submission.stem,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": ";".join(runs),
        "oof_score": "" if math.isnan(oof_score) else f"{oof_score:.5f}",
        "commit": git_commit(),
        "test_photos_used": _used(test_photos_used, together),
    }
    with FileLock(submission.with_name(f".{FILE}.lock")):
        if not other_photos:
            _append(row, submission.with_name(FILE))
        more = {"weights": list(weights), "oof_score_without_tta": oof_score_without_tta}
        more |= {"test_photos_used": test_photos_used, "other_photos": other_photos}
        write_json({**facts, **more, **choice}, submission.with_suffix(".json"))


def _used(learned: bool, together: bool) -> str:
    return "yes" if learned else "together" if together else "no"


def _append(row: dict[str, str], path: Path) -> None:
    """Append ``row`` below the ledger's own header in one write, unless its name and hash exist."""
    known, exists = _read(path), path.exists()
    if (row["name"], row["sha256"]) in zip(known["name"], known["sha256"], strict=True):
        return
    addition = io.StringIO()
    writer = csv.DictWriter(addition, list(known), restval="", lineterminator="\n")
    if not exists:
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("\n" * (exists and not read_text(path).endswith("\n")) + addition.getvalue())


def _read(path: Path) -> dict[str, list[str]]:
    """Return the ledger's columns as text; what the user has added is kept."""
    if not path.exists():
        return {column: [] for column in COLUMNS}
    if "oof_macro_f1" in read_rows(path):
        raise DataError(
            f"{path} is of an earlier version: rename its column 'oof_macro_f1' to 'oof_score' and "
            "insert a column 'metric' (macro_f1 in every row)"
        )
    return read_rows(path, COLUMNS)


def read(submissions_dir: Path) -> pd.DataFrame:
    """Return a row per submission, its scores as floats, NaN where not yet filled in.

    Larger is better in all of them: a log loss is negative, however the user typed it. DataError if
    a column is gone or a score is not a number.
    """
    path = submissions_dir / FILE
    ledger = pd.DataFrame(_read(path), dtype=str)
    scores = pd.DataFrame({column: _numbers(ledger, column, path) for column in SCORES})
    negated = ledger["metric"].isin(metrics.NEGATED)
    return ledger.assign(**scores.where(~negated, -scores.abs(), axis=0))


def _numbers(ledger: pd.DataFrame, column: str, path: Path) -> pd.Series:
    text = ledger[column].str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = text[numbers.isna() & (text != "")]
    if rows := [f"{ledger['name'][row]}: {score!r}" for row, score in wrong.items()]:
        raise DataError(
            f"{path}: {column} of {some(rows, 'rows')} is not a number; write 0.7123, or nothing"
        )
    return numbers
