"""Figures of notebook 07: how the search went, and which parameters matter."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots.style import PALETTE, log_ticks

MARKERS = {"complete": "o", "pruned": "X", "running": "P"}  # a failed trial has no score
COLUMNS = 3  # of the slices
FEWEST = 4  # complete trials from which importance is estimated


def history(table: pd.DataFrame, metric: str) -> Figure:
    """Draw the score of each trial and the best so far, from ``sweep.table``."""
    figure, axes = plt.subplots(figsize=(9, 3.6))
    done = table[table["state"] == "complete"]
    _scatter(axes, table, table.index)
    axes.step(done.index, done["score"].cummax(), where="post", color="0.3", label="best so far")
    if 0 in done.index:
        axes.axhline(done["score"][0], color="0.3", linestyle=":", label="default (trial 0)")
    counts = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
    axes.set(title=f"Trials: {counts}", xlabel="trial", ylabel=_words(metric))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _scatter(axes: Axes, table: pd.DataFrame, places) -> None:
    """Draw scores over places, a marker per state; pruned trials are light."""
    places = pd.Series(places, table.index)
    for state, marker in MARKERS.items():
        rows = table.index[table["state"] == state]
        look = {"color": "black" if state == "complete" else "0.55", "zorder": 3}
        if len(rows):
            axes.scatter(places[rows], table["score"][rows], marker=marker, label=state, **look)


def _words(metric: str) -> str:
    return f"{metric.replace('_', ' ')} of fold 0"


def importance(study: optuna.Study) -> Figure | None:
    """Draw the share of the score's variance that each parameter explains (fANOVA).

    Hutter, Hoos & Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(complete) < FEWEST or len({trial.value for trial in complete}) == 1:
        print(f"Importance needs {FEWEST} complete trials with different scores.")
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = pd.Series(optuna.importance.get_param_importances(study, evaluator=evaluator))
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.4 * len(shares)))
    axes.barh(shares.index, shares, color="0.4")
    axes.bar_label(axes.containers[0], fmt=" %.2f")
    axes.invert_yaxis()
    title = f"{shares.index[0]} matters most, judging by {len(complete)} trials"
    axes.set(title=title, xlabel="share of the variance of scores", xlim=(0, 1.1))
    return figure


def slices(table: pd.DataFrame, study: optuna.Study, metric: str) -> Figure:
    """Draw the score over each parameter that is searched, choices side by side."""
    names = _names(table)
    rows, columns = math.ceil(len(names) / COLUMNS), min(COLUMNS, len(names))
    size = (1.5 + 3.6 * columns, 3.2 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set_xlabel(name)
        _slice(axis, table, name, _distribution(study, name))
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(_words(metric))
    figure.suptitle("Which values score well?", fontweight="bold", x=0.01, ha="left")
    axes.flat[0].legend(fontsize=8)
    return figure


def _names(table: pd.DataFrame) -> list[str]:
    """Return the names of what is searched: the columns behind those of every sweep."""
    return list(table.columns[list(table.columns).index("minutes") + 1 :])


def _distribution(study: optuna.Study, name: str) -> Any:
    trials = study.get_trials(deepcopy=False)
    return next(trial.distributions[name] for trial in trials if name in trial.distributions)


def _slice(axes: Axes, table: pd.DataFrame, name: str, distribution: Any) -> None:
    """Draw scores over one parameter, along the whole range that is searched."""
    places, labels = _places(table[name])
    _scatter(axes, table, places)
    if labels:
        axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
        axes.set_xlim(-0.5, len(labels) - 0.5)
        return
    axes.scatter([distribution.low, distribution.high], [table["score"].mean()] * 2, alpha=0)
    if distribution.log:
        axes.set_xscale("log")
        log_ticks(axes.xaxis)


def _places(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the place of each value on an axis, and the labels where they are choices."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(float), []
    codes, labels = pd.factorize(values, sort=True)
    return codes.astype(float), list(map(str, labels))


def parallel(table: pd.DataFrame, study: optuna.Study, metric: str) -> Figure:
    """Draw each complete trial as a line through its values; the best ones dark and thick."""
    done = table[table["state"] == "complete"].sort_values("score")
    names = [*_names(table), "score"]
    figure, axes = plt.subplots(figsize=(2.2 * len(names) + 1, 4))
    heights = np.column_stack([_height(axes, k, done, n, study) for k, n in enumerate(names)])
    ranks = np.linspace(0, 1, len(done))
    for rank, line in zip(ranks, heights, strict=True):
        color = sns.color_palette(f"{PALETTE}_r", as_cmap=True)(0.25 + 0.75 * rank)
        axes.plot(range(len(names)), line, color=color, linewidth=0.8 + 2.5 * rank**2)
    labels = [*names[:-1], _words(metric)]
    axes.set_xticks(range(len(names)), labels)
    title = "The darker and thicker a line, the better the trial"
    axes.set(title=title, yticks=[], xlim=(-0.2, len(names) - 0.5), ylim=(-0.1, 1.1))
    axes.grid(axis="x", color="0.5")
    return figure


def _height(
    axes: Axes, place: int, table: pd.DataFrame, name: str, study: optuna.Study
) -> np.ndarray:
    """Return the values of a column from 0 to 1, and write some of them at its axis."""
    places, labels = _places(table[name])
    log = name != "score" and getattr(_distribution(study, name), "log", False)
    values = np.log(places) if log else places
    low, span = values.min(), np.ptp(values) or 1.0
    marks: Sequence = [(k, label) for k, label in enumerate(labels)] or [
        (end, f"{np.exp(end) if log else end:.3g}") for end in (values.min(), values.max())
    ]
    for value, text in marks:
        axes.text(place + 0.03, (value - low) / span, text, fontsize=9, va="bottom")
    return (values - low) / span
