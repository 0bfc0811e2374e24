"""Photos of one person judged together: what is recorded per person is averaged over them.

Test photos come without their person. ``lib.score.same_person`` says which photos probably show one
person, and how surely; here that becomes averages. What is recorded per photo is never averaged.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import block_diag, csr_array

from lib.errors import DataError, ParameterError, one_of, some
from lib.score.ensemble import FLOOR
from lib.task.attributes import LABEL, Task
from lib.task.tables import parts

GROUPINGS = ("none", "appearance")
ROUNDS = 100  # of proportional fitting at most; a few are enough, as a rule
CLOSE = 1e-9  # a marginal that differs by less fits


def check(task: Task, group_test: str) -> None:
    """Raise a ParameterError for an unknown way, or for a task without attributes per person."""
    if one_of(GROUPINGS, group_test, "group_test") != "none" and not task.per("person"):
        raise ParameterError(
            f"group_test={group_test!r}: task {task.name!r} records nothing per person, so photos "
            "of one person have nothing to share; set group_test='none'"
        )


class Weights(NamedTuple):
    """How much each photo (column) counts for each photo (row), both in the order of ``keys``."""

    keys: pd.Index
    matrix: csr_array

    def of(self, keys: pd.Index) -> csr_array:
        """Return the weights among some photos, each row summing to 1; DataError for unknown ones.

        What a photo would have got from photos left out is shared by those that are there.
        """
        rows = self.keys.get_indexer(keys)
        if (rows < 0).any():
            raise DataError(
                f"{some(keys[rows < 0], 'photos')} have no weights: group the photos of these runs"
            )
        found = self.matrix[rows][:, rows]
        return csr_array(found.multiply(1 / found.sum(axis=1)[:, None]))

    def joined(self, other: "Weights") -> "Weights":
        """Return the weights of two sets of photos, which share nothing."""
        matrix = csr_array(block_diag([self.matrix, other.matrix]))
        return Weights(self.keys.append(other.keys), matrix)


def averaged(table: pd.DataFrame, task: Task, weights: csr_array) -> pd.DataFrame:
    """Return ``table`` with what is recorded per person averaged by ``weights`` (N, N).

    The mean is that of the probabilities themselves, not of their logarithms: whatever a photo of
    another person says, it moves a probability by no more than its weight. In a table of labels the
    combinations of all attributes per person are averaged, and the label's probabilities are scaled
    until they agree with that mean and with what the photo says of its other attributes. A photo
    alone stays as it is.
    """
    found = table.copy()
    for part in parts(table, task):
        columns = task.columns(part)
        found[columns] = _averaged(table[columns].to_numpy(float), task, part, weights)
    return found


def _averaged(chances: np.ndarray, task: Task, part: str, weights: csr_array) -> np.ndarray:
    names = task.names if part == LABEL else [part]
    shape = [len(task[name].classes) for name in names]
    axes = sorted(range(len(names)), key=lambda axis: task[names[axis]].per == "person")
    photo = [shape[axis] for axis in axes if task[names[axis]].per == "photo"]
    if len(photo) == len(shape):
        return chances
    order = np.arange(chances.shape[1]).reshape(shape).transpose(axes).ravel()
    joint = chances[:, order].reshape(len(chances), int(np.prod(photo)), -1)
    person = joint.sum(axis=1)
    fitted = fit_marginals(joint, joint.sum(axis=2), weights @ person)
    shared = np.diff(weights.indptr) > 1
    found = chances.copy()
    found[np.ix_(shared, order)] = fitted.reshape(chances.shape)[shared]
    return found


def fit_marginals(joint: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return tables (N, R, C) scaled to marginals (N, R) and (N, C) of equal sums.

    Iterative proportional fitting; Deming & Stephan 1940, Annals of Mathematical Statistics 11.
    """
    joint = joint.clip(FLOOR**2)
    for _ in range(ROUNDS):
        joint = joint * (columns / joint.sum(axis=1).clip(FLOOR**4))[:, None, :]
        joint = joint * (rows / joint.sum(axis=2).clip(FLOOR**4))[:, :, None]
        if np.abs(joint.sum(axis=1) - columns).max(initial=0) < CLOSE:
            break
    return joint
