"""One grid of pictures for all galleries and contact sheets."""

from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INCHES = 1.5  # width of a picture, less where they would not fit side by side
PAGE = 12  # width of a figure at most, inches: a wider one is shown smaller, with its captions
FLATTEST, TALLEST = 1 / 3, 3  # height over width of a picture's place: a strip does not need more
PIXELS = 180  # longer side that a picture is reduced to at most: more would not be seen
LINE = 0.16  # height of a line of caption, inches
TITLE = 0.3  # height of the title, inches


def grid(
    pictures: Sequence[np.ndarray | None], captions: Sequence[str], title: str, columns: int
) -> Figure | None:
    """Show RGB pictures (h, w, 3) row by row, each under its caption; None leaves its place empty.

    Without any picture there is no figure: the title and a sentence are printed. The places are
    computed here, since matplotlib's own layouts take seconds for dozens of panels.
    """
    ratios = [picture.shape[0] / picture.shape[1] for picture in pictures if picture is not None]
    if not ratios:
        print(f"{title}\nThere is nothing to show.")
        return None
    lines = max(caption.count("\n") + 1 if caption else 0 for caption in captions)
    across = min(INCHES, PAGE / columns)
    cell = across * float(np.clip(np.median(ratios), FLATTEST, TALLEST))
    step = cell + LINE * (1.5 + lines)
    width, height = across * columns, TITLE + step * -(-len(pictures) // columns)
    figure = plt.figure(figsize=(width, height), layout="none")
    corner = {"x": 0.005, "y": 1 - 0.02 / height, "ha": "left", "va": "top"}
    figure.suptitle(title, fontweight="bold", **corner)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        if picture is not None:
            row, column = divmod(place, columns)
            bottom = (height - TITLE - step * (row + 1)) / height
            box = (column / columns, bottom, 0.97 / columns, cell / height)
            _show(picture, caption, figure.add_axes(box))
    return figure


def resized(picture: np.ndarray, side: float) -> np.ndarray:
    """Return a picture whose longer side has ``side`` px, its shorter one at least one."""
    scale = max(side / max(picture.shape[:2]), 1 / min(picture.shape[:2]))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _show(picture: np.ndarray, caption: str, axes: Axes) -> None:
    axes.imshow(resized(picture, min(PIXELS, max(picture.shape[:2]))))
    axes.set_title(caption, fontsize=8, loc="center", fontweight="normal", pad=3)
    axes.axis("off")
