"""Figures of the ensemble stage: what TTA gains, who agrees, what is confused, what is submitted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.score import ensemble, metrics

GREYS = "Greys"  # dark is much, on screen and on paper


def tta_gain(frame: pd.DataFrame) -> Axes:
    """Draw out-of-fold macro F1 by run and view, mean and standard deviation over folds.

    ``frame``: a row a run, view and fold, columns ``run``, ``view`` ("none" is without TTA), ``fold``, ``macro_f1``:
    ``pd.concat({(run, view): metrics.by_fold(oof)}, names=["run", "view"]).reset_index()``.
    """
    views = list(dict.fromkeys(frame["view"]))
    markers, greys = ["o", "s", "^", "D", "v", "P", "X"], sns.color_palette("Greys_r", len(views) + 2)[: len(views)]
    _, axes = plt.subplots(figsize=(8, 1.6 + 0.35 * len(views) * frame["run"].nunique()))
    style = {
        "markers": [markers[k % len(markers)] for k in range(len(views))],
        "palette": greys,
        "dodge": 0.5 if len(views) > 1 else False,
    }
    sns.pointplot(frame, y="run", x="macro_f1", hue="view", errorbar="sd", linestyle="none", capsize=0.1, ax=axes, **style)
    axes.set(title=_gain_title(frame), xlabel="out-of-fold macro F1, mean ± sd over folds", ylabel="run")
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5), title="TTA view")
    return axes


def _gain_title(frame: pd.DataFrame) -> str:
    means = frame.groupby(["run", "view"], sort=False)["macro_f1"].mean().unstack("view")
    gains = means.drop(columns="none").sub(means["none"], axis=0).mean().sort_values()
    if gains.empty:
        return "Without TTA: no view to compare"
    best, gain = gains.index[-1], gains.iloc[-1]
    return f"Best view {best}: {gain:+.3f} macro F1 over no TTA" if gain > 0 else f"No view helps: best is {best}, {gain:+.3f}"


def class_counts(predictions: pd.Series, oof: pd.DataFrame) -> Axes:
    """Draw each class's share of the test predictions beside its share of the out-of-fold predictions (same models)."""
    names = pd.Index(metrics.CLASS_NAMES[metrics.task(oof)], name="class")
    series = {"out-of-fold": metrics.predicted(oof), "test": predictions}
    shares = pd.DataFrame({k: np.bincount(v, minlength=len(names)) / len(v) for k, v in series.items()}, index=names)
    worst = (shares["test"] - shares["out-of-fold"]).abs().idxmax()
    long = shares.reset_index().melt("class", var_name="photos", value_name="share")
    _, axes = plt.subplots(figsize=(8, 1.2 + 0.32 * len(names)))
    sns.barplot(long, y="class", x="share", hue="photos", palette=["0.75", "0.2"], ax=axes)
    sns.move_legend(axes, "center left", bbox_to_anchor=(1, 0.5))
    before, after = shares.loc[worst]
    axes.set(
        title=f"Largest shift: {worst}, {before:.1%} out-of-fold, {after:.1%} on test", xlabel="share of photos", ylabel=""
    )
    return axes


def agreement(tables: ensemble.Tables) -> Axes:
    """Draw the share of photos on which each two members (a run's fold on test, a run out-of-fold) agree."""
    shares = ensemble.agreement(tables)
    size = 2.5 + 0.5 * len(shares)
    _, axes = plt.subplots(figsize=(size + 1.5, size))
    labels = {"annot": len(shares) <= 16, "fmt": ".2f", "annot_kws": {"size": 9}, "cbar_kws": {"label": "share of photos"}}
    sns.heatmap(shares, cmap=GREYS, vmax=1, square=True, linewidths=0.5, ax=axes, **labels)
    axes.set(title=_agreement_title(shares), xlabel="member", ylabel="member")
    return axes


def _agreement_title(shares: pd.DataFrame) -> str:
    pairs = shares.where(np.tril(np.ones(shares.shape, bool), -1)).stack()
    return f"Two members agree on {pairs.mean():.0%} of photos" if len(pairs) else "One member: nobody to disagree"


def confusion(oof: pd.DataFrame) -> Axes:
    """Draw the confusion matrix, each row summing to 1, with lines between the groups of one mask state and one gender."""
    counts = metrics.confusion(oof)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    _, axes = plt.subplots(figsize=(2.5 + 0.5 * len(counts), 2 + 0.42 * len(counts)))
    text = shares.map(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")
    bar = {"label": "share of the true class"}
    sns.heatmap(shares, cmap=GREYS, vmin=0, vmax=1, annot=text, fmt="", annot_kws={"size": 8}, cbar_kws=bar, ax=axes)
    for edge in range(3, len(counts), 3):
        for line in (axes.axhline, axes.axvline):
            line(edge, color="0.3", linewidth=2 if edge % 6 == 0 else 0.7)
    axes.set(title=_confusion_title(counts), xlabel="predicted class (numbers in %)", ylabel="true class")
    return axes


def _confusion_title(counts: pd.DataFrame) -> str:
    off = counts.where(~np.eye(len(counts), dtype=bool)).stack()
    (true, guess), photos = off.idxmax(), int(off.max())
    if not photos:
        return "No photo is confused"
    return f"Most confused: {true} taken for {guess}, {photos} of {counts.loc[true].sum()}"
