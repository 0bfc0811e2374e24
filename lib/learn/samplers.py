"""Which photos an epoch shows: index arrays that change how often each class is seen.

Labels are those of the training fold, an int array (n,): the 18 labels, or one attribute's classes. Classes that the
fold lacks are ignored. The training augmentations make copies of a photo differ.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from lib.errors import pick
from lib.task import labels as codes


def epoch_indices(name: str, labels, rng: np.random.Generator) -> np.ndarray:
    """Return the positions in ``labels`` that one epoch of sampler ``name`` (of SAMPLERS) shows, in random order."""
    sampler = pick(SAMPLERS, name, "sampler")
    return rng.permutation(sampler(np.asarray(labels), rng))


def plain(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every photo once."""
    return np.arange(len(labels))


def weighted(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """n draws with replacement, each class equally likely: shares are equal on average."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return rng.choice(len(labels), len(labels), p=1 / counts[place] / len(counts))


def oversample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the largest: its photos repeated evenly."""
    return _equalise(labels, _counts(labels).max(), rng)


def undersample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the smallest: a fresh draw without replacement each epoch."""
    return _equalise(labels, _counts(labels).min(), rng)


def imbalanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the mean class: rare ones repeated, common ones drawn from; an epoch stays about n long."""
    return _equalise(labels, round(_counts(labels).mean()), rng)


def copy(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copy and augment (r14): all gender x age cells to the largest, then inside each all masks to the most frequent.

    Needs the 18 labels.
    """
    mask, gender, age = codes.decode(labels)
    cell = codes.encode(0, gender, age)
    drawn = oversample(cell, rng)
    cells = [drawn[cell[drawn] == value] for value in np.unique(cell)]
    return np.concatenate([members[oversample(mask[members], rng)] for members in cells])


SAMPLERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "plain": plain,
    "weighted": weighted,
    "oversample": oversample,
    "undersample": undersample,
    "imbalanced": imbalanced,
    "copy": copy,
}


def class_shares(labels, indices: np.ndarray) -> pd.DataFrame:
    """Return what an epoch does to the classes: ``photos``, ``shown``, ``share_before``, ``share_after``, a row a class."""
    labels = np.asarray(labels)
    photos = pd.Series(labels).value_counts().sort_index().rename_axis("class")
    shown = pd.Series(labels[indices]).value_counts().reindex(photos.index, fill_value=0)
    return pd.DataFrame(
        {"photos": photos, "shown": shown, "share_before": photos / photos.sum(), "share_after": shown / shown.sum()}
    )


def _counts(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_counts=True)[1]


def _equalise(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([_take(np.flatnonzero(labels == value), size, rng) for value in np.unique(labels)])


def _take(members: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``size`` of ``members``: all of them as many times as fit, the rest drawn without replacement."""
    rounds, rest = divmod(size, len(members))
    return np.concatenate([np.tile(members, rounds), rng.choice(members, rest, replace=False)])
