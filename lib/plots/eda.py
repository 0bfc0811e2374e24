"""Figures of notebook 01: who is in the data, what the photos look like, what is wrong with them.

Those of people take the frame of ``dataset.people``, those of photos the frame ``images``.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from lib.artefacts import resolve
from lib.data.photos import read
from lib.plots.grid import grid
from lib.plots.style import PALETTE
from lib.task import labels


def named(images: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with ``gender``, ``age_group`` and, if it is there, ``mask`` as words in the order of their codes."""
    words = {"mask": labels.MASKS, "gender": labels.GENDERS, "age_group": labels.AGE_GROUPS}
    columns = {
        name: pd.Categorical.from_codes(images[name].astype(int), texts) for name, texts in words.items() if name in images
    }
    return images.assign(**columns)


def ages(people: pd.DataFrame) -> Figure:
    """Draw people by year of age, stacked by gender, with the two cuts of the age groups."""
    figure, axes = plt.subplots(figsize=(11, 3.6))
    sns.histplot(named(people), x="age", hue="gender", multiple="stack", discrete=True, palette=PALETTE, ax=axes)
    for cut in (labels.YOUNG_UNTIL, labels.OLD_FROM):
        axes.axvline(cut - 0.5, color="0.2", linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    counts = people.age.value_counts()
    spikes = ", ".join(f"{counts.get(year, 0)} at {year}" for year in (labels.YEARS[0], labels.YEARS[-1]))
    axes.set(title=f"How old are the people? Clipped at both ends: {spikes}", xlabel="age (years)", ylabel="people")
    return figure


def joint(people: pd.DataFrame) -> Figure:
    """Draw the number of people by gender and age group as a heat map."""
    table = named(people).groupby(["gender", "age_group"], observed=False).size().unstack()
    text = [[f"{n}\n{n / len(people):.0%}" for n in row] for row in table.to_numpy()]
    figure, axes = plt.subplots(figsize=(6, 2.8))
    sns.heatmap(table, annot=np.array(text), fmt="", cmap=PALETTE, vmin=0, cbar_kws={"label": "people"}, ax=axes)
    axes.set(title="Which people are rare?", xlabel="age group (years)", ylabel="")
    return figure


def classes(images: pd.DataFrame) -> Figure:
    """Draw the number of training photos in each of the 18 classes."""
    counts = images.label.dropna().astype(int).value_counts().reindex(range(len(labels.CLASSES)), fill_value=0)
    figure, axes = plt.subplots(figsize=(9, 5.2))
    names = [f"{k:2d}  {name}" for k, name in enumerate(labels.CLASSES)]
    masks = [labels.MASKS[k] for k in labels.decode(np.arange(len(names)))[0]]
    sns.barplot(x=counts.to_numpy(), y=names, hue=masks, dodge=False, palette=PALETTE, ax=axes)
    for container in axes.containers:
        axes.bar_label(container, padding=3)
    axes.margins(x=0.1)
    ratio = counts.max() / max(counts.min(), 1)
    axes.set(title=f"How uneven are the 18 classes? The largest has {ratio:.0f} × the smallest", xlabel="photos", ylabel="")
    axes.legend(title="mask")
    return figure


def near_cuts(people: pd.DataFrame, years: int = 2) -> Figure:
    """Draw the people recorded within ``years`` of each cut: those whose group an error of that size would change."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
    for axes, cut in zip(panels, (labels.YOUNG_UNTIL, labels.OLD_FROM), strict=True):
        window = list(range(cut - years, min(cut + years, labels.YEARS[-1] + 1)))
        near = named(people[people.age.isin(window)])
        sns.countplot(near, x="age", order=window, hue="gender", palette=PALETTE, ax=axes, legend=axes is panels[-1])
        axes.axvline(years - 0.5, color="0.2", linestyle="--")
        axes.set(title=f"{len(near)} of {len(people)} people are near {cut}", xlabel="age (years)", ylabel="people")
    return figure


def gallery(data_dir: str | Path, files: Sequence[str], captions: Sequence[str], title: str, columns: int = 7) -> Figure:
    """Draw photos row by row, ``columns`` in a row, each under its caption; a file of "" leaves its place empty."""
    return grid([read(resolve(data_dir) / file, 2) if file else None for file in files], list(captions), title, columns)


def class_examples(images: pd.DataFrame, data_dir: str | Path, each: int, seed: int) -> Figure:
    """Draw ``each`` random people of each class, a photo of each: a row a gender and age group, columns by mask state."""
    ok = images[(images.split == "train") & (images.status == "ok")]
    drawn = ok.sample(frac=1, random_state=seed).drop_duplicates(["label", "person"]).groupby("label").file
    mask, gender, age_group = labels.decode(np.arange(len(labels.CLASSES)))
    order = np.repeat(np.lexsort((mask, age_group, gender)), each)
    picked = {label: [*files.head(each)] + [""] * each for label, files in drawn}
    files = [picked.get(label, [""] * each)[k % each] for k, label in enumerate(order)]
    captions = [labels.CLASSES[label].replace(" ", "\n", 1) for label in order]
    return gallery(data_dir, files, captions, "What does each class look like?", len(labels.MASKS) * each)


def photo_statistics(images: pd.DataFrame) -> Figure:
    """Draw file size, brightness and the mean of each channel by mask state."""
    photos = named(images[(images.split == "train") & (images.status == "ok")]).assign(
        kilobytes=lambda frame: frame.bytes / 1000
    )
    figure, (size, light, colour) = plt.subplots(1, 3, figsize=(12, 3.4), width_ratios=[1, 1, 2])
    sns.boxplot(photos, x="mask", y=photos.kilobytes.astype(float), ax=size, color="0.75", fliersize=2)
    sns.boxplot(photos, x="mask", y="brightness", ax=light, color="0.75", fliersize=2)
    means = photos.melt("mask", [f"mean_{channel}" for channel in "rgb"], "channel", "mean")
    means["channel"] = means.channel.map({"mean_r": "red", "mean_g": "green", "mean_b": "blue"})
    sns.boxplot(means, x="channel", y="mean", hue="mask", palette=PALETTE, ax=colour, fliersize=2)
    sns.move_legend(colour, "upper left", bbox_to_anchor=(1, 1))
    size.set(title="File size", xlabel="mask", ylabel="kB (log scale)", yscale="log")
    size.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    size.yaxis.set_major_formatter("{x:.0f}")
    size.minorticks_off()
    light.set(title="Brightness", xlabel="mask", ylabel="mean grey value (0 to 255)")
    colour.set(title="Colour: does a channel tell the mask?", xlabel="channel", ylabel="mean of a photo (0 to 1)")
    return figure


def pairs(images: pd.DataFrame, duplicates: pd.DataFrame, data_dir: str | Path, most: int = 9) -> Figure:
    """Draw the first ``most`` pairs of ``dataset.duplicates`` side by side."""
    shown = duplicates.head(most)
    keys = shown[["first", "second"]].to_numpy().ravel()
    captions = [text for pair in shown.itertuples() for text in (f"{pair.match}, {pair.bits} bits", pair.where)]
    return gallery(data_dir, images.loc[keys, "file"], captions, "Are these copies?", columns=6)
