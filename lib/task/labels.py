"""The 18 classes: three attributes, one label (``label = 6 mask + 3 gender + age group``).

Age groups are half-open in years: ``<30``, ``30 to old_from - 1`` and ``>= old_from``. The official ``old_from`` is 60;
training may move it (59, 58), validation never does.
"""

import numpy as np
import pandas as pd

from lib.errors import ParameterError

MASKS = ("wear", "incorrect", "normal")
GENDERS = ("male", "female")
AGE_GROUPS = ("<30", "30-59", ">=60")
ATTRIBUTES = {"mask": MASKS, "gender": GENDERS, "age": AGE_GROUPS}
SHAPE = (len(MASKS), len(GENDERS), len(AGE_GROUPS))
CLASSES = tuple(f"{mask} {gender} {age}" for mask in MASKS for gender in GENDERS for age in AGE_GROUPS)

YOUNG_UNTIL = 30  # the first year that is no longer "<30"
OLD_FROM = 60  # the first year that is officially ">=60"
YEARS = np.arange(18, 61)  # recorded ages are clipped to this range at both ends

PROBABILITIES = tuple(f"p{k:02d}" for k in range(len(CLASSES)))
ATTRIBUTE_PROBABILITIES = {name: tuple(f"{name}_{k}" for k in range(len(values))) for name, values in ATTRIBUTES.items()}


def check_old_from(old_from: int) -> int:
    """Return ``old_from`` if it is a year that leaves all three groups inhabited; ParameterError otherwise."""
    if not YOUNG_UNTIL < old_from <= YEARS[-1]:
        raise ParameterError(
            f"old_from={old_from!r} must be a year from {YOUNG_UNTIL + 1} to {YEARS[-1]}; officially {OLD_FROM}"
        )
    return old_from


def age_group(age, old_from: int = OLD_FROM):
    """Return 0, 1 or 2 for ages in years (scalar or array): below 30, from 30, from ``old_from`` on (inclusive)."""
    return np.digitize(age, [YOUNG_UNTIL, check_old_from(old_from)])


def encode(mask, gender, age_group):
    """Return the label 0..17 of mask (0..2), gender (0..1) and age group (0..2); scalars or arrays."""
    return np.ravel_multi_index((mask, gender, age_group), SHAPE)


def decode(label) -> tuple:
    """Return (mask, gender, age group) of labels 0..17; the inverse of ``encode``."""
    return np.unravel_index(label, SHAPE)


def by_attribute(label) -> dict[str, np.ndarray]:
    """Return ``{"mask": …, "gender": …, "age": …}`` for labels 0..17."""
    return dict(zip(ATTRIBUTES, decode(np.asarray(label)), strict=True))


def marginals(probabilities: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sum a table's 18 columns to one frame an attribute (columns ``mask_0`` …), index kept."""
    joint = probabilities[list(PROBABILITIES)].to_numpy().reshape(-1, *SHAPE)
    return {
        name: pd.DataFrame(
            joint.sum(axis=tuple(a for a in (1, 2, 3) if a != axis)), probabilities.index, list(ATTRIBUTE_PROBABILITIES[name])
        )
        for axis, name in enumerate(ATTRIBUTES, start=1)
    }
