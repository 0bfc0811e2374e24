"""Figures of notebook 03: what is trained on, how it went, what came out."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import DisplayHandle
from matplotlib.figure import Figure
from torch import Tensor

from lib.plots.grid import grid
from lib.score import metrics
from lib.score.runs import Run
from lib.task.attributes import Task
from lib.task.targets import marginal

FEW = 40  # classes up to which a figure writes a number on each
SLANTED = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}  # long names below an axis


def fold_shares(report: pd.DataFrame) -> Figure:
    """Draw the share of each class by fold, from ``folds.report``: folds should look alike."""
    shares = report.drop(columns=["people", "photos"]).mul(100)
    figure, axes = plt.subplots(figsize=(11, 0.45 * len(shares) + 2.6))
    few = shares.shape[1] <= FEW
    sns.heatmap(shares, ax=axes, cmap="cividis", annot=few, fmt=".0f", cbar=not few, linewidths=0.5)
    title = "Are the folds alike? Share of photos by class, %"
    axes.set(title=title, ylabel="fold", xlabel="class")
    axes.tick_params(axis="y", rotation=0)
    plt.setp(axes.get_xticklabels(), **SLANTED)
    return figure


def sampler_shares(table: pd.DataFrame, names: Sequence[str], sampler: str) -> Figure:
    """Draw class shares before and after a sampler, from ``samplers.class_shares``."""
    shares = table[["share_before", "share_after"]].mul(100)
    shares.columns = ["among the photos", f"in an epoch,\nsampler={sampler}"]
    axes = shares.plot.bar(figsize=(11, 4), color=["0.75", "0.25"], width=0.8)
    axes.set_xticks(range(len(shares)), [names[k] for k in shares.index], **SLANTED)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    least, most = shares.iloc[:, 1].agg(["min", "max"])
    axes.set_title(f"The sampler shows classes between {least:.1f} and {most:.1f} % of the time")
    axes.set_ylabel("share of photos, %")
    return axes.figure


def training_batch(images: Tensor, targets: Tensor, task: Task) -> Figure | None:
    """Show a batch as the model sees it: (N, 3, H, W) in 0..255, and its soft targets."""
    pictures = images[:16].permute(0, 2, 3, 1).clamp(0, 255).byte().cpu().numpy()
    captions = [_target_text(target[None], task) for target in targets[:16]]
    return grid(list(pictures), captions, "What does the model see in a training batch?", 8)


def _target_text(target: Tensor, task: Task) -> str:
    """Return the likeliest class, or the mean number, of each attribute of one target (1, ...)."""
    texts = []
    for name, attribute in task.attributes.items():
        share = marginal(task, target, name)[0]
        numbers = share.new_tensor(attribute.recorded)
        likeliest = attribute.text(int(share.argmax()))
        texts.append(f"{float(share @ numbers):.0f}" if attribute.ordered else likeliest)
    largest = float(target.max())
    return " ".join(texts) + ("" if largest > 0.99 else f" {largest:.0%}")


def learning_rates(rates: pd.Series) -> Figure:
    """Draw the learning rate by epoch, from ``recipe.learning_rates``."""
    figure, axes = plt.subplots(figsize=(8, 2.6))
    axes.plot(rates.index, rates, color="0.2")
    title = f"The learning rate rises to {rates.max():.2g} and ends at {rates.iloc[-1]:.2g}"
    axes.set(title=title, xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    return figure


def confusions(run: Run) -> Figure | None:
    """Draw the confusion of each attribute, rows adding up to 100 %, or say that there are none."""
    path = run.folder / "oof.parquet"
    oof = run.oof() if path.exists() else pd.DataFrame()
    if oof.empty:
        print("Nobody has been validated: there is no confusion to show.")
        return None
    names = [name for name in metrics.truth(oof, run.task) if name in run.task.attributes]
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.8), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=True):
        table = metrics.confusion(oof, run.task, name)
        shares = table.div(table.sum(axis=1).clip(lower=1), axis=0) * 100
        look = {"annot": True, "fmt": ".0f", "cmap": "cividis", "cbar": False}
        sns.heatmap(shares, ax=axis, vmin=0, vmax=100, **look)
        right = np.trace(table.to_numpy()) / max(table.to_numpy().sum(), 1)
        axis.set(title=f"{name}: {right:.0%} right", xlabel="predicted, %", ylabel="true")
        axis.tick_params(axis="y", rotation=0)
    return figure


class LiveCurves:
    """Loss and score by epoch, one figure for all folds that is drawn again after every epoch.

    It starts from the histories that exist, so a run that is continued shows all of its folds.
    """

    def __init__(self, histories: dict[int, pd.DataFrame], metric: str):
        self.histories, self.metric = dict(histories), metric
        self.figure, self.axes = plt.subplots(1, 3, figsize=(13, 3.4))
        self._draw()
        self.handle = DisplayHandle()
        self.handle.display(self.figure)
        plt.close(self.figure)  # its handle shows it; the cell would show it a second time

    def of(self, fold: int) -> Callable[[pd.DataFrame], None]:
        """Return a function of a history that draws the figure again with it as this fold's."""

        def redraw(history: pd.DataFrame) -> None:
            self.histories[fold] = history
            self._draw()
            self.handle.update(self.figure)

        return redraw

    def _draw(self) -> None:
        panels = {"loss": "training loss", "valid_log_loss": "validation log loss"}
        panels["score"] = f"validation {self.metric.replace('_', ' ')}"
        for axis, (column, title) in zip(self.axes, panels.items(), strict=True):
            axis.clear()
            shades = np.linspace(0, 0.75, len(self.histories))
            for shade, (fold, history) in zip(shades, sorted(self.histories.items()), strict=True):
                look = {"marker": "o", "markersize": 3, "color": plt.cm.cividis(shade)}
                axis.plot(history["epoch"], history[column], label=f"fold {fold}", **look)
            axis.set(title=title, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        if self.histories:
            self.axes[0].legend(fontsize=8)
