"""How far a score would move with other people: a bootstrap over people.

Photos of one person share their errors, so people are drawn, not photos. Each metric is a function
of sums over people (hits, labels and predictions of each class, losses), counted once per person;
a thousand draws are then one product of matrices. Efron & Tibshirani, An introduction to the
bootstrap, 1993.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.errors import DataError, one_of
from lib.score.metrics import predicted, truth
from lib.task.attributes import Task
from lib.task.tables import parts, probabilities

DRAWS = 1000
LEVEL = 0.95  # of every interval


class Sums:
    """Sums over photos, one row per person or per draw, and the metrics of each row.

    ``found``, ``true`` and ``guessed`` have shape (rows, classes): photos of a class that were
    predicted rightly, that are of it, that were predicted as it. ``squared`` and ``losses`` have
    shape (rows,): squared distances between classes, and negative log-likelihoods.
    """

    def __init__(self, values: np.ndarray, classes: int) -> None:
        self.values, self.classes = values, classes
        ends = classes * np.arange(1, 4)
        self.found, self.true, self.guessed, rest = np.split(values, ends, axis=1)
        self.squared, self.losses = rest.T

    def drawn(self, weights: np.ndarray) -> "Sums":
        """Return the sums of draws in which person ``p`` counts ``weights[draw, p]`` times."""
        return Sums(weights @ self.values, self.classes)

    def f1(self) -> np.ndarray:
        """Return the F1 of each class, NaN where it neither occurs nor is predicted."""
        total = self.true + self.guessed
        return np.divide(2 * self.found, total, out=np.full(total.shape, np.nan), where=total > 0)

    def macro_f1(self) -> np.ndarray:
        """Return the mean F1 over the classes that occur or are predicted."""
        return np.nanmean(self.f1(), axis=1)

    def accuracy(self) -> np.ndarray:
        """Return the share of photos whose class is right."""
        return self.found.sum(axis=1) / self.true.sum(axis=1)

    def balanced_accuracy(self) -> np.ndarray:
        """Return the mean recall over the classes that occur."""
        recall = np.full(self.true.shape, np.nan)
        return np.nanmean(np.divide(self.found, self.true, out=recall, where=self.true > 0), axis=1)

    def quadratic_kappa(self) -> np.ndarray:
        """Return Cohen's kappa with quadratic weights; 1 if all is right."""
        place = np.arange(self.classes)
        moments = [side @ np.stack([place, place**2], 1) for side in (self.true, self.guessed)]
        (true, true2), (guess, guess2) = (moment.T for moment in moments)
        chance = true2 + guess2 - 2 * true * guess / self.true.sum(axis=1)
        share = np.divide(self.squared, chance, out=np.zeros(len(chance)), where=chance > 0)
        return 1 - share

    def log_loss(self) -> np.ndarray:
        """Return the mean log-likelihood of the true class (larger is better)."""
        return -self.losses / self.true.sum(axis=1)


METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "log_loss", "quadratic_kappa")


def by_person(oof: pd.DataFrame, task: Task, name: str) -> Sums:
    """Return a row of sums per person, in the order of their names, of a part or an attribute."""
    if oof.empty:
        raise DataError("intervals need validated people, this table has none; set split: kfold")
    true, guess = truth(oof, task)[name].to_numpy(), predicted(oof, task)[name].to_numpy()
    chances = probabilities(oof, task, name).to_numpy(float)
    eye = np.eye(chances.shape[1])
    tiny = np.finfo(np.float32).eps
    losses = -np.log(chances[np.arange(len(true)), true].clip(tiny))
    columns = [eye[true] * eye[guess], eye[true], eye[guess], (true - guess)[:, None] ** 2]
    rows = pd.DataFrame(np.hstack([*columns, losses[:, None]]), oof["person"].to_numpy())
    return Sums(rows.groupby(level=0).sum().to_numpy(), chances.shape[1])


def resample(strata: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return how often each person is drawn: (draws, people).

    As many people as there are, are drawn with replacement from each stratum.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((draws, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        chances = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), chances, size=draws)
    return weights


def strata(oof: pd.DataFrame, task: Task) -> np.ndarray:
    """Return the stratum of each person, in the order of their names.

    A stratum is one combination of classes of the attributes recorded per person.
    """
    names = task.per("person")
    people = oof.groupby("person", sort=True)["label"].first()
    classes = task.decode(people.to_numpy(int))
    code = np.zeros(len(people), int)
    for name in names:
        code = code * len(task.classes(name)) + classes[name]
    return code


def samples(
    tables: Mapping[str, pd.DataFrame],
    task: Task,
    metric: str = "",
    name: str = "",
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the metric of each out-of-fold table in each draw: (draws, tables).

    All tables are scored on the same draws, so that differences between columns are paired.
    ``metric`` is one of METRICS ("" for the task's), ``name`` a part or an attribute ("" for all
    parts of the tables, averaged). DataError for tables of different people.
    """
    first = next(iter(tables.values()))
    people = np.unique(first["person"])
    odd = [run for run, oof in tables.items() if not np.array_equal(np.unique(oof.person), people)]
    if odd:
        raise DataError(
            f"{odd[0]} and {next(iter(tables))} have different people; train on one set"
        )
    weights = resample(strata(first, task), draws, seed)
    return pd.DataFrame(
        {run: scores(oof, task, weights, metric, name) for run, oof in tables.items()}
    )


def scores(
    oof: pd.DataFrame, task: Task, weights: np.ndarray, metric: str = "", name: str = ""
) -> np.ndarray:
    """Return the metric of one table in each draw of ``weights`` (``resample``): (draws,).

    ``metric`` and ``name`` are those of ``samples``.
    """
    metric = one_of(METRICS, metric or task.metric, "metric")
    names = [name] if name else parts(oof, task)
    each = [getattr(by_person(oof, task, one).drawn(weights), metric)() for one in names]
    return np.mean(each, axis=0)


def interval(samples: pd.DataFrame | pd.Series | np.ndarray) -> pd.DataFrame:
    """Return ``low`` and ``high`` of each column: the middle 95 % of its draws (percentiles)."""
    frame = pd.DataFrame(samples)
    tail = (1 - LEVEL) / 2
    low, high = frame.quantile(tail), frame.quantile(1 - tail)
    return pd.DataFrame({"low": low, "high": high})


def limits(oof: pd.DataFrame, task: Task) -> dict[str, float]:
    """Return ``low`` and ``high`` of a table's score by the task; NaN where nobody is in it."""
    if oof.empty:
        return dict.fromkeys(("low", "high"), float("nan"))
    return interval(samples({"score": oof}, task)).loc["score"].to_dict()


def verdict(run: str, baseline: str, difference: float, low: float, high: float) -> str:
    """Return a difference and its interval in words; of a worse run, how much worse it is."""
    word, low, high = ("worse", -high, -low) if difference < 0 else ("better", low, high)
    shown = "shown" if low > 0 or high < 0 else "not shown"
    reach = f"{LEVEL:.0%}".replace("%", f" % {low:.3f} to {high:.3f}")
    return f"{run} is {abs(difference):.3f} {word} than {baseline}, {reach}: {shown}"


def simultaneous(deviations: pd.DataFrame) -> pd.Series:
    """Return by column how far an interval reaches that holds for all columns at once (max-T).

    ``deviations`` (draws, columns) are differences minus their centre. A reach is the standard
    error times the 95 % quantile of the largest studentised deviation of a draw. Westfall & Young,
    Resampling-based multiple testing, 1993.
    """
    error = deviations.std()
    largest = (deviations / error.where(error > 0)).abs().max(axis=1)
    return error * np.nan_to_num(largest.quantile(LEVEL))


def by_class(oof: pd.DataFrame, task: Task, name: str, draws: int = DRAWS) -> pd.DataFrame:
    """Return a row per class of a part or an attribute: ``f1``, ``low`` and ``high``."""
    counted = by_person(oof, task, name)
    everyone = np.ones((1, len(counted.values)))
    drawn = counted.drawn(resample(strata(oof, task), draws)).f1()
    found = pd.DataFrame({"f1": counted.drawn(everyone).f1()[0]}, list(task.classes(name)))
    limits = interval(pd.DataFrame(drawn, columns=found.index))
    return found.join(limits).rename_axis("class")
