"""Weights of runs that are learned from their out-of-fold predictions.

A *part* is a pair: the runs' probabilities (runs, photos, classes) and the true classes (photos,).
A table of several parts gives several pairs, and the runs have the same weights in all of them.
"""

from collections.abc import Sequence

import numpy as np

from lib.score.intervals import Sums

Part = tuple[np.ndarray, np.ndarray]

STEPS = 20  # runs are added up to so many times: weights are multiples of a twentieth or coarser


def measured(true: np.ndarray, chances: np.ndarray, metric: str) -> float:
    """Return a metric of probabilities (N, C), as ``metrics.METRICS``, but in microseconds."""
    guess, classes = chances.argmax(axis=1), chances.shape[1]
    columns = [true[true == guess], true, guess]
    counts = [np.bincount(column, minlength=classes) for column in columns]
    likely = chances[np.arange(len(true)), true].clip(np.finfo(np.float32).eps)
    rest = [((true - guess) ** 2).sum(), -np.log(likely).sum()]
    sums = Sums(np.concatenate([*counts, rest])[None], classes)
    return float(getattr(sums, metric)()[0])


def score(parts: Sequence[Part], weights: np.ndarray, metric: str) -> float:
    """Return the metric of the runs' weighted mean, averaged over parts."""
    means = [(true, np.tensordot(weights, members, axes=1)) for members, true in parts]
    return float(np.mean([measured(true, chances, metric) for true, chances in means]))


def greedy(parts: Sequence[Part], metric: str, steps: int = STEPS) -> np.ndarray:
    """Return weights (runs,) by forward selection with replacement.

    Each step adds the run whose vote raises the score most, once more if it is already in. The best
    step counts, the earliest of equal ones. Caruana et al., Ensemble selection from libraries of
    models, ICML 2004.
    """
    runs = len(parts[0][0])
    counts, path = np.zeros(runs), []
    for _ in range(steps):
        trials = counts + np.eye(runs)
        scores = [score(parts, trial / trial.sum(), metric) for trial in trials]
        counts = trials[np.argmax(scores)]
        path.append((max(scores), counts / counts.sum()))
    return max(path, key=lambda step: step[0])[1]


def best(parts: Sequence[Part], metric: str) -> np.ndarray:
    """Return weight 1 for the run with the highest score, 0 for all others."""
    return greedy(parts, metric, steps=1)


LEARNED = {"best": best, "greedy": greedy}
