"""Which photos an epoch shows: index arrays that change how often each class is seen.

A sampler takes labels (N,), the classes to balance, and cells (N,), the classes of the people on
the photos. Classes that the training photos lack are ignored. Augmentation makes copies of a photo
differ. A new sampler is an entry of SAMPLERS.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.errors import pick


class Classes(NamedTuple):
    """What a sampler balances: a label for each photo, and the cell of its person, both (N,)."""

    labels: np.ndarray
    cells: np.ndarray


Sampler = Callable[[Classes, np.random.Generator], np.ndarray]


def epoch_indices(name: str, classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of the photos that one epoch of a sampler shows, in random order."""
    return rng.permutation(pick(SAMPLERS, name, "sampler")(classes, rng))


def plain(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Every photo once."""
    return np.arange(len(classes.labels))


def weighted(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """N draws with replacement, each class equally likely: shares are equal on average."""
    _, place, counts = np.unique(classes.labels, return_inverse=True, return_counts=True)
    return rng.choice(len(place), len(place), p=1 / counts[place] / len(counts))


def oversample(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the largest: its photos repeated evenly."""
    return _equalise(classes.labels, _counts(classes.labels).max(), rng)


def undersample(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the smallest: drawn again without replacement in each epoch."""
    return _equalise(classes.labels, _counts(classes.labels).min(), rng)


def imbalanced(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Every class as often as the mean class, so that an epoch stays about N long."""
    return _equalise(classes.labels, round(_counts(classes.labels).mean()), rng)


def copy(classes: Classes, rng: np.random.Generator) -> np.ndarray:
    """Copy and augment (r14): every cell as often as the largest, then every label in a cell."""
    labels, cells = classes
    drawn = _equalise(cells, _counts(cells).max(), rng)
    members = [drawn[cells[drawn] == cell] for cell in np.unique(cells)]
    shares = [_equalise(labels[part], _counts(labels[part]).max(), rng) for part in members]
    return np.concatenate([part[share] for part, share in zip(members, shares, strict=True)])


SAMPLERS: dict[str, Sampler] = {
    "plain": plain,
    "weighted": weighted,
    "oversample": oversample,
    "undersample": undersample,
    "imbalanced": imbalanced,
    "copy": copy,
}


def class_shares(labels: np.ndarray, indices: np.ndarray) -> pd.DataFrame:
    """Return photos and their share before and after sampling: a row per class, four columns."""
    photos = pd.Series(labels).value_counts().sort_index().rename_axis("class")
    shown = pd.Series(labels[indices]).value_counts().reindex(photos.index, fill_value=0)
    shares = {"share_before": photos / photos.sum(), "share_after": shown / shown.sum()}
    return pd.DataFrame({"photos": photos, "shown": shown, **shares})


def _counts(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_counts=True)[1]


def _equalise(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    classes = np.unique(labels)
    return np.concatenate([_take(np.flatnonzero(labels == k), size, rng) for k in classes])


def _take(members: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``size`` members: all as many times as fit, the rest drawn without replacement."""
    rounds, rest = divmod(size, len(members))
    return np.concatenate([np.tile(members, rounds), rng.choice(members, rest, replace=False)])
