"""One grid of pictures for all galleries and contact sheets."""

from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

INCHES = 1.5  # width of a picture
PIXELS = 180  # width that a picture is reduced to: what is seen, not what is stored
LINE = 0.16  # height of a line of caption, inches


def grid(pictures: Sequence[np.ndarray | None], captions: Sequence[str], title: str, columns: int) -> Figure:
    """Show RGB pictures (h, w, 3) row by row, each under its caption; None leaves its place empty.

    The places are computed here: matplotlib's own layouts take seconds for dozens of panels.
    """
    shown = next((picture for picture in pictures if picture is not None), np.zeros((4, 3, 3)))
    rows, cell = -(-len(pictures) // columns), INCHES * shown.shape[0] / shown.shape[1]
    gap = LINE * (1.5 + max((caption.count("\n") + 1 for caption in captions if caption), default=0))
    width, height = INCHES * columns, rows * (cell + gap) + 0.3
    figure = plt.figure(figsize=(width, height), layout="none")
    figure.suptitle(
        title if rows else f"{title} There are none", fontweight="bold", x=0.005, y=1 - 0.02 / height, ha="left", va="top"
    )
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(place, columns)
        if picture is not None:
            bottom = height - 0.3 - (row + 1) * (cell + gap)
            axes = figure.add_axes((INCHES * column / width, bottom / height, 0.97 * INCHES / width, cell / height))
            axes.imshow(_reduced(picture), aspect="auto" if picture.shape == shown.shape else "equal")
            axes.set_title(caption, fontsize=8, loc="center", fontweight="normal", pad=3)
            axes.axis("off")
    return figure


def _reduced(picture: np.ndarray) -> np.ndarray:
    scale = min(PIXELS / picture.shape[1], 1)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
