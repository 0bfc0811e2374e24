"""Figures of notebook 08: which bars are reached, and where the time goes."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.plots.style import log_ticks

GREYS = ("0.15", "0.75", "0.45", "0.9", "0.6", "0.3")


def bars(table: pd.DataFrame) -> Figure:
    """Draw how far measures are beyond their bars (log scale to 10), from ``turns.result``."""
    sides = table["bar"].str.split(expand=True)
    value = table["ratio"].fillna(table["ours"]).clip(lower=1e-3) / sides[1].astype(float)
    beyond = value.where(sides[0] == "≥", 1 / value).clip(0.1, 10)[::-1]
    figure, axes = plt.subplots(figsize=(11, 0.34 * len(table) + 1.6))
    axes.hlines(range(len(beyond)), 1, beyond, color="0.5")
    shade = np.where(table["reached"][::-1], "0.15", "white")
    axes.scatter(beyond, range(len(beyond)), color=shade, edgecolor="0.15", zorder=3)
    axes.axvline(1, color="0.15", linestyle="--")
    axes.set_yticks(range(len(beyond)), (table["measure"] + "  " + table["bar"])[::-1])
    axes.set(xscale="log", xlabel="times better than its bar, 10 and more at the edge")
    log_ticks(axes.xaxis)
    axes.set_title("Which bars are reached? A hollow point is a miss")
    return figure


def detection_rates(rates: pd.DataFrame) -> Figure:
    """Draw the detection rate by kind of photo and detector, from ``detection.detection_rates``."""
    look = {"figsize": (9, 3.4), "color": GREYS, "edgecolor": "0.15", "rot": 0}
    axes = rates.mul(100).plot.bar(ylim=(0, 105), **look)
    axes.set_title("Is a face found less often than by MTCNN itself?")
    axes.set(ylabel="photos with a face, %", xlabel="")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return axes.figure


def step_parts(parts: pd.DataFrame) -> Figure:
    """Draw each part's share of a step, from seconds by part (columns) and model (rows)."""
    seconds = parts.sum(axis=1)
    shares = parts.div(seconds, axis=0).mul(100)
    shares.index = [f"{name}\n{1000 * total:.0f} ms" for name, total in seconds.items()]
    look = {"figsize": (11, 0.7 * len(parts) + 1.8), "color": GREYS, "edgecolor": "0.15"}
    axes = shares[::-1].plot.barh(stacked=True, width=0.7, xlim=(0, 100), **look)
    axes.set(title="Where does a training step's time go?", xlabel="share of the step, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return axes.figure


def time_to_quality(race: Mapping[str, pd.DataFrame], metric: str) -> Figure:
    """Draw score by minutes of each training, from ``quality.race``."""
    figure, axes = plt.subplots(figsize=(9, 3.6))
    for (name, curve), style in zip(race.items(), ("-o", "--s"), strict=True):
        axes.plot(curve["minutes"], curve["score"], style, color="0.15", label=name)
    axes.axhline(race["plain loop"]["score"].iloc[-1], color="0.6", linestyle=":")
    axes.set_title("How soon is a score reached? (synthetic people)")
    axes.set(xlabel="minutes of training", ylabel=metric, xlim=(0, None))
    axes.legend(loc="lower right")
    return figure


def pictures(table: pd.DataFrame) -> Figure:
    """Draw photos per second by where the pictures are kept (rows), a panel per column."""
    figure, panels = plt.subplots(1, table.shape[1], figsize=(11, 2.8), sharey=True)
    for axes, (name, speeds) in zip(panels, table[::-1].items(), strict=True):
        axes.barh(speeds.index, speeds, color="0.45")
        axes.bar_label(axes.containers[0], fmt="%.0f", padding=3)
        axes.set(title=name, xlabel="photos per second", xlim=(0, 1.2 * speeds.max()))
    figure.suptitle("Does it matter where the pictures are kept?")
    return figure


def memory(costs: pd.DataFrame, limit: float) -> Figure:
    """Draw peak memory (MB) by photos, a line per stage of ``sets.stage_costs``, and the limit."""
    figure, axes = plt.subplots(figsize=(9, 3.4))
    for marker, (stage, rows) in zip("os^Dvx", costs.groupby("stage", sort=False), strict=False):
        axes.plot(rows["photos"], rows["megabytes"], marker=marker, color="0.3", label=stage)
        axes.plot(rows["photos"], rows["own"], marker=marker, color="0.6", linestyle=":")
    axes.axhline(limit, color="0.15", linestyle="--")
    axes.set_title("Does memory grow with the photos? Dotted: without pages of mapped files")
    axes.set(xlabel="photos", ylabel="peak, MB resident", xscale="log", ylim=(0, None))
    log_ticks(axes.xaxis)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return figure
