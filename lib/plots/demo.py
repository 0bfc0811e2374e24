"""Figures of the demo data."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots

from lib import labels


def read_photos(folder: Path, pattern: str = "[!.]*") -> dict[str, np.ndarray]:
    """Return the RGB photos of a folder by file name; by default all but macOS junk."""
    files = sorted(folder.glob(pattern))
    return {file.name: cv2.imread(str(file))[..., ::-1] for file in files}


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
    return figure
