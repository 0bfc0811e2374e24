"""Scores of prediction tables by the task's metric: overall, by attribute, by class and by fold.

In every score larger is better: the log loss is negated, as scikit-learn's ``neg_log_loss`` is.
A table of several parts scores the mean over its parts.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from lib.errors import DataError, some
from lib.task.attributes import LABEL, Task
from lib.task.tables import attributes, parts, probabilities

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def macro_f1(true: np.ndarray, guess: np.ndarray, chances: np.ndarray) -> float:
    """Return the mean F1 over the classes that occur in the truth or among the predictions.

    A class absent from both has no F1 and is left out, so that a small fold without it is not
    pulled towards 0; a class that is only predicted, or never found, counts as 0.
    """
    classes = range(chances.shape[1])
    return sk.f1_score(true, guess, labels=classes, average="macro", zero_division=np.nan)


def balanced_accuracy(true: np.ndarray, guess: np.ndarray, chances: np.ndarray) -> float:
    """Return the mean recall over the classes that occur in the truth."""
    return sk.recall_score(true, guess, labels=np.unique(true), average="macro", zero_division=0)


def quadratic_kappa(true: np.ndarray, guess: np.ndarray, chances: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights; 1 if all is right, of a single class too."""
    classes = range(chances.shape[1])
    right = (true == guess).all()
    return 1.0 if right else sk.cohen_kappa_score(true, guess, labels=classes, weights="quadratic")


METRICS: dict[str, Metric] = {  # of true and predicted classes (N,) and probabilities (N, classes)
    "macro_f1": macro_f1,
    "accuracy": lambda true, guess, _: sk.accuracy_score(true, guess),
    "balanced_accuracy": balanced_accuracy,
    "log_loss": lambda true, _, shares: -sk.log_loss(true, shares, labels=range(shares.shape[1])),
    "quadratic_kappa": quadratic_kappa,
}


NEGATED = ("log_loss",)  # leaderboards show these without the minus, smaller is better there


def predicted(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the most probable class (int) of each part, by key; equal ones go to the lower class.

    A table of labels has a column for every attribute too: read off the predicted label, as the
    leaderboard would, not off summed probabilities.
    """
    chances = {part: probabilities(table, task, part) for part in parts(table, task)}
    guess = {part: shares.to_numpy().argmax(axis=1) for part, shares in chances.items()}
    decoded = task.decode(guess[LABEL]) if LABEL in guess else {}
    return pd.DataFrame({**guess, **decoded}, table.index)


def truth(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the official classes of an out-of-fold table, in the columns of ``predicted``."""
    if LABEL not in oof or oof[LABEL].isna().any():
        raise DataError(
            "scores need a label in every row: give the out-of-fold table (oof.parquet), "
            "not the test table"
        )
    label = oof[LABEL].to_numpy(int)
    outside = (label < 0) | (label >= prod(task.shape))
    if outside.any():
        raise DataError(
            f"{some(label[outside], 'labels')} are outside 0..{prod(task.shape) - 1}, the labels "
            f"of task {task.name!r}: give the task that the run learned"
        )
    classes = pd.DataFrame({LABEL: label, **task.decode(label)}, oof.index)
    found = parts(oof, task)
    return classes if found == [LABEL] else classes[found]


def wrong(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return for each photo (rows) and each attribute of the table whether it is wrong."""
    names = attributes(oof, task)
    return predicted(oof, task)[names] != truth(oof, task)[names]


def score(oof: pd.DataFrame, task: Task) -> float:
    """Return the task's metric, larger is better; NaN where nobody was validated."""
    return measure(oof, task, task.metric)


def measure(oof: pd.DataFrame, task: Task, metric: str) -> float:
    """Return the mean of a metric over the table's parts; NaN where nobody was validated."""
    return float(np.mean(list(_by_name(oof, task, metric, parts(oof, task)).values())))


def summary(oof: pd.DataFrame, task: Task) -> dict[str, float]:
    """Return the task's metric by its name, ``accuracy``, and the metric of each attribute."""
    return {
        task.metric: score(oof, task),
        "accuracy": measure(oof, task, "accuracy"),
        **_by_name(oof, task, task.metric, attributes(oof, task)),
    }


def _by_name(oof: pd.DataFrame, task: Task, metric: str, names: Sequence[str]) -> dict[str, float]:
    """Return a metric of some parts or attributes."""
    if oof.empty:
        return dict.fromkeys(names, float("nan"))
    tables = truth(oof, task), predicted(oof, task)
    found = {}
    for name in names:
        true, guess = (table[name].to_numpy() for table in tables)
        chances = probabilities(oof, task, name).to_numpy()
        found[name] = float(METRICS[metric](true, guess, chances))
    return found


def confusion(oof: pd.DataFrame, task: Task, name: str) -> pd.DataFrame:
    """Return counts of photos of a part or an attribute: true class (rows) by predicted class."""
    classes = list(task.classes(name))
    true, guess = truth(oof, task)[name], predicted(oof, task)[name]
    counts = sk.confusion_matrix(true, guess, labels=range(len(classes)))
    return pd.DataFrame(counts, pd.Index(classes, name="true"), pd.Index(classes, name="predicted"))


def by_class(oof: pd.DataFrame, task: Task, name: str) -> pd.DataFrame:
    """Return a row per class: ``photos`` (true), ``predicted``, and ``f1`` (NaN if both are 0)."""
    counts = confusion(oof, task, name)
    photos, guesses = counts.sum(axis=1), counts.sum(axis=0)
    f1 = 2 * np.diag(counts) / (photos + guesses).where(photos + guesses > 0)
    return pd.DataFrame({"photos": photos, "predicted": guesses, "f1": f1}).rename_axis("class")


def by_fold(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per fold: ``photos`` and the ``summary`` of that fold."""
    if "fold" not in oof:
        raise DataError(
            "no fold column: runs with different folds share none; train them with the same seed "
            "and fold_count"
        )
    columns = ["photos", *summary(oof[:0], task)]
    folds = oof.groupby("fold")
    rows = {fold: {"photos": len(part), **summary(part, task)} for fold, part in folds}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("fold")


def scores(oof: pd.DataFrame, task: Task) -> dict:
    """Return the ``summary`` and, as ``classes``, ``by_class`` of each part: None for no F1."""
    classes = {}
    for part in parts(oof, task):
        table = by_class(oof, task, part).astype(object)
        classes[part] = table.where(table.notna(), None).to_dict(orient="index")
    return {**summary(oof, task), "classes": classes}
