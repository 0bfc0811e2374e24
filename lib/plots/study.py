"""Figures of notebook 09: what each ingredient changes, and how sure that is."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.score import study
from lib.task.attributes import Task


def differences(scores: pd.DataFrame, task: Task, baseline: str) -> Axes:
    """Draw each variant's score minus the baseline's of the same seed, a point per seed."""
    apart = study.differences(scores, task, baseline).drop(index=baseline)
    apart = apart.loc[apart.mean(axis=1).sort_values().index]
    _, axes = plt.subplots(figsize=(8, 1.4 + 0.4 * len(apart)))
    axes.hlines(range(len(apart)), apart.min(axis=1), apart.max(axis=1), color="0.6")
    long = apart.reset_index().melt("variant", var_name="seed", value_name="difference")
    sns.scatterplot(long, x="difference", y="variant", style="seed", color="black", s=60, ax=axes)
    axes.axvline(0, color="black", linewidth=1)
    summary = study.summary(scores, task, baseline).drop(index=baseline)
    clear = summary.difference[summary.difference.abs() > summary.difference_spread]
    told = ", ".join(f"{name} {value:+.3f}" for name, value in clear.items()) or "none"
    axes.set_title(f"Differences larger than the spread over seeds: {told}")
    axes.set(xlabel=f"{_words(task)} minus that of {baseline}, out-of-fold, same seed", ylabel="")
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
