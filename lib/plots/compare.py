"""Figures of notebook 06: which runs differ, whose errors differ, what the leaderboard says."""

import itables
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from lib.explain import leaderboard as scores
from lib.task.attributes import Task

FEW = 14  # runs up to which each pair has its number
OPTIONS: dict = {  # of itables: no request, all rows, in the order given, a click on a name sorts
    "connected": False, "maxBytes": 0, "order": [], "text_in_header_can_be_selected": False,
    "showIndex": False, "pageLength": 25, "scrollX": True,
}  # fmt: skip


def sortable(table: pd.DataFrame) -> HTML:
    """Return a table that a click on a column's name sorts; texts are escaped, and on the left.

    Columns of two levels get one name, such as ``score oof``; gaps are empty. The script is the
    page's own: call ``itables.init_notebook_mode(connected=False)`` once before.
    """
    flat = table.round(3).convert_dtypes()  # whole numbers without a point
    texts = [not is_numeric_dtype(kind) for kind in flat.dtypes]
    left = np.flatnonzero([True] * table.index.nlevels + texts).tolist()
    flat = flat.astype(object)
    flat.columns = [" ".join(name) if isinstance(name, tuple) else name for name in flat]
    flat = flat.where(flat.notna(), "").reset_index()
    aligned = [{"targets": left, "className": "dt-left"}]
    return HTML(itables.to_html_datatable(flat, columnDefs=aligned, **OPTIONS))


def draw_intervals(table: pd.DataFrame) -> Axes:
    """Draw two intervals per row, the last row on top: thick by itself, thin for all together."""
    places = range(len(table))
    _, axes = plt.subplots(figsize=(8, 1.6 + 0.4 * len(table)))
    style = {"color": "0.6", "linewidth": 6, "label": "95 %, by itself"}
    axes.hlines(places, table["low"], table["high"], **style)
    style = {"color": "black", "linewidth": 1, "label": "95 %, all together"}
    axes.hlines(places, table["low_all"], table["high_all"], **style)
    axes.axvline(0, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(places, [str(name) for name in table.index])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.locator_params("x", nbins=6)  # numbers such as -0.025 would touch each other
    return axes


def outside_legend(axes: Axes) -> None:
    """Put the legend to the right of the axes, where it hides nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def differences(compared: pd.DataFrame, task: Task, baseline: str) -> Axes | None:
    """Draw how each run differs from the baseline; without other runs say so in words."""
    if compared.empty:
        print(f"There is no other run to compare with {baseline}.")
        return None
    table = compared.iloc[::-1]
    axes = draw_intervals(table)
    axes.plot(table["difference"], range(len(table)), "o", color="black", label="difference")
    clear = compared.index[compared["shown"]]
    told = f"{len(clear)} of {len(compared)} differences from {baseline} are shown"
    axes.set(title=told, ylabel="run")
    axes.set_xlabel(f"{task.metric.replace('_', ' ')} minus that of {baseline}, out-of-fold")
    outside_legend(axes)
    return axes


def error_correlation(correlation: pd.DataFrame) -> Axes | None:
    """Draw the correlation of errors between each two runs; of one run say so in words."""
    if len(correlation) < 2:
        print("There is one run only, so there is no other whose errors could differ.")
        return None
    size = min(2.5 + 0.55 * len(correlation), 16)
    _, axes = plt.subplots(figsize=(size + 1.5, size))
    style = {"annot": len(correlation) <= FEW, "fmt": ".2f", "annot_kws": {"size": 9}}
    bar = {"label": "correlation of errors (phi)"}
    sns.heatmap(correlation, cmap="Greys", vmax=1, square=True, cbar_kws=bar, ax=axes, **style)
    pairs = correlation.where(np.tril(np.ones(correlation.shape, bool), -1)).stack().dropna()
    (one, other), least = pairs.idxmin(), pairs.min()
    axes.set(title=f"Most different: {one} and {other}, {least:.2f}", xlabel="run", ylabel="run")
    axes.tick_params("x", rotation=60)
    axes.tick_params("y", rotation=0)
    return axes


def leaderboard(submissions: pd.DataFrame, column: str) -> Axes | None:
    """Draw a leaderboard's scores by the out-of-fold score, with the line if there is one."""
    points = scores.points(submissions, column)
    if points["line"].isna().all():
        return None
    _, axes = plt.subplots(figsize=(7, 4.5))
    for odd, group in points.groupby("outlier"):
        marker = {"marker": "X" if odd else "o", "label": "outlier" if odd else "submission"}
        axes.scatter(group["oof_score"], group[column], color="black", s=50, **marker)
    line = points.sort_values("oof_score")
    axes.plot(line["oof_score"], line["line"], color="0.5", label="regression")
    for name, row in points.iterrows():
        axes.annotate(str(name), (row["oof_score"], row[column]), xytext=(6, 4),
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set(title=f"{len(points)} submissions with a {column} score")
    axes.set(xlabel="out-of-fold score", ylabel=f"{column} score")
    outside_legend(axes)
    return axes
