"""Scores of prediction tables: macro F1 as the competition counts it, overall, by attribute, by class and by fold."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from lib.errors import DataError
from lib.task.labels import ATTRIBUTE_PROBABILITIES, ATTRIBUTES, CLASSES, PROBABILITIES, by_attribute

TASK_COLUMNS = {"label": PROBABILITIES, **ATTRIBUTE_PROBABILITIES}  # what a table predicts, and its probability columns
CLASS_NAMES = {"label": CLASSES, **ATTRIBUTES}


def task(table: pd.DataFrame) -> str:
    """Return what a prediction table predicts: "label" (18 classes), "mask", "gender" or "age"; DataError if unclear."""
    found = [name for name, columns in TASK_COLUMNS.items() if set(columns) <= set(table.columns)]
    if len(found) != 1:
        accepted = "; ".join(f"{name}: {columns[0]}…{columns[-1]}" for name, columns in TASK_COLUMNS.items())
        raise DataError(f"a prediction table has the columns of one task ({accepted}), this one has {list(table.columns)}")
    return found[0]


def probabilities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the probability columns of a prediction table, in class order."""
    return table[list(TASK_COLUMNS[task(table)])]


def predicted(table: pd.DataFrame) -> pd.Series:
    """Return the most probable class of each row as int, by key; equal probabilities go to the lower class."""
    return pd.Series(probabilities(table).to_numpy().argmax(axis=1), table.index, name="predicted")


def truth(oof: pd.DataFrame) -> np.ndarray:
    """Return the official class of each row: the label 0..17, or its attribute for a single-task table."""
    if "label" not in oof or oof["label"].isna().any():
        raise DataError("scores need a label in every row: give the out-of-fold table (oof.parquet), not the test table")
    label = oof["label"].to_numpy(int)
    return label if task(oof) == "label" else by_attribute(label)[task(oof)]


def macro_f1(labels, predictions, classes: int = len(CLASSES)) -> float:
    """Return the mean F1 over the classes 0..``classes - 1`` that occur in the truth or among the predictions.

    A class absent from both has no F1 and is left out, so that a small fold without it is not pulled towards 0;
    a class that is only predicted, or never found, counts as 0. DataError for a class out of range.
    """
    seen = np.union1d(labels, predictions)
    if not np.isin(seen, range(classes)).all():
        raise DataError(f"classes {np.setdiff1d(seen, range(classes)).tolist()} are outside 0..{classes - 1}")
    return float(f1_score(labels, predictions, labels=range(classes), average="macro", zero_division=np.nan))


def summary(oof: pd.DataFrame) -> dict[str, float]:
    """Return ``macro_f1``, ``accuracy`` and the macro F1 of each attribute in the table (``mask``, ``gender``, ``age``).

    An attribute is read off the predicted label, as the leaderboard would, not from summed probabilities. NaN where nobody
    was validated.
    """
    if oof.empty:
        return dict.fromkeys(["macro_f1", "accuracy", *(ATTRIBUTES if task(oof) == "label" else [task(oof)])], float("nan"))
    name, labels, predictions = task(oof), truth(oof), predicted(oof).to_numpy()
    overall = macro_f1(labels, predictions, len(TASK_COLUMNS[name]))
    pairs = {a: (by_attribute(labels)[a], by_attribute(predictions)[a]) for a in ATTRIBUTES}
    attributes = {a: macro_f1(*pairs[a], len(ATTRIBUTES[a])) for a in ATTRIBUTES} if name == "label" else {name: overall}
    return {"macro_f1": overall, "accuracy": float(accuracy_score(labels, predictions)), **attributes}


def confusion(oof: pd.DataFrame) -> pd.DataFrame:
    """Return counts of photos, true class (rows) by predicted class (columns), all classes of the task, by name."""
    names = list(CLASS_NAMES[task(oof)])
    counts = confusion_matrix(truth(oof), predicted(oof), labels=range(len(names)))
    return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))


def attribute_confusions(oof: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the confusion (counts, true by predicted) of each attribute in the table, by name."""
    if task(oof) != "label":
        return {task(oof): confusion(oof)}
    true, guessed = by_attribute(truth(oof)), by_attribute(predicted(oof).to_numpy())
    return {
        name: pd.DataFrame(confusion_matrix(true[name], guessed[name], labels=range(len(values))), values, values)
        for name, values in ATTRIBUTES.items()
    }


def by_class(oof: pd.DataFrame) -> pd.DataFrame:
    """Return a row a class: ``photos`` (true), ``predicted`` (counts), ``f1`` (NaN where both are 0)."""
    counts = confusion(oof)
    photos, guesses = counts.sum(axis=1), counts.sum(axis=0)
    f1 = 2 * np.diag(counts) / (photos + guesses).where(photos + guesses > 0)
    return pd.DataFrame({"photos": photos, "predicted": guesses, "f1": f1}).rename_axis("class")


def by_fold(oof: pd.DataFrame) -> pd.DataFrame:
    """Return a row a fold: ``photos`` and the ``summary`` of that fold."""
    if "fold" not in oof:
        raise DataError("no fold column: runs with different folds share none; train them with the same seed and fold_count")
    rows = {fold: {"photos": len(part), **summary(part)} for fold, part in oof.groupby("fold")}
    return pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else ["photos", *summary(oof)]).rename_axis("fold")


def scores(oof: pd.DataFrame) -> dict:
    """Return the ``summary`` and, under ``classes``, the ``by_class`` rows; JSON-ready (None for an undefined F1)."""
    classes = by_class(oof).astype(object)
    return {**summary(oof), "classes": classes.where(classes.notna(), None).to_dict(orient="index")}
