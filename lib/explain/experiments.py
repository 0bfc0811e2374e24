"""The story of experiments: what each one changed, what was expected, and what came out."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.explain import paired
from lib.score import runs
from lib.task.attributes import Task

BEST = 12  # runs compared with the baseline where none are named


def tables(
    overview: pd.DataFrame, runs_dir: str, baseline: str, names: Sequence[str] = ()
) -> tuple[dict[str, pd.DataFrame], Task]:
    """Return out-of-fold tables of the baseline and other runs of its task, and that task.

    ``overview`` is the runs' table of ``compare.overview``. Without ``names`` the others are the
    twelve with the best score. ArtefactError for a run that is not finished, ParameterError for
    runs of several tasks.
    """
    task = runs.load(runs_dir, baseline).task
    finished = overview["run", "state"].eq("finished") & overview["run", "task"].eq(task.name)
    scores = overview.loc[finished, ("score", "oof")].dropna().sort_values(ascending=False)
    others = [name for name in names or scores.index if name != baseline]
    wanted = others if names else others[:BEST]
    found, _ = runs.load_all(runs_dir, [baseline, *wanted])
    return {name: run.oof() for name, run in found.items()}, task


def pair(runs_dir: str, baseline: str, other: str, name: str = "") -> str:
    """Return in words how a run differs from the baseline; without ``other`` that there is none."""
    if not other:
        return "There is no other run of this task yet: train one with notebook 03."
    found, task = runs.load_all(runs_dir, [baseline, other])
    return paired.sentence({name: run.oof() for name, run in found.items()}, task, name)


def story(
    overview: pd.DataFrame, task: Task, baseline: str, compared: pd.DataFrame, left_out: Mapping
) -> pd.DataFrame:
    """Return a row per run of a task: ``changed``, ``why``, ``expect`` and ``came out``.

    A run is told by the parameters that differ from those of the run that it started from
    (``init_from``), or else of the baseline. ``compared`` and ``left_out`` are what
    ``paired.compared`` and ``paired.comparable`` returned.
    """
    mine = overview[overview["run", "task"] == task.name]
    parameters = mine["parameter"] if "parameter" in mine else pd.DataFrame(index=mine.index)
    told = {name: _changed(parameters, name, baseline) for name in mine.index}
    table = pd.DataFrame({"changed": told}).join(mine["run"][["why", "expect"]])
    outcomes = compared.apply(_outcome, axis=1).to_dict() | _reasons(left_out)
    table["came out"] = [outcomes.get(name, _state(mine.loc[name])) for name in mine.index]
    return table.rename_axis("run")


def _changed(parameters: pd.DataFrame, name: str, baseline: str) -> str:
    own = parameters.loc[name]
    parent = own.get("init_from") or baseline
    if name == parent or parent not in parameters.index:
        return f"(start: {parent})" if parent != name else "the baseline"
    before = parameters.loc[parent]
    changes = [f"{key} {before[key]} → {own[key]}" for key in own.index if before[key] != own[key]]
    since = "" if parent == baseline else f"from {parent}: "
    return since + ("; ".join(changes) or "nothing")


def _outcome(row: pd.Series) -> str:
    limits = f"{row['low_all']:+.3f} to {row['high_all']:+.3f}"
    return f"{row['difference']:+.3f}, {limits}: {'shown' if row['shown'] else 'not shown'}"


def _reasons(left_out: Mapping[str, str]) -> dict[str, str]:
    return {name: f"not compared: {reason}" for name, reason in left_out.items()}


def _state(row: pd.Series) -> str:
    state = row["run", "state"]
    return f"score {row['score', 'oof']:.3f}" if state == "finished" else state
