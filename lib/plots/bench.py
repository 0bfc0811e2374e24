"""Figures of notebook 08: which bars are reached, and where the time goes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

GREYS = ("0.15", "0.75", "0.45", "0.9", "0.6", "0.3")


def bars(table: pd.DataFrame) -> Figure:
    """Draw how far each measure is beyond its bar (log scale to 10), from rows of ``turns.result``.

    A hollow point is a bar that is missed.
    """
    sides = table["bar"].str.split(expand=True)
    value = table["ratio"].fillna(table["ours"]).clip(lower=1e-3) / sides[1].astype(float)
    beyond = value.where(sides[0] == "≥", 1 / value).clip(0.1, 10)[::-1]
    figure, axes = plt.subplots(figsize=(11, 0.34 * len(table) + 1.6))
    axes.hlines(range(len(beyond)), 1, beyond, color="0.5")
    shade = np.where(table["reached"][::-1], "0.15", "white")
    axes.scatter(beyond, range(len(beyond)), color=shade, edgecolor="0.15", zorder=3)
    axes.axvline(1, color="0.15", linestyle="--")
    axes.set_yticks(range(len(beyond)), (table["measure"] + "  " + table["bar"])[::-1])
    axes.set(
        xscale="log",
        xlabel="times better than its bar, 10 and more at the edge",
        title="Which bars are reached? A hollow point is a miss",
    )
    return figure


def detection_rates(rates: pd.DataFrame) -> Figure:
    """Draw the detection rate by kind of photo and detector, from ``detection.detection_rates``."""
    figure, axes = plt.subplots(figsize=(9, 3.4))
    rates.mul(100).plot.bar(ax=axes, color=GREYS[: rates.shape[1]], edgecolor="0.15", rot=0)
    axes.set(
        title="Is a face found less often than by MTCNN itself?",
        ylabel="photos with a face, %",
        xlabel="",
        ylim=(0, 105),
    )
    axes.legend(loc="lower right", fontsize=8)
    return figure


def step_parts(parts: pd.DataFrame) -> Figure:
    """Draw each part's share of a step, from seconds by part (columns) and model (rows)."""
    shares = parts.div(parts.sum(axis=1), axis=0) * 100
    figure, axes = plt.subplots(figsize=(11, 0.7 * len(parts) + 1.8))
    shares[::-1].plot.barh(
        ax=axes, stacked=True, color=GREYS[: parts.shape[1]], edgecolor="0.15", width=0.7
    )
    axes.set_yticks(
        range(len(parts)),
        [f"{name}\n{1000 * seconds:.0f} ms" for name, seconds in parts.sum(axis=1)[::-1].items()],
    )
    axes.set(
        title="Where does a training step's time go?", xlabel="share of the step, %", xlim=(0, 100)
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


def pictures(table: pd.DataFrame) -> Figure:
    """Draw photos per second by where the pictures are kept (rows).

    The columns are "loader alone" and "training".
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 2.8), sharey=True)
    for axes, name in zip(panels, ("loader alone", "training"), strict=True):
        axes.barh(table.index[::-1], table[name][::-1], color="0.45")
        axes.bar_label(axes.containers[0], fmt="%.0f", padding=3)
        axes.set(title=name, xlabel="photos per second", xlim=(0, 1.2 * table[name].max()))
    figure.suptitle("Does it matter where the pictures are kept?")
    return figure


def memory(costs: pd.DataFrame, limit: float) -> Figure:
    """Draw peak memory (MB) by photos and the ``limit``, a line per stage of ``sets.stage_costs``.

    Dotted is the memory without pages of mapped files.
    """
    figure, axes = plt.subplots(figsize=(9, 3.4))
    for marker, (stage, rows) in zip("os^Dvx", costs.groupby("stage", sort=False), strict=False):
        axes.plot(rows["photos"], rows["megabytes"], marker=marker, color="0.3", label=stage)
        axes.plot(rows["photos"], rows["own"], marker=marker, color="0.6", linestyle=":")
    axes.axhline(limit, color="0.15", linestyle="--")
    axes.set(
        title="Does memory grow with the photos? Dotted: without pages of mapped files",
        xlabel="photos",
        ylabel="peak, MB resident",
        xscale="log",
        ylim=(0, None),
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure
