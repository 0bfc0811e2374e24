"""Folds over people: stratified by gender x age group, no person ever in two."""

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from lib.errors import DataError, ParameterError, pick
from lib.task.labels import AGE_GROUPS, CLASSES, GENDERS

ALWAYS_TRAINED = -1  # the fold of people whom no fold validates


def _kfold(folds: pd.Series) -> pd.Series:
    return folds


def _holdout(folds: pd.Series) -> pd.Series:
    return folds.where(folds == 0, ALWAYS_TRAINED)


def _none(folds: pd.Series) -> pd.Series:
    return folds.where(folds < 0, ALWAYS_TRAINED)


SPLITS = {"kfold": _kfold, "holdout": _holdout, "none": _none}


def assign(people: pd.DataFrame, split: str, fold_count: int, seed: int) -> pd.Series:
    """Return each person's fold (index: person), from ``people`` indexed by person with gender and age_group.

    ``kfold`` validates every person once; ``holdout`` validates fold 0 alone; ``none`` trains on everyone and validates nobody.
    """
    strata = people["gender"].astype(int) * len(AGE_GROUPS) + people["age_group"].astype(int)
    scarcest = strata.value_counts().min()
    if not 2 <= fold_count <= scarcest:
        group = strata.value_counts().idxmin()
        who = f"{GENDERS[group // len(AGE_GROUPS)]} {AGE_GROUPS[group % len(AGE_GROUPS)]}"
        raise ParameterError(
            f"fold_count={fold_count} must be from 2 to {scarcest}, the number of people in the scarcest group ({who})"
        )
    folds = pd.Series(ALWAYS_TRAINED, index=people.index, name="fold")
    splitter = StratifiedGroupKFold(fold_count, shuffle=True, random_state=seed)
    for fold, (_, validated) in enumerate(splitter.split(people, strata, groups=people.index)):
        folds.iloc[validated] = fold
    return pick(SPLITS, split, "split")(folds)


def numbers(folds: pd.Series) -> list[int]:
    """Return the folds to train: each validated one, or fold 0 alone when nobody is validated."""
    return sorted(set(folds[folds >= 0])) or [0]


def divide(photos: pd.DataFrame, folds: pd.Series, fold: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (training photos, validation photos) of a fold; ``photos`` has a person column, ``folds`` is indexed by person."""
    validated = photos["person"].map(folds) == fold
    training, validation = photos[~validated], photos[validated]
    check_disjoint(training["person"], validation["person"])
    return training, validation


def check_disjoint(training: pd.Series, validation: pd.Series) -> None:
    """Raise DataError when a person is on both sides: a score measured so would be a leak."""
    both = sorted(set(training) & set(validation))
    if both:
        raise DataError(f"{len(both)} people are in training and validation both, first {both[:3]}: make folds by person")


def report(photos: pd.DataFrame, folds: pd.Series) -> pd.DataFrame:
    """Return people, photos and the share of each of the 18 classes by fold: columns are classes, rows folds."""
    fold = photos["person"].map(folds).rename("fold")
    shares = pd.crosstab(fold, photos["label"], normalize="index").reindex(columns=range(len(CLASSES)), fill_value=0.0)
    counts = photos.groupby(fold)["person"].agg(people="nunique", photos="size")
    return pd.concat([counts, shares.set_axis(CLASSES, axis=1)], axis=1)
