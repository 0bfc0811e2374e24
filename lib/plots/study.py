"""Figures of notebook 09: what each ingredient changes, and how sure that is."""

from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.explain import study
from lib.plots.compare import draw_intervals, outside_legend
from lib.task.attributes import Task


def differences(scores: pd.DataFrame, summary: pd.DataFrame, task: Task, baseline: str) -> Axes:
    """Draw each variant's score minus the baseline's: a point per seed, intervals over people."""
    table = summary.iloc[::-1]  # the first row is drawn at the bottom
    apart = study.differences(scores, task, baseline).loc[table.index]
    axes = draw_intervals(table)
    for seed, marker in zip(apart, cycle("os^DvP"), strict=False):
        axes.plot(apart[seed], range(len(apart)), marker, color="black", label=f"seed {seed}")
    clear = summary.loc[summary["shown"], "difference"]
    told = ", ".join(f"{name} {value:+.3f}" for name, value in clear.items()) or "none"
    axes.set_title(f"Differences that are shown: {told}")
    axes.set_xlabel(f"{_words(task)} minus that of {baseline}, out-of-fold, same seed")
    outside_legend(axes)
    return axes


def _words(task: Task) -> str:
    return task.metric.replace("_", " ")


def attributes(scores: pd.DataFrame, task: Task) -> Axes:
    """Draw the metric of each attribute (columns) by variant (rows), mean over seeds."""
    means = scores.groupby("variant")[[task.metric, *task.names]].mean()
    means = means.sort_values(task.metric, ascending=False)[task.names]
    _, axes = plt.subplots(figsize=(2 + 1.3 * len(task.names), 1.2 + 0.4 * len(means)))
    sns.heatmap(means, annot=True, fmt=".3f", cmap="Greys", cbar=False, ax=axes)
    xlabel = f"{_words(task)}, mean over seeds"
    axes.set(title="Which attribute makes the difference?", xlabel=xlabel, ylabel="")
    return axes
