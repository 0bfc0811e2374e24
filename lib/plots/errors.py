"""Figures of notebook 05: who is predicted wrongly, how sure a model is, and where it looks."""

from collections.abc import Mapping

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.explain import errors
from lib.explain.cams import Looks
from lib.face.faces import BOX
from lib.plots.eda import CUT
from lib.plots.grid import PIXELS, grid
from lib.plots.style import log_ticks
from lib.task.attributes import Task

MARKERS = "os^DvPX"  # told apart without colour
DARKEST = 0.35  # of a photo's brightness, where its map is 0
MANY = 40  # classes that still fit into one figure: more are left to the table
DOT = {"linestyle": "none", "capsize": 3, "markersize": 6}


def _dots(axes: Axes, places, table: pd.DataFrame, column: str, **look) -> None:
    """Draw the values of a column at ``places`` with their intervals, where there is one."""
    below, above = table[column] - table["low"], table["high"] - table[column]
    axes.errorbar(places, table[column], [below.clip(lower=0), above.clip(lower=0)], **DOT, **look)


def class_scores(scores: Mapping[str, pd.DataFrame]) -> list[Axes]:
    """Draw the F1 of each class with its interval; ``scores``: ``intervals.by_class`` by name."""
    return [_class_scores(name, table) for name, table in scores.items()]


def _class_scores(name: str, table: pd.DataFrame) -> Axes:
    shown = table.sort_values("f1").head(MANY)
    _, axes = plt.subplots(figsize=(8, 1.3 + 0.3 * len(shown)))
    spans = [shown["f1"] - shown["low"], shown["high"] - shown["f1"]]
    axes.errorbar(shown["f1"], range(len(shown)), xerr=spans, marker="o", color="0.2", **DOT)
    axes.set_yticks(range(len(shown)), shown.index)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    title = f"{name}: weakest class {shown.index[0]}, F1 {shown['f1'].iloc[0]:.2f}"
    axes.set(title=title, xlabel="F1 with 95 % interval over people", xlim=(-0.02, 1.02))
    return axes


def by_recorded(rates: Mapping[str, pd.DataFrame], task: Task, near: int) -> list[Axes]:
    """Draw error rates by recorded number, with the cuts (``errors.recorded``)."""
    if not rates:
        print("No attribute of this task is an ordered number.")
    return [_by_recorded(name, table, task, near) for name, table in rates.items()]


def _by_recorded(name: str, table: pd.DataFrame, task: Task, near: int) -> Axes:
    _, axes = plt.subplots(figsize=(10, 3.6))
    axes.bar(table.index, table["share"], color="0.75", width=0.8)
    _dots(axes, table.index, table, "share", marker="o", color="0.2")
    for cut in task[name].cuts:
        axes.axvline(cut - 0.5, **CUT)
    close = errors.near_cut(task[name], table.index.to_series(), near)
    rate = {
        k: np.average(part["share"], weights=part["photos"]) for k, part in table.groupby(close)
    }
    words = {True: "near a cut", False: "elsewhere"}
    both = ", ".join(f"{rate[k]:.0%} {where}" for k, where in words.items() if k in rate)
    axes.set(title=f"{name}, share wrong: {both}", xlabel=f"{name}, recorded (lines: cuts)")
    axes.set(ylabel="share of photos wrong", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return axes


def by_factor(rates: pd.DataFrame) -> Figure:
    """Draw the error rates of every attribute by each factor (``errors.by_factor``)."""
    factors = list(dict.fromkeys(rates["factor"]))
    sizes = [rates.loc[rates["factor"] == factor, "group"].nunique() for factor in factors]
    figure, panels = plt.subplots(
        1,
        len(factors),
        figsize=(12, 3.8),
        squeeze=False,
        sharey=True,
        width_ratios=[n + 1 for n in sizes],
    )
    for axes, factor in zip(panels.flat, factors, strict=True):
        _factor(axes, rates[rates["factor"] == factor])
        axes.set(title=factor)
    panels[0, 0].set(ylabel="share of photos wrong", ylim=(0, None))
    panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[0, -1].legend(title="wrong", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _factor(axes: Axes, rates: pd.DataFrame) -> None:
    groups = rates.drop_duplicates("group").set_index("group")["photos"]
    names = list(dict.fromkeys(rates["attribute"]))
    for k, name in enumerate(names):
        table = rates[rates["attribute"] == name]
        places = np.arange(len(table)) + 0.2 * (k - (len(names) - 1) / 2)
        grey = str(0.1 + 0.5 * k / max(1, len(names) - 1))
        _dots(
            axes, places, table, "share", marker=MARKERS[k % len(MARKERS)], color=grey, label=name
        )
    labels = [f"{group}\n{photos}" for group, photos in groups.items()]
    axes.set_xticks(range(len(groups)), labels, fontsize=9)
    axes.set_xlim(-0.6, len(groups) - 0.4)


def reliability(oof: pd.DataFrame, task: Task) -> Figure:
    """Draw the share of right photos by confidence, and how many photos have it, for each name.

    Names are the parts of the table and the attributes. On the diagonal a model is as often right
    as it says.
    """
    table = errors.calibration(oof, task)
    figure, panels = plt.subplots(
        2, len(table), figsize=(3.4 * len(table), 4.6), squeeze=False, sharex=True,
        sharey="row", height_ratios=[3, 1],
    )  # fmt: skip
    for (name, row), (above, below) in zip(table.iterrows(), panels.T, strict=True):
        bins = errors.reliability(oof, task, str(name))
        above.plot([0, 1], [0, 1], color="0.6", linestyle="--")
        _dots(above, bins["confidence"], bins, "right", marker="o", color="0.2")
        above.set_title(f"{name}\nECE {row.ece:.3f} ({row.low:.3f} to {row.high:.3f})", fontsize=11)
        below.bar(bins["confidence"], bins["photos"], width=0.05, color="0.5")
        below.set(xlabel="confidence", yscale="log")
        log_ticks(below.yaxis)
    panels[0, 0].set(ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    panels[1, 0].set(ylabel="photos (log)")
    return figure


def worst(found: pd.DataFrame, pictures: list[np.ndarray], columns: int = 6) -> Figure | None:
    """Show crops (h, w, 3) of the photos of ``errors.worst`` with what was said of them."""
    captions = [
        f"{row.errors}\n{row.wrong_photos} of {row.photos} photos wrong"
        for row in found.itertuples()
    ]
    return grid(
        pictures, captions, "Surest errors: the prediction, and the label as recorded", columns
    )


def what_if(table: pd.DataFrame) -> Axes:
    """Draw the gain in the metric if some errors were not made (``errors.what_if``)."""
    metric, gains = table.columns[0], table.iloc[1:].sort_values("gain", ascending=False)
    _, axes = plt.subplots(figsize=(8, 1.3 + 0.4 * len(gains)))
    spans = [gains["gain"] - gains["low"], gains["high"] - gains["gain"]]
    axes.barh(range(len(gains)), gains["gain"], color="0.75")
    axes.errorbar(gains["gain"], range(len(gains)), xerr=spans, marker="o", color="0.2", **DOT)
    axes.set_yticks(range(len(gains)), gains.index)
    axes.invert_yaxis()
    best, gain = gains.index[0], gains["gain"].iloc[0]
    named = metric.replace("_", " ")
    axes.set(title=f"Most to win: {best}, {gain:+.3f}", xlabel=f"gain in {named}, 95 % interval")
    return axes


def cams(looks: Looks, name: str) -> Figure | None:
    """Show where a model looks for an attribute: a row of wrong photos, and one of right photos.

    A photo is dark where its map is low; the frame is the face box.
    """
    rows = [np.flatnonzero(looks.table["right"] == good) for good in (False, True)]
    columns = max(map(len, rows))
    pictures, captions = [], []
    for row in (row for row in rows if len(row)):
        gap = columns - len(row)
        pictures += [_lit(looks, k) for k in row] + [None] * gap
        captions += [_caption(looks.table.loc[k]) for k in row] + [""] * gap
    shares = [looks.table["inside"].iloc[row].mean() for row in rows]
    title = " and ".join(
        f"{share:.0%} of {'right' if good else 'wrong'} photos' maps"
        for good, share in enumerate(shares)
        if len(rows[good])
    )
    return grid(pictures, captions, f"{name}: the face box has {title}", max(columns, 1))


def _caption(look: pd.Series) -> str:
    text = "right" if look["right"] else f"wrong, is {look['true']}"
    return f"{look['predicted']}\n{text}\n{look['inside']:.0%} in the box"


def _lit(looks: Looks, row: int) -> np.ndarray:
    """Return a photo (h, w, 3), lit where its map is high, with its face box as a frame."""
    photo, scale = looks.images[row], PIXELS / max(looks.images[row].shape[:2])
    lit = photo * (DARKEST + (1 - DARKEST) * looks.maps[row][..., None])
    large = cv2.resize(lit, None, fx=scale, fy=scale).round().astype(np.uint8)
    x0, y0, x1, y1 = (scale * looks.table.loc[row, BOX].to_numpy(float)).round().astype(int)
    return cv2.rectangle(large, (x0, y0), (x1, y1), (255, 255, 255), 1)
