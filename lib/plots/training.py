"""Figures of notebook 03: what is trained on, how it went, what came out."""

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
from lib.task import labels


def fold_shares(report: pd.DataFrame) -> Figure:
    """Draw the share of each class by fold: rows that look alike are folds that are stratified."""
    shares = report[list(labels.CLASSES)].mul(100)
    figure, axes = plt.subplots(figsize=(11, 0.45 * len(shares) + 2.6))
    sns.heatmap(shares, ax=axes, cmap="cividis", annot=True, fmt=".0f", cbar=False, linewidths=0.5)
    axes.set(title="Are the folds alike? Share of photos by class, %", ylabel="fold", xlabel="")
    axes.tick_params(axis="x", rotation=60)
    return figure


def sampler_shares(table: pd.DataFrame, task: str, sampler: str) -> Figure:
    """Draw class shares before and after a sampler, from ``samplers.class_shares`` of a task's classes."""
    names = labels.CLASSES if task == "all" else labels.ATTRIBUTES[task]
    figure, axes = plt.subplots(figsize=(11, 3.4))
    position = np.arange(len(table))
    axes.bar(position - 0.2, table["share_before"] * 100, 0.4, label="in the fold", color="0.75")
    axes.bar(position + 0.2, table["share_after"] * 100, 0.4, label=f"shown in an epoch, sampler={sampler}", color="0.25")
    axes.set_xticks(position, [names[k] for k in table.index], rotation=60, ha="right")
    axes.set(title="What does the sampler do to class shares?", ylabel="share of photos, %")
    axes.legend()
    return figure


def confusions(run: Run) -> Figure:
    """Draw the confusion of each attribute, rows adding up to 100 %; an empty figure while there are no out-of-fold scores."""
    if not (run.folder / "oof.parquet").exists() or run.oof().empty:
        return plt.figure(figsize=(6, 0.5)).suptitle("No out-of-fold predictions yet").figure
    oof = run.oof()
    tables = metrics.attribute_confusions(oof)
    figure, axes = plt.subplots(1, len(tables), figsize=(4.2 * len(tables), 3.6), squeeze=False)
    for axis, (name, table) in zip(axes.flat, tables.items(), strict=True):
        shares = table.div(table.sum(axis=1).clip(lower=1), axis=0) * 100
        sns.heatmap(shares, ax=axis, annot=True, fmt=".0f", cmap="cividis", cbar=False, vmin=0, vmax=100)
        axis.set(title=f"{name}: true by predicted, %")
    return figure


def training_batch(images: Tensor, targets: Tensor, count: int = 16) -> Figure:
    """Show a batch as the model sees it: (N, 3, H, W) in 0..255 and joint targets (N, 3, 2, 43)."""
    pictures = images[:count].permute(0, 2, 3, 1).clamp(0, 255).byte().cpu().numpy()
    return grid(
        list(pictures), [_target_text(target) for target in targets[:count]], "What does the model see in a training batch?", 8
    )


def _target_text(target: Tensor) -> str:
    mask, gender, year = (target.sum(axes) for axes in ((1, 2), (0, 2), (0, 1)))
    mean_year = float(year @ year.new_tensor(labels.YEARS))
    share = "" if target.max() > 0.99 else f" {float(target.max()):.0%}"
    return f"{labels.MASKS[int(mask.argmax())]}, {labels.GENDERS[int(gender.argmax())][0]} {mean_year:.0f}{share}"


class LiveCurves:
    """Loss and macro F1 by epoch, one figure for all folds that redraws itself after every epoch.

    It starts from the histories there are, so that a run continued or opened again shows all of its folds.
    """

    def __init__(self, histories: dict[int, pd.DataFrame]):
        self.histories = dict(histories)
        self.figure, self.axes = plt.subplots(1, 3, figsize=(13, 3.4))
        self._draw()
        self.handle = DisplayHandle()
        self.handle.display(self.figure)
        plt.close(self.figure)  # shown by its handle; the cell would show it once more

    def of(self, fold: int):
        """Return a function of a history that redraws the figure with it as this fold's."""
        return lambda history: self._redraw(fold, history)

    def _redraw(self, fold: int, history: pd.DataFrame) -> None:
        self.histories[fold] = history
        self._draw()
        self.handle.update(self.figure)

    def _draw(self) -> None:
        panels = {"loss": "training loss", "valid_log_loss": "validation log loss", "score": "validation macro F1"}
        for axis, (column, name) in zip(self.axes, panels.items(), strict=True):
            axis.clear()
            for shade, (number, rows) in zip(np.linspace(0, 0.75, len(self.histories)), self.histories.items(), strict=True):
                axis.plot(
                    rows["epoch"], rows[column], marker="o", markersize=3, color=plt.cm.cividis(shade), label=f"fold {number}"
                )
            axis.set(title=name, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        if self.histories:
            self.axes[0].legend(fontsize=8)
