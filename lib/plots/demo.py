"""Figures of the demo data."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.pyplot import close, subplots

from lib import labels


def read_photos(folder: Path, pattern: str = "[!.]*") -> dict[str, np.ndarray]:
    """Return the RGB photos of a folder by file name; by default all but macOS junk."""
    files = sorted(folder.glob(pattern))
    return {file.name: cv2.imread(str(file))[..., ::-1] for file in files}


def contact_sheet(photos: Sequence[np.ndarray], captions: Sequence[str], columns: int, title: str) -> Figure:
    """Show photos (H, W, 3) in rows of ``columns``, each under its caption."""
    rows = -(-len(photos) // columns)
    figure, axes = subplots(rows, columns, figsize=(1.6 * columns, 2.35 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, photo, caption in zip(axes.flat, photos, captions, strict=False):
        axis.imshow(photo)
        axis.set_title(caption, fontsize=9, loc="center", weight="normal")
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    close(figure)  # shown once, by the cell that returns it
    return figure


def ages(people: pd.DataFrame) -> Figure:
    """Show recorded ages by gender from the columns ``age`` and ``gender``, with the two official cuts."""
    figure, axis = subplots(figsize=(9, 3))
    bins = np.append(labels.YEARS, labels.YEARS[-1] + 1) - 0.5
    sns.histplot(
        people, x="age", hue="gender", hue_order=labels.GENDERS, bins=bins, multiple="stack", palette="cividis", ax=axis
    )
    for cut in (labels.YOUNG_UNTIL, labels.OLD_FROM):
        axis.axvline(cut - 0.5, color="black", linestyle="--", linewidth=1)
    axis.set(title="Recorded ages pile up at 18 and 60, where they are clipped", xlabel="age (years)", ylabel="people")
    close(figure)
    return figure
