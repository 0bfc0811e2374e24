"""Whether the run that a search chose is better than the default, beyond the noise of choosing.

The best of many runs scores too well on the people who chose it. Here each fold is scored by the
run that is best on the people of all other folds; the fold that chose the finalists scores none.
Cawley & Talbot 2010, On over-fitting in model selection, JMLR 11.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from lib.errors import DataError
from lib.score import intervals
from lib.score.metrics import score
from lib.task.attributes import Task

Tables = Mapping[str, pd.DataFrame]  # out-of-fold tables of the same photos and folds, by run


class Gain(NamedTuple):
    """The nested estimate: ``chosen`` run of each fold scored, and scores on those folds' people.

    ``difference`` is ``score`` minus the default's; ``low`` and ``high`` are its 95 % interval over
    people. It does not hold what another seed of the training would change.
    """

    chosen: dict[int, str]
    score: float
    default: float
    difference: float
    low: float
    high: float

    def verdict(self) -> str:
        """Return in one sentence whether the choice is better than the default."""
        limits = self.difference, self.low, self.high
        told = intervals.verdict("the choice", "the default", *limits)
        return f"On people who did not choose it, {told}."


def best(tables: Tables, task: Task) -> str:
    """Return the run with the best score; of equal ones the first."""
    return max(tables, key=lambda run: score(tables[run], task))


def gain(tables: Tables, task: Task, default: str, seen: int) -> Gain:
    """Return the nested estimate; ``seen`` is the fold on which the runs were chosen before."""
    folds = sorted(set(tables[default]["fold"]) - {seen})
    if not folds:
        raise DataError(f"every photo is in fold {seen}, which chose the runs: train all folds")
    chosen = {fold: best(_others(tables, fold), task) for fold in folds}
    parts = [tables[run][tables[run]["fold"] == fold] for fold, run in chosen.items()]
    usual = tables[default][tables[default]["fold"].isin(folds)]
    compared = {"chosen": pd.concat(parts), "default": usual}
    drawn = intervals.samples(compared, task)
    low, high = intervals.interval(drawn["chosen"] - drawn["default"]).iloc[0]
    ours, usually = (score(table, task) for table in compared.values())
    return Gain(chosen, ours, usually, ours - usually, low, high)


def _others(tables: Tables, fold: int) -> Tables:
    return {run: table[table["fold"] != fold] for run, table in tables.items()}
