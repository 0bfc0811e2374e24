"""From probabilities to the class that is submitted: a rule for each part of a table.

``argmax`` takes the most probable class. ``expected_f1`` takes the classes whose macro F1 is
expected to be highest if the probabilities are right. ``offsets`` adds a number per class to the
log-probabilities, learned from out-of-fold rows.
"""

import numpy as np
import pandas as pd

from lib.errors import DataError, ParameterError, one_of
from lib.score.ensemble import COUNTED, FLOOR
from lib.score.intervals import Sums
from lib.score.metrics import truth
from lib.task.attributes import Task
from lib.task.tables import parts, probabilities

DECISIONS = ("argmax", "expected_f1", "offsets")  # the simplest first
SWEEPS = 10  # over all classes; offsets have settled earlier, as a rule
CLOSE = 1e-9  # scores that differ by less are equal


def sensible(task: Task, vote: str) -> list[str]:
    """Return the decisions that have a meaning for a task and a vote, the simplest first."""
    if task.metric == "log_loss" or task.answer.format == "probabilities" or vote in COUNTED:
        return ["argmax"]
    return [rule for rule in DECISIONS if rule != "expected_f1" or task.metric == "macro_f1"]


def check(task: Task, vote: str, decision: str) -> None:
    """Raise a ParameterError that says why a decision has no meaning for a task and a vote."""
    if one_of(DECISIONS, decision, "decision") in sensible(task, vote):
        return
    if vote in COUNTED:
        why = f"vote={vote!r} gives shares of votes, not probabilities"
    elif task.answer.format == "probabilities":
        why = f"task {task.name!r} submits probabilities, so no class is chosen"
    else:
        why = f"it does not serve the metric {task.metric} of task {task.name!r}"
    raise ParameterError(
        f"decision={decision!r}: {why}; take one of: {', '.join(sensible(task, vote))}"
    )


def decide(oof: pd.DataFrame, table: pd.DataFrame, task: Task, decision: str) -> pd.DataFrame:
    """Return ``table`` with 1 for the class chosen for each part and 0 for all others.

    Offsets are learned from ``oof``; DataError if it has no rows. For "argmax" the table itself is
    returned: its most probable classes are the choice.
    """
    one_of(DECISIONS, decision, "decision")
    if decision == "argmax":
        return table
    chosen = table.copy()
    for part in parts(table, task):
        columns = task.columns(part)
        guess = _guess(oof, table, task, part, decision)
        chosen[columns] = np.eye(len(columns))[guess]
    return chosen


def _guess(
    oof: pd.DataFrame, table: pd.DataFrame, task: Task, part: str, decision: str
) -> np.ndarray:
    chances = probabilities(table, task, part).to_numpy(float)
    if decision == "expected_f1":
        return expected_f1(chances)
    if oof.empty:
        raise DataError("offsets are learned from validated people, there are none; take argmax")
    known = probabilities(oof, task, part).to_numpy(float)
    offsets = fit_offsets(known, truth(oof, task)[part].to_numpy(), task.metric)
    return (_logs(chances) + offsets).argmax(axis=1)


def expected_f1(chances: np.ndarray) -> np.ndarray:
    """Return the classes (N,) that make the expected macro F1 of probabilities (N, C) highest.

    F1 of class k is taken as 2 s / (n + m): ``n`` the sum of its probabilities, ``m`` the number of
    photos given to it, ``s`` their probabilities of it. From the most probable classes on, one
    photo after the other moves where this gains most, until none moves: no move of a single photo
    is then better. All photos are decided together. Lipton, Elkan & Naryanaswamy, Optimal
    thresholding of classifiers to maximize F1 measure, ECML 2014.
    """
    guess, moved = chances.argmax(axis=1), True
    eye = np.eye(chances.shape[1])
    size = chances.sum(axis=0) + eye[guess].sum(axis=0)
    hits = (chances * eye[guess]).sum(axis=0)
    while moved:
        moved = False
        for photo, chance in enumerate(chances):
            old = guess[photo]
            size[old] -= 1
            hits[old] -= chance[old]
            gain = (chance - hits / size.clip(FLOOR)) / (size + 1)  # half of what F1 gains
            new = gain.argmax()
            if gain[new] > gain[old] + CLOSE / len(chances):
                guess[photo], moved = new, True
            size[guess[photo]] += 1
            hits[guess[photo]] += chance[guess[photo]]
    return guess


def fit_offsets(chances: np.ndarray, true: np.ndarray, metric: str) -> np.ndarray:
    """Return offsets (C,) of log-probabilities whose largest class scores best: (N, C), (N,).

    Coordinate ascent: one class after the other gets its best offset, given all others, until
    nothing improves. Offsets sum to 0.
    """
    logs, offsets = _logs(chances), np.zeros(chances.shape[1])
    for _ in range(SWEEPS):
        before = offsets.copy()
        for k in range(len(offsets)):
            offsets[k] = _best_offset(logs, offsets, k, true, metric)
        if (offsets == before).all():
            break
    return offsets - offsets.mean()


def _logs(chances: np.ndarray) -> np.ndarray:
    return np.log(chances.clip(FLOOR))


def _best_offset(
    logs: np.ndarray, offsets: np.ndarray, k: int, true: np.ndarray, metric: str
) -> float:
    """Return the best offset of class ``k``, the present one unless another scores higher.

    Class k takes a photo from its rival, the best of the other classes, where the offset is above
    the photo's gap. Between two gaps the score is constant, so each such step is scored once.
    """
    others = logs + offsets
    others[:, k] = -np.inf
    order = np.argsort(others.max(axis=1) - logs[:, k], kind="stable")
    rival, true = others.argmax(axis=1)[order], true[order]
    gaps = (others.max(axis=1) - logs[:, k])[order]
    scores = getattr(_steps(rival, true, k, logs.shape[1]), metric)()
    edges = np.concatenate([[gaps[0] - 2], gaps, [gaps[-1] + 2]])
    scores[np.diff(edges) <= 0] = -np.inf  # equal gaps are passed together
    if scores.max() <= scores[np.searchsorted(gaps, offsets[k])] + CLOSE:
        return offsets[k]
    middles = ((edges[1:] + edges[:-1]) / 2)[scores >= scores.max() - CLOSE]
    return middles[np.abs(middles - offsets[k]).argmin()]


def _steps(rival: np.ndarray, true: np.ndarray, k: int, classes: int) -> Sums:
    """Return sums after the first 0, 1, … N photos were taken from their rivals by class ``k``."""
    eye, size = np.eye(classes), len(true)
    mine = np.full(size, k)
    before, after = (_columns(true, guess, eye) for guess in (rival, mine))
    start = before.sum(axis=0)
    return Sums(start + np.vstack([0 * start, (after - before).cumsum(axis=0)]), classes)


def _columns(true: np.ndarray, guess: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Return what each photo adds to the sums; no decision changes a likelihood."""
    rest = np.stack([(true - guess) ** 2, np.zeros(len(true))], axis=1)
    return np.hstack([eye[true] * eye[guess], eye[true], eye[guess], rest])
