"""Figures of notebook 04: what TTA gains, who agrees, what is confused, what is submitted."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.artefacts import resolve
from lib.data.photos import read
from lib.plots.grid import grid
from lib.score import ensemble, metrics
from lib.score.nested import Comparison, Method
from lib.score.same_person import Grouping
from lib.task.attributes import LABEL, Task

GREYS = "Greys"  # dark is much, on screen and on paper
FEW = 40  # classes up to which each has its number, its bar and its place
TALLEST = 16  # inches
ROWS, COLUMNS = 6, 8  # of photos in the figure of clusters


def tta_gain(frame: pd.DataFrame, metric: str) -> Axes | None:
    """Draw the out-of-fold score by run and view: mean and standard deviation over folds.

    ``frame``: a row per run, view and fold with columns ``run``, ``view`` ("none" is without TTA),
    ``fold`` and ``metric``: ``metrics.by_fold`` of every view. Without rows it says so in words.
    """
    if frame.empty:
        print("Nobody was validated (split none), so no gain can be measured.")
        return None
    views = list(dict.fromkeys(frame["view"]))
    _, axes = plt.subplots(figsize=(8, 1.6 + 0.35 * len(views) * frame["run"].nunique()))
    style = {
        "markers": ["os^DvPX"[k % 7] for k in range(len(views))],
        "palette": sns.color_palette("Greys_r", len(views) + 2)[: len(views)],
        "dodge": 0.5 if len(views) > 1 else False,
        "linestyle": "none",
        "capsize": 0.1,
    }
    sns.pointplot(frame, y="run", x=metric, hue="view", errorbar="sd", ax=axes, **style)
    named = metric.replace("_", " ")
    axes.set(title=_gain_title(frame, metric), ylabel="run")
    axes.set_xlabel(f"out-of-fold {named}, mean and standard deviation over folds")
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5), title="TTA view")
    return axes


def _gain_title(frame: pd.DataFrame, metric: str) -> str:
    means = frame.groupby(["run", "view"], sort=False)[metric].mean().unstack("view")
    gains = means.drop(columns="none").sub(means["none"], axis=0).mean().sort_values()
    if gains.empty:
        return "Without TTA: no view to compare"
    best, gain, named = gains.index[-1], gains.iloc[-1], metric.replace("_", " ")
    if gain > 0:
        return f"Best view {best}: {gain:+.3f} {named} over no TTA"
    return f"No view helps: best is {best}, {gain:+.3f}"


def agreement(tables: ensemble.Tables, task: Task) -> Axes | None:
    """Draw the share of photos on which each two members agree, or say in words that all do."""
    if any(table.empty for table in tables.values()):
        print("There are no test photos, so there is nothing to agree on.")
        return None
    shares = ensemble.agreement(tables, task)
    pairs = shares.to_numpy()[np.tril_indices(len(shares), -1)]
    if (pairs == 1).all():
        print("All members agree on every photo." if pairs.size else "There is only one member.")
        return None
    size = min(2.5 + 0.5 * len(shares), TALLEST)
    _, axes = plt.subplots(figsize=(size + 1.5, size))
    style = {"annot": len(shares) <= 16, "fmt": ".2f", "annot_kws": {"size": 9}, "linewidths": 0.5}
    bar = {"label": "share of photos"}
    sns.heatmap(shares, cmap=GREYS, vmax=1, square=True, cbar_kws=bar, ax=axes, **style)
    title = f"Two members agree\non {pairs.mean():.0%} of photos"
    axes.set(title=title, xlabel="member", ylabel="member")
    axes.tick_params("x", rotation=60)
    axes.tick_params("y", rotation=0)
    return axes


def methods(comparison: Comparison) -> Axes:
    """Draw each method's nested gain over the simplest one, with its simultaneous interval.

    The recommended method has a diamond.
    """
    gains = comparison.gains(comparison.simplest)
    names = [str(Method(*key)) for key in gains.index]
    places, half = np.arange(len(names)), gains["high"] - gains["gain"]
    _, axes = plt.subplots(figsize=(8, 1.6 + 0.32 * len(names)))
    axes.errorbar(gains["gain"], places, xerr=half, fmt="o", color="0.45", capsize=3)
    taken = names.index(str(comparison.recommended))
    axes.plot(gains["gain"].iloc[taken], taken, "D", color="black", markersize=9)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(title=f"Recommended (diamond): {comparison.recommended}", ylabel="vote, decision")
    axes.set_xlabel(f"nested gain over {comparison.simplest}, 95 % for all intervals at once")
    return axes


def confusions(oof: pd.DataFrame, task: Task, names: Sequence[str] = ()) -> list[Axes]:
    """Draw the confusion matrix of each part of a table, or of the parts and attributes ``names``.

    Without rows say so in words.
    """
    if oof.empty:
        print("Nobody was validated (split none), so no confusion can be shown.")
        return []
    return [_confusion(oof, task, name) for name in names or metrics.parts(oof, task)]


def _confusion(oof: pd.DataFrame, task: Task, part: str) -> Axes:
    """Draw one matrix, each row summing to 1, with lines between the groups of a label."""
    counts = metrics.confusion(oof, task, part)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    size = min(2 + 0.42 * len(counts), TALLEST)
    _, axes = plt.subplots(figsize=(1.2 * size, size))
    text = shares.map(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")
    numbers = {"annot": text, "fmt": "", "annot_kws": {"size": 8}} if len(counts) <= FEW else {}
    bar = {"label": "share of the true class"}
    sns.heatmap(shares, cmap=GREYS, vmin=0, vmax=1, cbar_kws=bar, ax=axes, **numbers)
    for edge, width in _group_lines(task, part):
        axes.axhline(edge, color="0.3", linewidth=width)
        axes.axvline(edge, color="0.3", linewidth=width)
    axes.set(title=_confusion_title(counts), ylabel="true class")
    axes.set_xlabel("predicted class (numbers in %)" if numbers else "predicted class")
    return axes


def _group_lines(task: Task, part: str) -> list[tuple[int, float]]:
    """Return places and widths of lines between labels: the wider, the more attributes change."""
    inner = np.cumprod(task.shape[:0:-1]) if part == LABEL else []
    return [
        (edge, 0.7 + 1.3 * level)
        for level, size in enumerate(inner)
        for edge in range(int(size), len(task.classes(part)), int(size))
    ]


def _confusion_title(counts: pd.DataFrame) -> str:
    off = counts.where(~np.eye(len(counts), dtype=bool)).stack()
    (true, guess), photos = off.idxmax(), int(off.max())
    if not photos:
        return "No photo is confused"
    return f"Most confused: {true} taken for {guess}, {photos} of {counts.loc[true].sum()}"


def class_shares(test: pd.DataFrame, oof: pd.DataFrame, task: Task) -> list[Axes]:
    """Draw the classes' shares of predictions, out-of-fold and on test photos, for each part.

    Of many classes, those that shift most are drawn; without photos it says so in words.
    """
    if oof.empty or test.empty:
        print("Predictions out-of-fold and on test photos cannot be compared: one has no photos.")
        return []
    return [_shares(test, oof, task, part) for part in metrics.parts(test, task)]


def _shares(test: pd.DataFrame, oof: pd.DataFrame, task: Task, part: str) -> Axes:
    names, tables = task.classes(part), {"out-of-fold": oof, "test": test}
    guesses = {photos: metrics.predicted(table, task)[part] for photos, table in tables.items()}
    shares = pd.DataFrame({k: guess.value_counts(normalize=True) for k, guess in guesses.items()})
    shares = shares.reindex(range(len(names))).fillna(0).set_axis(pd.Index(names, name="class"))
    shift = (shares["test"] - shares["out-of-fold"]).abs().sort_values(ascending=False)
    drawn = shares.loc[shares.index.isin(shift.index[:FEW])]
    long = drawn.reset_index().melt("class", var_name="photos", value_name="share")
    _, axes = plt.subplots(figsize=(9, 1.2 + 0.32 * len(drawn)))
    sns.barplot(long, y="class", x="share", hue="photos", palette=["0.75", "0.2"], ax=axes)
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5))
    before, after = shares.loc[shift.index[0]]
    title = f"Largest shift: {shift.index[0]}, {before:.1%} to {after:.1%}"
    axes.set(title=title, xlabel="share of photos", ylabel="class")
    return axes


def clusters(found: Grouping | None, images: pd.DataFrame, data_dir: str) -> Figure | None:
    """Show the photos of a few clusters of test photos, each in a row; say so where there are none.

    ``found`` is what ``same_person.find`` has found in ``images``.
    """
    if found is None:
        print("group_test='none': no clusters were made.")
        return None
    sizes = found.test.clusters.value_counts()
    shared = sizes[sizes > 1]
    drawn = shared.sample(min(ROWS, len(shared)), random_state=0)
    pictures: list[np.ndarray | None] = []
    for cluster in drawn.index:
        keys = found.test.clusters.index[found.test.clusters == cluster][:COLUMNS]
        row = [read(resolve(data_dir) / file) for file in images.loc[keys, "file"]]
        pictures += [*row, *[None] * (COLUMNS - len(row))]
    title = f"{len(drawn)} of {len(shared)} clusters; {(sizes == 1).sum()} photos are alone"
    return grid(pictures, [""] * len(pictures), title, COLUMNS)
