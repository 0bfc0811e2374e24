"""Probabilities made as sure as they are right: a temperature for each attribute.

Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599. A probability is raised
to the power 1/temperature. In a table of labels each attribute has a temperature of its own: the
label's probability is multiplied by a power of each attribute's marginal.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from lib.errors import DataError, ParameterError
from lib.score.ensemble import COUNTED, FLOOR
from lib.score.metrics import truth
from lib.task.attributes import Task
from lib.task.tables import parts, probabilities

BOUNDS = (0.05, 20.0)  # of a power: further away there is nothing but certainty, or nothing at all


def check(vote: str, calibrate: bool) -> None:
    """Raise a ParameterError where a vote gives no probabilities that could be calibrated."""
    if calibrate and vote in COUNTED:
        raise ParameterError(
            f"calibrate=true: vote={vote!r} gives shares of votes, not probabilities; set "
            "calibrate=false, or another vote"
        )


def fit(oof: pd.DataFrame, task: Task) -> dict[str, float]:
    """Return the temperature of each attribute of a table that makes its log loss lowest.

    Above 1 the probabilities were too sure, below 1 not sure enough. DataError without rows.
    """
    if oof.empty:
        raise DataError(
            "temperatures are learned from validated people, there are none; set calibrate=false"
        )
    found: dict[str, float] = {}
    for part in parts(oof, task):
        names = [part] if part in task.names else task.names
        chances, marginals = _logs(oof, task, part, names)
        true = truth(oof, task)[part].to_numpy()
        best = minimize(_loss, np.ones(len(names)), (chances, marginals, true), jac=True,
                        bounds=[BOUNDS] * len(names))  # fmt: skip
        found |= dict(zip(names, (1 / best.x).tolist(), strict=True))
    return found


def apply(table: pd.DataFrame, task: Task, temperatures: Mapping[str, float]) -> pd.DataFrame:
    """Return ``table`` at other temperatures, by attribute."""
    found = table.copy()
    for part in parts(table, task):
        names = [part] if part in task.names else task.names
        powers = np.array([1 / temperatures[name] for name in names])
        found[task.columns(part)] = np.exp(_scaled(powers, *_logs(table, task, part, names)))
    return found


def _logs(
    table: pd.DataFrame, task: Task, part: str, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities (N, C) of a part, and of its attributes' marginals (K, N, C)."""
    classes = np.arange(len(task.columns(part)))
    codes = {part: classes} if part in task.names else task.decode(classes)
    logs = {name: _log(probabilities(table, task, name), FLOOR) for name in names}
    marginals = np.stack([logs[name][:, codes[name]] for name in names])
    return _log(probabilities(table, task, part), FLOOR ** len(names)), marginals


def _log(chances: pd.DataFrame, floor: float) -> np.ndarray:
    return np.log(chances.to_numpy(float).clip(floor))


def _scaled(powers: np.ndarray, chances: np.ndarray, marginals: np.ndarray) -> np.ndarray:
    """Return log-probabilities (N, C) in which each marginal counts with its power."""
    logits = chances + np.tensordot(powers - 1, marginals, axes=1)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _loss(
    powers: np.ndarray, chances: np.ndarray, marginals: np.ndarray, true: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the mean log loss, which is convex in the powers, and its gradient."""
    logs, rows = _scaled(powers, chances, marginals), np.arange(len(true))
    expected = (np.exp(logs) * marginals).sum(axis=2).mean(axis=1)
    return -logs[rows, true].mean(), expected - marginals[:, rows, true].mean(axis=1)
