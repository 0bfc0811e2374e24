"""Honest estimates of ensembles and decisions, and the simplest method within noise.

A method that learns from labels (weights, a regression, offsets) looks better on the people it has
learned from than on others. So each outer fold of people plays the test photos once: everything is
learned from the other people only, by the code that makes a submission. The runs themselves are not
trained again: their models predicted each person without having seen that person, but they have
seen the people of other folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from lib.errors import DataError
from lib.score import decisions, ensemble, intervals, metrics
from lib.score.between import Between
from lib.score.ensemble import Tables
from lib.task.attributes import Task

Pair = tuple[Tables, Tables]

OUTER_FOLDS = 5  # where the runs do not share their folds
FEWEST = 20  # as many validated people are needed to learn something
PLAIN = Between()
VOTES = ("best", *ensemble.VOTES, "greedy", "stacked")  # the simplest first: one run, not many


class Method(NamedTuple):
    """How runs are combined, and how classes are chosen from the combined probabilities."""

    vote: str
    decision: str

    def __str__(self) -> str:
        """Return the method in words of the parameters."""
        return f"{self.vote}, {self.decision}"

    @property
    def learns(self) -> bool:
        """Whether something is learned from labels."""
        return self.vote not in ensemble.VOTES or self.decision == "offsets"


def methods(tables: Tables, task: Task, chosen: Method) -> list[Method]:
    """Return the methods worth comparing, the simplest first, and ``chosen`` among them.

    They are ordered by the decision (argmax, expected_f1, offsets), then by VOTES: a single run is
    simpler than several, and what learns nothing is simpler than what learns. All votes over a
    single run are that run, except "stacked". Of fewer than FEWEST people nothing is learned.
    ParameterError if ``chosen`` has no meaning for the task.
    """
    decisions.check(task, chosen.vote, chosen.decision)
    votes = VOTES if len(tables) > 1 else ("soft", "stacked")
    found = [Method(vote, rule) for vote in votes for rule in decisions.sensible(task, vote)]
    if _people(tables) < FEWEST:
        found = [method for method in found if not method.learns]
    return sorted({*found, chosen}, key=_complexity)


def _complexity(method: Method) -> tuple[int, int]:
    return decisions.DECISIONS.index(method.decision), VOTES.index(method.vote)


def _people(tables: Tables) -> int:
    return next(iter(tables.values()))["person"].nunique()


def estimate(
    tables: Tables,
    task: Task,
    methods: Sequence[Method],
    weights: Sequence[float] = (),
    between: Between = PLAIN,
) -> dict[Method, pd.DataFrame]:
    """Return each method's out-of-fold table, in which nobody influences what scores them.

    ``tables`` are out-of-fold tables of whole runs, ``weights`` the user's, for methods that take
    them; ``between`` is done to all of them before classes are chosen. Rows are in the order of the
    first table. DataError if a method learns and there are fewer than FEWEST people.
    """
    aligned = ensemble.align(tables, task)
    keys = next(iter(aligned.values())).index
    given = dict.fromkeys(ensemble.VOTES, weights)
    everyone: list[Pair] = [(aligned, aligned)]  # nothing is learned from the first
    splits = {True: _outer(aligned), False: everyone}

    @cache
    def combined(vote: str, learns: bool) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
        weights = given.get(vote, ())
        voted = [ensemble.combine(*pair, task, vote, weights) for pair in splits[learns]]
        return [between.apply(*pair, task) for pair in voted]

    found = {}
    for method in methods:
        learns = method.learns or between.calibrate
        _check_people(method, learns, _people(aligned))
        pairs = combined(method.vote, learns)
        decided = [decisions.decide(*pair, task, method.decision) for pair in pairs]
        found[method] = pd.concat(decided).loc[keys]
    return found


def _check_people(method: Method, learns: bool, people: int) -> None:
    if learns and people < FEWEST:
        raise DataError(
            f"{method}: this learns from at least {FEWEST} validated people, there are {people}; "
            "take a vote that learns nothing, argmax, and calibrate=false"
        )


def _outer(tables: Tables) -> list[Pair]:
    """Return pairs of tables: the people outside and inside each outer fold."""

    def at(rows: np.ndarray) -> Tables:
        return {run: table.iloc[rows] for run, table in tables.items()}

    folds = _folds(tables) if _people(tables) >= FEWEST else []
    return [(at(others), at(held)) for others, held in folds]


def _folds(tables: Tables) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows outside and inside each fold: the folds of all runs, or new ones by person."""
    first = next(iter(tables.values()))
    shared = ensemble.facts(tables).get("fold", pd.Series(0, first.index))
    if shared.nunique() > 1:
        return list(LeaveOneGroupOut().split(first, groups=shared))
    return list(GroupKFold(OUTER_FOLDS).split(first, groups=first["person"]))


@dataclass(frozen=True)
class Comparison:
    """Nested scores of methods, the simplest first, and their draws of a bootstrap over people."""

    scores: pd.Series
    draws: pd.DataFrame

    def gains(self, base: Method) -> pd.DataFrame:
        """Return ``gain``, ``low`` and ``high`` of each method compared with ``base``.

        Differences are paired: both scores are of the same people in each draw. The intervals are
        simultaneous: all of them hold the true difference at once in 95 % of cases
        (``intervals.simultaneous``).
        """
        gain = self.scores - self.scores[base]
        apart = self.draws.sub(self.draws[base], axis=0)
        width = intervals.simultaneous(apart - apart.mean())
        return pd.DataFrame({"gain": gain, "low": gain - width, "high": gain + width})

    @property
    def simplest(self) -> Method:
        """The first method."""
        return Method(*self.scores.index[0])

    @property
    def recommended(self) -> Method:
        """The simplest method that no other one is shown to beat."""
        bases = (Method(*key) for key in self.scores.index)
        return next(base for base in bases if not (self.gains(base)["low"] > 0).any())

    def facts(self, chosen: Method) -> dict[str, object]:
        """Return what a submission's JSON says about the choice of its method."""
        row = self.table().loc[chosen]
        return {
            "decision": chosen.decision,
            "nested_interval": [row.low, row.high],
            "recommended": str(self.recommended),
            "why": self.why(),
            "decision_uses_all_test_photos": chosen.decision == "expected_f1",
        }

    def table(self) -> pd.DataFrame:
        """Return a row per method: score and interval, gain over the simplest and interval."""
        gains = self.gains(self.simplest).add_prefix("gain_").rename(columns={"gain_gain": "gain"})
        score = pd.DataFrame({"score": self.scores}).join(intervals.interval(self.draws))
        return score.join(gains).rename_axis(["vote", "decision"])

    def why(self) -> str:
        """Return the recommendation and its reason in sentences."""
        if self.scores.isna().all():
            return "Nobody was validated, so methods cannot be compared."
        method, row = self.recommended, self.table().loc[self.recommended]
        score = f"nested score {row.score:.3f} ({row.low:.3f} to {row.high:.3f})"
        others = self.gains(method).drop(index=[method])
        if others.empty:
            return f"Recommended: {method}, the only method; {score}."
        best = others.loc[others["gain"].idxmax()]
        next_best = f"{Method(*best.name)} ({best.gain:+.3f}, {best.low:+.3f} to {best.high:+.3f})"
        return (
            f"Recommended: {method}, the simplest method that no other is shown to beat; {score}. "
            f"The best of the others, compared with it: {next_best}."
        )

    def advice(self, chosen: Method) -> str:
        """Return ``why``, and what to set where ``chosen`` differs from the recommendation."""
        if chosen == self.recommended:
            return f"{self.why()} Your parameters take it."
        return (
            f"{self.why()} Your parameters take {chosen}, and that is what is written: to follow "
            f"the recommendation, set vote={self.recommended.vote!r} and "
            f"decision={self.recommended.decision!r}."
        )


class Effect(NamedTuple):
    """What a step gains on the same people: two scores, their difference, its 95 % interval."""

    before: float
    after: float
    gain: float
    low: float
    high: float

    def advice(self, parameter: str, off: str, on: str) -> str:
        """Return the gain and in one sentence whether it is shown, and what to set."""
        if np.isnan(self.gain):
            return f"Nobody was validated, so no gain is shown: set {parameter}={off}."
        told = f"{self.gain:+.3f}, 95 % from {self.low:+.3f} to {self.high:+.3f}"
        if self.low > 0:
            return f"The gain is shown ({told}): {parameter}={on} is recommended."
        return f"No gain is shown ({told}): {parameter}={off} is recommended."


def effect(before: pd.DataFrame, after: pd.DataFrame, task: Task, metric: str = "") -> Effect:
    """Return what a step gains by a metric ("": the task's), from two nested out-of-fold tables."""
    metric = metric or task.metric
    scores = [metrics.measure(table, task, metric) for table in (before, after)]
    low = high = float("nan")
    if len(before):
        draws = intervals.samples({"before": before, "after": after}, task, metric)
        low, high = intervals.interval(draws["after"] - draws["before"]).iloc[0]
    return Effect(scores[0], scores[1], scores[1] - scores[0], low, high)


def compare(estimates: dict[Method, pd.DataFrame], task: Task) -> Comparison:
    """Score the tables of ``estimate`` by the task's metric, all on the same draws of people."""
    scores = pd.Series({method: metrics.score(oof, task) for method, oof in estimates.items()})
    if scores.isna().all():
        return Comparison(scores, pd.DataFrame(np.nan, [0], scores.index))
    draws = intervals.samples({str(method): oof for method, oof in estimates.items()}, task)
    return Comparison(scores, draws.set_axis(scores.index, axis=1))
