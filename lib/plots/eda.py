"""Figures of notebook 01: who is in the data, what the photos look like, what is wrong with them.

Those of people take the frame of ``index.people``, those of photos the frame ``images``. Where a
task or a set has nothing to draw, a sentence is printed instead.
"""

from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from lib.artefacts import resolve
from lib.data.issues import state_names, states
from lib.data.photos import read
from lib.plots.grid import grid
from lib.plots.style import PALETTE
from lib.task.attributes import Attribute, Task

CUT = {"color": "0.2", "linestyle": "--"}  # how a cut of an ordered attribute is drawn
MANY = 60  # classes that still fit into one figure


def _ordered(task: Task, table: pd.DataFrame) -> list[Attribute]:
    return [task[name] for name in task.names if task[name].ordered and name in table]


def _hue(task: Task, people: pd.DataFrame) -> dict:
    """Return how seaborn colours bars: by the first unordered attribute of people, if any."""
    for name in task.names:
        if name in people and not task[name].ordered:
            classes = pd.Categorical.from_codes(people[name].astype(int), task.classes(name))
            return {"hue": pd.Series(classes, people.index, name=name), "palette": PALETTE}
    return {"color": "0.45"}


def _unit(people: pd.DataFrame) -> str:
    """Return what a row of ``people`` is called: where each photo stands alone, it is a photo."""
    return "people" if (people.photos > 1).any() else "photos"


def values(people: pd.DataFrame, task: Task) -> Figure | None:
    """Draw how often each number of an ordered attribute is recorded, with its cuts."""
    attributes = _ordered(task, people)
    if not attributes:
        print("No attribute of this task is an ordered number.")
        return None
    figure, panels = plt.subplots(1, len(attributes), figsize=(11, 3.6), squeeze=False)
    for axes, attribute in zip(panels.flat, attributes, strict=True):
        numbers, hue = people[attribute.name].astype(int), _hue(task, people)
        sns.histplot(x=numbers, discrete=True, multiple="stack", ax=axes, **hue)
        for cut in attribute.cuts:
            axes.axvline(cut - 0.5, **CUT)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        ends = [f"{(numbers == end).sum()} at {end}" for end in attribute.values]
        axes.set(title=f"{attribute.name}: {' and '.join(ends)}, the ends of the range")
        axes.set(xlabel=f"{attribute.name}, recorded", ylabel=_unit(people))
    return figure


def joint(people: pd.DataFrame, task: Task) -> Figure:
    """Draw how many people there are of each combination of classes, the last attribute across."""
    *rest, last = [name for name in task.names if name in people]
    groups = {name: np.asarray(task[name].group(people[name]), int) for name in [*rest, last]}
    down = np.zeros(len(people), int) + task.encode({name: groups[name] for name in rest})
    table = pd.crosstab(
        pd.Categorical.from_codes(down, task.combinations(rest)),
        pd.Categorical.from_codes(groups[last], task.classes(last)),
        dropna=False,
    )
    size = np.minimum((2 + 1.3 * table.shape[1], 1.2 + 0.8 * table.shape[0]), 12)
    figure, axes = plt.subplots(figsize=size)
    text = table.map(lambda n: f"{n}\n{n / len(people):.0%}")
    look = {"annot": text if table.size <= MANY else False, "fmt": "", "cmap": PALETTE, "vmin": 0}
    sns.heatmap(table, cbar_kws={"label": _unit(people)}, ax=axes, **look)
    least = " ".join(table.stack().idxmin()).strip()
    title = f"Rarest: {least}, {table.min().min()} {_unit(people)}"
    axes.set(title=title, xlabel=last, ylabel="")
    axes.tick_params(axis="y", rotation=0)
    return figure


def classes(images: pd.DataFrame, task: Task) -> Figure:
    """Draw the number of training photos of each label, or of each attribute's classes."""
    train = images[images.split == "train"]
    labelled = task.joint and len(task.classes()) <= MANY
    groups = {"label": train.label} if labelled else task.groups(train)
    found = []
    for name, codes in groups.items():
        names = [f"{k:2d}  {text}" for k, text in enumerate(task.classes(name))]
        count = codes.astype(int).value_counts().reindex(range(len(names)), fill_value=0)
        found.append(count.set_axis(names))
    counts = pd.concat(found)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.24 * len(counts)))
    axes.barh(range(len(counts)), counts, color="0.45")
    axes.bar_label(axes.containers[0], padding=3)
    axes.set_yticks(range(len(counts)), counts.index)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    ratio = counts.max() / max(counts.min(), 1)
    title = f"The largest class has {ratio:.1f} × the photos of the smallest"
    axes.set(title=title, xlabel="photos")
    return figure


def near_cuts(people: pd.DataFrame, task: Task) -> Figure | None:
    """Draw the people near each cut of an ordered attribute: a small error changes their class."""
    cuts = [(attribute, cut) for attribute in _ordered(task, people) for cut in attribute.cuts]
    if not cuts:
        print("No attribute of this task is an ordered number with cuts.")
        return None
    figure, panels = plt.subplots(1, len(cuts), figsize=(4.5 * len(cuts), 3), squeeze=False)
    for axes, (attribute, cut) in zip(panels.flat, cuts, strict=True):
        window = [n for n in range(cut - 2, cut + 3) if n in attribute.recorded]
        near = people[people[attribute.name].isin(window)]
        numbers = near[attribute.name].astype(int)
        sns.countplot(x=numbers, order=window, ax=axes, **_hue(task, near))
        axes.axvline(window.index(cut) - 0.5, **CUT)
        axes.set_xticks(range(len(window)), window)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        title = f"{len(near)} of {len(people)} {_unit(people)} are near {cut}"
        axes.set(title=title, xlabel=f"{attribute.name}, recorded", ylabel=_unit(people))
    return figure


def gallery(
    data_dir: str | Path, files: Iterable[str], captions: Iterable[str], title: str, columns=7
) -> Figure | None:
    """Draw photos row by row, each under its caption; a file of "" leaves its place empty."""
    pictures = [read(resolve(data_dir) / file, 2) if file else None for file in files]
    return grid(pictures, list(captions), title, columns)


def one_person(images: pd.DataFrame, data_dir: str | Path, seed: int) -> Figure | None:
    """Draw the photos of one of the people who have most of them."""
    photos = images[(images.split == "train") & (images.status == "ok")]
    counts = photos.groupby("person").size()
    person = counts[counts == counts.max()].sample(1, random_state=seed).index[0]
    shown = photos[photos.person == person].head(14)
    captions = [key.split("/")[-1] for key in shown.index]
    together = f"{counts.max()} photos belong together"
    title = f"{together if counts.max() > 1 else 'Every photo stands alone'}: {person}"
    return gallery(data_dir, shown.file, captions, title)


def class_examples(
    images: pd.DataFrame, task: Task, data_dir: str | Path, each: int, seed: int
) -> Figure | None:
    """Draw ``each`` random photos of every class, of as many people; at most MANY classes."""
    photos = images[(images.split == "train") & (images.status == "ok")]
    drawn = photos.sample(frac=1, random_state=seed).drop_duplicates(["label", "person"])
    labels = range(len(task.classes())) if task.joint else sorted(set(drawn.label))
    files, captions = [], []
    for label in labels[:MANY]:
        found = drawn.file[drawn.label == label].head(each).tolist()
        files += found + [""] * (each - len(found))
        captions += [_names(label, task).replace(" ", "\n", 1)] * each
    columns = min(len(task.classes(task.names[-1])) * each, 10)
    return gallery(data_dir, files, captions, "What does each class look like?", columns)


def photo_statistics(images: pd.DataFrame, task: Task) -> Figure:
    """Draw file size, brightness and the mean of each channel by what is recorded per photo."""
    photos = images[(images.split == "train") & (images.status == "ok")]
    photos = photos.assign(state=states(photos, task), kilobytes=photos.bytes.astype(float) / 1000)
    order = [name for name in state_names(task) if name in set(photos.state)]
    figure, (size, light, colour) = plt.subplots(1, 3, figsize=(12, 3.4), width_ratios=[1, 1, 2])
    for axes, column in ((size, "kilobytes"), (light, "brightness")):
        sns.boxplot(photos, x="state", y=column, order=order, ax=axes, color="0.75", fliersize=2)
        axes.tick_params(axis="x", rotation=30 if len(order) > 3 else 0)
    channels = {"mean_r": "red", "mean_g": "green", "mean_b": "blue"}
    means = photos.rename(columns=channels).melt("state", [*channels.values()], "channel", "mean")
    look = {"hue": "state", "hue_order": order, "palette": PALETTE, "fliersize": 2}
    sns.boxplot(means, x="channel", y="mean", ax=colour, **look)
    sns.move_legend(colour, "upper left", bbox_to_anchor=(1, 1), title="")
    size.set(title="File size", xlabel="", ylabel="kB (log scale)", yscale="log")
    size.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    size.yaxis.set_major_formatter("{x:.3g}")
    size.tick_params(axis="y", labelsize=9)
    size.minorticks_off()
    light.set(title="Brightness", xlabel="", ylabel="mean grey (0 to 255)")
    colour.set(title="Colour: does a channel tell the class?", ylabel="mean per photo (0 to 1)")
    return figure


def pairs(images: pd.DataFrame, duplicates: pd.DataFrame, data_dir: str | Path) -> Figure | None:
    """Draw the first nine pairs of ``issues.duplicates`` next to each other."""
    shown = duplicates.head(9)
    keys = shown[["first", "second"]].to_numpy().ravel()
    captions = [f"{pair.match}, {pair.bits} bits" for pair in shown.itertuples()]
    captions = np.column_stack([captions, shown["where"]]).ravel()
    return gallery(data_dir, images.loc[keys, "file"], captions, "Are these copies?", columns=6)


def corrections(
    images: pd.DataFrame, corrected: pd.DataFrame, task: Task, data_dir: str | Path
) -> Figure | None:
    """Draw photos whose label a correction changes, one per person and label."""
    changed = images[(images.label != corrected.label) & (images.status == "ok")]
    changed = changed.drop_duplicates(["person", "label"]).head(21)
    labels = zip(changed.label, corrected.label[changed.index], strict=True)
    captions = [f"{_names(old, task)}\n→ {_names(new, task)}" for old, new in labels]
    return gallery(data_dir, changed.file, captions, "Are the corrections right?")


def _names(label: int, task: Task) -> str:
    return " ".join(task.classes(name)[code] for name, code in task.decode(int(label)).items())
