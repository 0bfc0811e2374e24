"""Which photos an epoch shows: index arrays that change how often each class is seen.

A sampler takes labels (N,), the classes to balance, and cells (N,), the classes of the people on
the photos. Augmentation makes copies of a photo differ. A new sampler is an entry of SAMPLERS.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.errors import pick


class Classes(NamedTuple):
    """What a sampler balances: a label for each photo, and the cell of its person, both (N,)."""

    labels: np.ndarray
    cells: np.ndarray


Sampler = Callable[[Classes, np.random.Generator], np.ndarray]


def epoch_indices(
    name: str, balance: float, classes: Classes, random: np.random.Generator | int
) -> np.ndarray:
    """Return the positions of the photos that one epoch of a sampler shows, in random order.

    ``random`` is a generator, or a seed.
    """
    rng = np.random.default_rng(random)
    samplers = SAMPLERS | {"weighted": partial(weighted, balance=balance)}
    return rng.permutation(pick(samplers, name, "sampler")(classes, rng))


def weighted(classes: Classes, rng: np.random.Generator, balance: float = 1.0) -> np.ndarray:
    """N draws with replacement, a photo's weight is the count of its class to the power -balance.

    1: each class is equally likely; 0: classes keep their shares; between: partly balanced.
    """
    _, place, counts = np.unique(classes.labels, return_inverse=True, return_counts=True)
    weights = counts[place] ** -float(balance)
    return rng.choice(len(place), len(place), p=weights / weights.sum())


def copy(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Copy and augment (r14): every cell as often as the largest, then every label in a cell."""
    labels, cells = classes
    drawn = _equalise(cells, np.max, rng)
    members = [drawn[cells[drawn] == cell] for cell in np.unique(cells)]
    return np.concatenate([part[_equalise(labels[part], np.max, rng)] for part in members])


SAMPLERS: dict[str, Sampler] = {
    "plain": lambda classes, rng: np.arange(len(classes.labels)),
    "weighted": weighted,
    # Every class as often as the largest; the smallest, drawn again in each epoch; the mean class.
    "oversample": lambda classes, rng: _equalise(classes.labels, np.max, rng),
    "undersample": lambda classes, rng: _equalise(classes.labels, np.min, rng),
    "imbalanced": lambda classes, rng: _equalise(classes.labels, np.mean, rng),
    "copy": copy,
}


def class_shares(labels: np.ndarray, indices: np.ndarray) -> pd.DataFrame:
    """Return photos and their share before and after sampling: a row per class, four columns."""
    photos = pd.Series(labels).value_counts().sort_index().rename_axis("class")
    shown = pd.Series(labels[indices]).value_counts().reindex(photos.index, fill_value=0)
    shares = {"share_before": photos / photos.sum(), "share_after": shown / shown.sum()}
    return pd.DataFrame({"photos": photos, "shown": shown, **shares})


def _equalise(labels: np.ndarray, size_of: Callable, rng: np.random.Generator) -> np.ndarray:
    """Return positions that show every class equally often: ``size_of`` their counts."""
    classes, counts = np.unique(labels, return_counts=True)
    size = round(size_of(counts))
    return np.concatenate([_take(np.flatnonzero(labels == k), size, rng) for k in classes])


def _take(members: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``size`` members: all as many times as fit, the rest drawn without replacement."""
    rounds, rest = divmod(size, len(members))
    return np.concatenate([np.tile(members, rounds), rng.choice(members, rest, replace=False)])
