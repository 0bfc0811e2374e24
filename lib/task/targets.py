"""Soft targets, the one currency of training: a batch carries ``(N, 3, 2, 43)``, probability over mask x gender x year.

Mixing photos mixes this tensor; what a head learns (18 classes, an attribute, age groups by a cut, years) is a sum over it.
"""

import numpy as np
import torch
from torch import Tensor

from lib.task.labels import GENDERS, MASKS, YEARS, age_group

SHAPE = (len(MASKS), len(GENDERS), len(YEARS))


def joint(mask, gender, age) -> Tensor:
    """Return one-hot targets (N, 3, 2, 43) of int arrays; ages outside 18..60 are clipped, as recorded ages are."""
    years = np.clip(np.asarray(age, dtype=int), YEARS[0], YEARS[-1]) - YEARS[0]
    places = np.ravel_multi_index((np.asarray(mask, dtype=int), np.asarray(gender, dtype=int), years), SHAPE)
    return torch.eye(int(np.prod(SHAPE)))[torch.from_numpy(np.atleast_1d(places))].reshape(-1, *SHAPE)


def year_groups(old_from: int) -> Tensor:
    """Return the 0/1 matrix (43, 3) that sums years to age groups at the cut ``old_from``."""
    return torch.eye(3)[torch.from_numpy(age_group(YEARS, old_from))]


def grouped(targets: Tensor, old_from: int) -> Tensor:
    """Sum targets (N, 3, 2, 43) over years: (N, 3, 2, 3) over mask x gender x age group."""
    return targets @ year_groups(old_from).to(targets)


def from_groups(groups: Tensor, year_shares: Tensor, old_from: int) -> Tensor:
    """Spread (N, 3, 2, 3) over years, each group as the people of ``year_shares`` (43,) are spread in it: (N, 3, 2, 43).

    A group without people is spread evenly: its mass is not lost.
    """
    within = year_groups(old_from).T * year_shares.clamp_min(torch.finfo(year_shares.dtype).tiny)
    return groups @ (within / within.sum(1, keepdim=True))
