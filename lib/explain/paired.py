"""Differences between runs, and whether other people would decide otherwise.

Both runs are scored on the same draws of people (``lib.score.intervals``), so what they share
cancels. Where one baseline is compared with many runs, one of them is soon better by chance: the
intervals ``low_all`` to ``high_all`` hold for all of them together (``intervals.simultaneous``).
"""

from collections.abc import Mapping

import pandas as pd

from lib.errors import DataError, ParameterError
from lib.score import metrics
from lib.score.intervals import DRAWS, interval, samples, simultaneous, verdict
from lib.task.attributes import Task
from lib.task.tables import parts

Tables = Mapping[str, pd.DataFrame]  # out-of-fold tables by run


def against(difference: pd.Series, draws: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, of its difference from a baseline and that in each draw (draws, runs).

    ``low`` and ``high`` hold for each run by itself (percentiles), ``low_all`` and ``high_all`` for
    all together; ``shown`` is whether the latter leave out 0.
    """
    reach = simultaneous(draws - difference)
    table = pd.DataFrame({"difference": difference}).join(interval(draws))
    table["low_all"], table["high_all"] = difference - reach, difference + reach
    table["shown"] = (table["low_all"] > 0) | (table["high_all"] < 0)
    return table


def compared(
    tables: Tables, task: Task, baseline: str, name: str = "", draws: int = DRAWS
) -> pd.DataFrame:
    """Return ``against`` of all runs but the baseline, with their ``score``, best first.

    ``name`` is an attribute that alone is scored, "" for the task's score. DataError for tables of
    different people: ``comparable`` tells them beforehand.
    """
    scores = pd.Series({run: _score(oof, task, name) for run, oof in tables.items()})
    drawn = samples(tables, task, name=name, draws=draws)
    others = [run for run in tables if run != baseline]
    apart = drawn[others].sub(drawn[baseline], axis=0)
    table = against(scores[others] - scores[baseline], apart)
    table.insert(0, "score", scores[others])
    return table.sort_values("score", ascending=False).rename_axis("run")


def _score(oof: pd.DataFrame, task: Task, name: str) -> float:
    return metrics.summary(oof, task)[name] if name else metrics.score(oof, task)


def comparable(
    tables: Tables, task: Task, baseline: str, name: str = ""
) -> tuple[Tables, dict[str, str]]:
    """Return the tables that can be compared with the baseline's, and why each other cannot."""
    first = tables[baseline]
    reasons = {run: _reason(oof, first, task, name) for run, oof in tables.items()}
    fit = {run: oof for run, oof in tables.items() if not reasons[run]}
    return fit, {run: reason for run, reason in reasons.items() if reason}


def _reason(oof: pd.DataFrame, first: pd.DataFrame, task: Task, name: str) -> str:
    if not name and parts(oof, task) != parts(first, task):
        return f"it predicts {', '.join(parts(oof, task))}"
    if name and name not in metrics.predicted(oof, task):
        return f"it does not predict {name}"
    shared = oof.index.isin(first.index)
    if not shared.all() or len(oof) != len(first):
        return f"it validated {len(oof)} photos, {shared.sum()} of the baseline's {len(first)}"
    return ""


def common(tables: Tables) -> tuple[Tables, str]:
    """Return two runs' tables on the photos that both have predicted, and a sentence about it.

    DataError where there is none.
    """
    (one, first), (other, second) = tables.items()
    shared = first.index.intersection(second.index)
    if shared.empty:
        raise DataError(f"{one} and {other} validated no photo in common: train both on one set")
    people = first.loc[shared, "person"].nunique()
    whole = len(shared) == len(first) == len(second)
    note = f"compared on {len(shared)} photos of {people} people"
    note += "" if whole else f", those that both have ({one}: {len(first)}, {other}: {len(second)})"
    return {one: first.loc[shared], other: second.loc[shared]}, note


def sentence(tables: Tables, task: Task, name: str = "") -> str:
    """Return in words how the second of two runs differs from the first.

    Such as: B is 0.012 better than A, 95 % -0.004 to 0.027: not shown. ParameterError for runs that
    do not predict the same.
    """
    baseline, other = tables
    both, note = common(tables)
    if reason := _reason(both[other], both[baseline], task, name):
        raise ParameterError(f"{other} cannot be compared with {baseline}: {reason}")
    row = compared(both, task, baseline, name).loc[other]
    told = verdict(other, baseline, row["difference"], row["low"], row["high"])
    return f"{told} ({name or 'score'}: {task.metric}, {note})"


def error_correlation(tables: Tables, task: Task) -> pd.DataFrame:
    """Return the correlation (phi) of errors between each two runs, on photos that all have.

    A photo is an error where any part is wrong. NaN for a run that makes no error, or only errors.
    """
    wrong = {run: metrics.wrong(oof, task).any(axis=1) for run, oof in tables.items()}
    return pd.concat(wrong, axis=1, join="inner").astype(float).corr()
