"""Every run and submission as a row of facts, whatever state it is in.

Notebook 06 and the page of all runs show the same two tables. Nothing is predicted here: what a
run's folder holds is read, and what it does not hold stays empty (NaN).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib import artefacts
from lib.errors import FacefoldError
from lib.learn.checks import NAMES_OF_A_RUN, NOT_PART_OF_A_RUN
from lib.score import ledger, metrics, runs
from lib.score.runs import Run
from lib.textfiles import read_yaml

UNREADABLE = (FacefoldError, OSError, ValueError, KeyError)  # raised by a run that is not whole


def overview(runs_dir: str, submissions_dir: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of all runs and the table of all submissions.

    Runs have a row each, by name, and columns of two levels:

    - ``run``: ``state`` (finished, unfinished or refused) and its ``reason``, ``task``,
      ``metric``, ``people`` validated, ``why`` and ``expect`` as typed before training;
    - ``score``: ``oof`` with its interval ``low`` to ``high``; of the folds ``mean``, ``nested``
      (the mean at the epochs that are best in the other folds) and ``spread`` (largest minus
      smallest); ``oof_<view>`` for each TTA view that the run's folder keeps;
    - ``attribute``: the metric of each attribute by itself;
    - ``cost``: ``epochs`` (mean over folds), ``minutes`` (all folds), ``photos_per_second`` of
      training, ``megabytes`` of checkpoints;
    - ``parameter``: those in which the runs differ.

    Submissions are the rows of the ledger with ``task`` (of the first of their runs that is known),
    ``oof_score_without_tta``, and ``low`` to ``high``, the interval of ``oof_score``. Runs of
    several tasks may share a folder: compare scores of equal ``task`` only. DataError if the ledger
    is malformed.
    """
    folders = sorted(path.parent for path in artefacts.resolve(runs_dir).glob("*/params.yaml"))
    given = {folder.name: _given(folder) for folder in folders}
    rows = [_facts(folder, given[folder.name]) for folder in folders]
    names = pd.Index(list(given), name="run")
    facts = pd.DataFrame(rows, names, pd.MultiIndex.from_tuples(_columns(rows)))
    table = pd.concat([facts, pd.concat({"parameter": differing(given)}, axis=1)], axis=1)
    return table, _submissions(artefacts.resolve(submissions_dir), facts["run", "task"])


def _columns(rows: list[dict]) -> list[tuple[str, str]]:
    """Return the columns of all rows, those of one group side by side."""
    always = dict.fromkeys([*_about("", "", {}), ("score", "oof")])
    groups = ("run", "score", "attribute", "cost")
    return sorted(dict.fromkeys([*always, *(key for row in rows for key in row)]),
                  key=lambda column: groups.index(column[0]))  # fmt: skip


def _given(folder: Path) -> dict:
    """Return the parameters of a run; none where they cannot be read, its state then says why."""
    try:
        return read_yaml(folder / "params.yaml")
    except UNREADABLE:
        return {}


def _facts(folder: Path, given: Mapping) -> dict:
    """Return what a row of the runs' table holds, by (group, column)."""
    task = str(given.get("task", ""))
    if not (folder / "metrics.json").exists():
        done = len(list(folder.glob("fold*/test.parquet")))
        return _about("unfinished", task, given, f"folds trained: {done}")
    try:
        run = runs.load(str(folder.parent), folder.name)
        return _about("finished", task, given) | _finished(run)
    except UNREADABLE as error:
        return _about("refused", task, given, str(error))


def _about(state: str, task: str, given: Mapping, reason: str = "") -> dict:
    facts = {"state": state, "reason": reason, "task": task}
    facts |= {name: given.get(name, "") for name in ("why", "expect")}
    return {("run", name): fact for name, fact in facts.items()}


def _finished(run: Run) -> dict:
    kept, task = run.metrics(), run.task
    folds = pd.Series([fold[task.metric] for fold in kept["folds"]], dtype=float)
    groups = {
        "run": {"metric": task.metric, "people": kept["people"]},
        "score": {
            "oof": _number(kept["oof_score"]),
            "low": _number(kept.get("low")),
            "high": _number(kept.get("high")),
            "mean": folds.mean(),
            "nested": _number(kept.get("nested_epoch_score")),
            "spread": folds.max() - folds.min(),
            **_viewed(run),
        },
        "attribute": {name: _number(kept.get(name)) for name in task.names},
        "cost": _cost(run),
    }
    return {(group, name): fact for group, facts in groups.items() for name, fact in facts.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _viewed(run: Run) -> dict[str, float]:
    """Return the out-of-fold score through each TTA view that all folds of the run have kept."""
    tables: dict[str, list[Path]] = {}
    for path in sorted(run.folder.glob("fold*/oof_*.parquet")):
        tables.setdefault(path.stem, []).append(path)
    whole = {view: paths for view, paths in tables.items() if len(paths) == len(run.folds)}
    fix = "delete it, notebook 04 makes it again"
    return {
        view: metrics.score(pd.concat(artefacts.read_parquet(p, fix) for p in paths), run.task)
        for view, paths in whole.items()
    }


def _cost(run: Run) -> dict[str, float]:
    """Return epochs, minutes, speed and size; NaN where times were not yet recorded."""
    histories = run.histories()
    rows = pd.concat(histories.values()) if histories else pd.DataFrame()
    rows = rows.reindex(columns=["seconds", "photos_per_second"])
    return {
        "epochs": len(rows) / len(histories) if histories else float("nan"),
        "minutes": rows["seconds"].sum(min_count=len(rows)) / 60,
        "photos_per_second": rows["photos_per_second"].mean(),
        "megabytes": sum(path.stat().st_size for path in run.folder.glob("fold*/best.pt")) / 1e6,
    }


def differing(given: Mapping[str, Mapping]) -> pd.DataFrame:
    """Return the parameters (columns) in which runs (rows) differ, of their parameters by name.

    Numbers stay numbers, so that they sort; lists and mappings become text. "" is a run without
    that parameter.
    """
    left_out = {*NAMES_OF_A_RUN, *NOT_PART_OF_A_RUN}  # they change no prediction
    names = dict.fromkeys(name for params in given.values() for name in params)
    table = {
        name: [_plain(params.get(name, "")) for params in given.values()]
        for name in names
        if name not in left_out
    }
    frame = pd.DataFrame(table, pd.Index(list(given), name="run"))
    return frame.loc[:, frame.nunique(dropna=False) > 1]


def _plain(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    return value


def _submissions(folder: Path, tasks: pd.Series) -> pd.DataFrame:
    table = ledger.read(folder)
    known = [tasks.reindex(text.split(";")).dropna() for text in table["runs"]]
    table["task"] = [found.iloc[0] if len(found) else "" for found in known]
    kept = [
        _facts_of(folder / f"{name}.json", sha256)
        for name, sha256 in zip(table["name"], table["sha256"], strict=True)
    ]
    table["oof_score_without_tta"] = [_number(facts.get("oof_score_without_tta")) for facts in kept]
    limits = [facts.get("nested_interval", [None, None]) for facts in kept]
    limits = pd.DataFrame(limits, table.index, ["low", "high"], dtype=float)
    return pd.concat([table, limits], axis=1)


def _facts_of(path: Path, sha256: str) -> dict:
    """Return what the JSON next to a submission says; nothing where it is of another file."""
    facts = json.loads(path.read_text()) if path.exists() else {}
    return facts if facts.get("sha256") == sha256 else {}
