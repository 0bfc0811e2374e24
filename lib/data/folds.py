"""Folds over people: balanced by what is recorded of them, nobody ever in two."""

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from lib.errors import DataError, ParameterError, pick
from lib.task.attributes import Task

ALWAYS_TRAINED = -1  # the fold of people who are never validated
SPLITS = {  # by name, which folds validate somebody
    "kfold": lambda fold: fold >= 0,
    "holdout": lambda fold: fold == 0,
    "none": lambda fold: fold < 0,
}


def balanced_over(photos: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the rows that folds are balanced over, by person: people, or else photos.

    What is recorded per person decides. A task that records nothing per person has photos of
    several classes in a group, and each of them counts.
    """
    names = task.per("person")
    people = photos.groupby("person", sort=False)
    return people[names].first() if names else photos.set_index("person")[task.names]


def assign(rows: pd.DataFrame, task: Task, split: str, fold_count: int, seed: int) -> pd.Series:
    """Return each person's fold; ``rows`` are those of ``balanced_over``.

    ``kfold`` validates every person once; ``holdout`` validates fold 0 alone; ``none`` trains on
    everyone and validates nobody, so that any number of folds will do.
    """
    validates = pick(SPLITS, split, "split")
    folds = pd.Series(ALWAYS_TRAINED, index=rows.index.unique(), name="fold")
    if split == "none":
        return folds
    strata = task.strata(rows).astype(int)
    _check_count(strata, task, fold_count)
    splitter = StratifiedGroupKFold(fold_count, shuffle=True, random_state=seed)
    for fold, (_, validated) in enumerate(splitter.split(rows, strata, groups=rows.index)):
        folds[rows.index[validated]] = fold
    return folds.where(validates(folds), ALWAYS_TRAINED)


def _check_count(strata: pd.Series, task: Task, fold_count: int) -> None:
    people = strata.index.to_series().groupby(strata.to_numpy()).nunique()
    names = task.combinations(task.per("person") or task.names)
    scarcest, group = people.min(), names[people.idxmin()]
    if scarcest < 2:
        raise ParameterError(
            f"only {scarcest} person is {group}, and folds need two of each group: take "
            "split='none', or leave that person out"
        )
    if not 2 <= fold_count <= scarcest:
        bounds = f"from 2 to {scarcest}" if scarcest > 2 else "2"
        raise ParameterError(
            f"fold_count={fold_count} must be {bounds}: each fold needs a person of each group, "
            f"and {scarcest} people are {group} (fewer people with people_limit)"
        )


def numbers(folds: pd.Series) -> list[int]:
    """Return the folds to train: each validated one, or fold 0 alone when nobody is validated."""
    return sorted(set(folds[folds >= 0])) or [0]


def divide(photos: pd.DataFrame, folds: pd.Series, fold: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (training photos, validation photos) of a fold; ``folds`` is indexed by person."""
    validated = photos["person"].map(folds) == fold
    training, validation = photos[~validated], photos[validated]
    check_disjoint(training["person"], validation["person"])
    return training, validation


def check_disjoint(training: pd.Series, validation: pd.Series) -> None:
    """Raise DataError when a person is on both sides: a score measured so would be a leak."""
    if both := sorted(set(training) & set(validation)):
        raise DataError(
            f"{len(both)} people are in training and validation both, first {both[:3]}: "
            "make folds by person"
        )


def report(photos: pd.DataFrame, folds: pd.Series, task: Task) -> pd.DataFrame:
    """Return people, photos and the share of every class by fold: rows are folds.

    Classes are those of the label, or of each attribute where the task has too many labels.
    """
    fold = photos["person"].map(folds).rename("fold")
    counts = photos.groupby(fold)["person"].agg(people="nunique", photos="size")
    classes = {"label": photos["label"].astype(int)} if task.joint else task.groups(photos)
    tables = [counts]
    for name, found in classes.items():
        shares, names = pd.crosstab(fold, found, normalize="index"), task.classes(name)
        shares = shares.reindex(columns=range(len(names)), fill_value=0.0)
        tables.append(shares.set_axis(names, axis=1))
    return pd.concat(tables, axis=1)
