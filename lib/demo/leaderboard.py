"""The demo's own leaderboard: a submission against the answers that only this module reads."""

import json
from pathlib import Path

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from lib.artefacts import resolve
from lib.errors import ArtefactError, DataError


def read_private(data_dir: str | Path, name: str) -> pd.DataFrame:
    """Read a table of ``private/``; ArtefactError when these are not demo data."""
    path = resolve(data_dir) / "private" / name
    if not path.exists():
        raise ArtefactError(
            f"{path} is missing: only demo data have a leaderboard here (python -m lib.demo make)"
        )
    return pd.read_csv(path)


def leaderboard(submission_csv: str | Path, data_dir: str | Path) -> pd.DataFrame:
    """Return macro_f1 and accuracy (columns) of all photos, the public and the private half."""
    people = read_private(data_dir, "eval_people.csv")
    truth = read_private(data_dir, "answers.csv").merge(people, on="ImageID", validate="1:1")
    given = pd.read_csv(resolve(submission_csv))
    scored = truth.merge(given, on="ImageID", suffixes=("", "_given"), validate="1:1")
    if not len(scored) == len(truth) == len(given):
        raise DataError(
            f"{submission_csv} has {len(given)} rows, {len(scored)} of them among the {len(truth)} "
            f"photos of {data_dir}: make the submission from this data set"
        )
    parts = {"all": scored, **dict(list(scored.groupby("half"))[::-1])}
    pairs = [(part.ans, part.ans_given) for part in parts.values()]
    macro_f1 = [f1_score(*pair, average="macro") for pair in pairs]
    accuracy = [accuracy_score(*pair) for pair in pairs]
    return pd.DataFrame({"macro_f1": macro_f1, "accuracy": accuracy}, list(parts))


def closing_table(run_dir: str, submission_csv: str, data_dir: str) -> pd.DataFrame:
    """Compare what a run promised with what the hidden answers say: one column ``macro F1``."""
    folds = json.loads((resolve(run_dir) / "metrics.json").read_text())["folds"]
    submission = json.loads(resolve(submission_csv).with_suffix(".json").read_text())
    board = leaderboard(submission_csv, data_dir).macro_f1
    rows = {f"fold {fold['fold']}": fold["macro_f1"] for fold in folds}
    rows["out-of-fold, without TTA"] = submission["oof_score_without_tta"]
    rows["out-of-fold, with TTA"] = submission["oof_score"]
    rows |= {f"demo leaderboard, {part}": score for part, score in board.items()}
    return pd.Series(rows, name="macro F1").to_frame()
