"""Figures of the study: what each ingredient changes, and how sure that is."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.score.study import summary
from lib.task.labels import ATTRIBUTES


def differences(scores: pd.DataFrame, baseline: str) -> Axes:
    """Draw each variant's macro F1 less the baseline's of the same seed, a point a seed."""
    by_seed = scores.pivot(index="variant", columns="seed", values="macro_f1")
    apart = (by_seed - by_seed.loc[baseline]).drop(index=baseline)
    apart = apart.loc[apart.mean(axis=1).sort_values().index]
    _, axes = plt.subplots(figsize=(8, 1.4 + 0.4 * len(apart)))
    for place, (_, row) in enumerate(apart.iterrows()):
        axes.plot(row, [place] * len(row), color="0.6")
    long = apart.reset_index().melt("variant", var_name="seed", value_name="difference")
    sns.scatterplot(long, x="difference", y="variant", style="seed", color="black", s=60, ax=axes)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(title=_finding(scores, baseline), xlabel=f"macro F1 less {baseline}, out-of-fold, same seed", ylabel="")
    return axes


def _finding(scores: pd.DataFrame, baseline: str) -> str:
    table = summary(scores, baseline).drop(index=baseline)
    clear = table[table["difference"].abs() > table["difference_spread"]]
    told = [f"{name} {value:+.3f}" for name, value in clear["difference"].items()]
    return f"Beyond the spread over seeds: {', '.join(told) or 'nothing'}"


def attributes(scores: pd.DataFrame) -> Axes:
    """Draw macro F1 of mask, gender and age by variant, mean over seeds."""
    means = scores.groupby("variant")[list(ATTRIBUTES)].mean().sort_values("age", ascending=False)
    _, axes = plt.subplots(figsize=(6, 1.2 + 0.4 * len(means)))
    sns.heatmap(means, annot=True, fmt=".3f", cmap="Greys", cbar=False, ax=axes)
    axes.set(title="Which attribute makes the difference?", xlabel="macro F1, mean over seeds", ylabel="")
    return axes
