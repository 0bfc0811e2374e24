"""Figures of notebook 02: faces, their scores and crops; of nothing, a sentence is printed."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.artefacts import resolve
from lib.data.photos import read
from lib.face.faces import BOX, LANDMARKS, NEAR, SURE
from lib.plots.grid import PIXELS, grid, resized
from lib.plots.style import PALETTE

STATUS = {  # how a status is drawn: its mark, its colour
    "detected": ("o", "#c9b86a"),
    "low": ("s", "#00337c"),
    "fallback": ("X", "black"),
}


def detection_rates(compared: pd.DataFrame, kinds: pd.Series) -> Axes | None:
    """Draw the share of sure faces by kind of photo and detector, from ``faces.compare``."""
    if compared.empty:
        print("No photo was searched with both detectors, so there is nothing to compare.")
        return None
    scores = compared.drop(columns="iou")
    rates = (scores >= SURE).groupby(kinds[compared.index]).mean()
    axes = rates.plot.barh(figsize=(8, 0.6 * len(rates) + 1.6), colormap=PALETTE, edgecolor="black")
    for bars in axes.containers:
        axes.bar_label(bars, fmt=" {:.0%}", fontsize=9)
    title = f"How many of {len(compared)} faces are found?"
    axes.set(title=title, xlabel=f"share with score ≥ {SURE}", ylabel="", xlim=(0, 1.1))
    axes.invert_yaxis()
    axes.legend(title="", loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def scores(faces: pd.DataFrame, kinds: pd.Series) -> Axes | None:
    """Draw the detection score of every photo by kind; photos without any candidate have none."""
    table = faces[["score"]].assign(kind=kinds).dropna()
    if table.empty:
        print("No photo has a score.")
        return None
    _, axes = plt.subplots(figsize=(8, 0.5 * table.kind.nunique() + 1.6))
    look = {"color": "0.25", "size": 3, "alpha": 0.6, "jitter": 0.3}
    sns.stripplot(table, x="score", y="kind", **look, ax=axes)
    axes.axvline(SURE, color="black", linestyle="--")
    below = (table.score < SURE).sum()
    axes.set(title=f"{below} of {len(table)} faces have a score below {SURE}", ylabel="")
    return axes


def box_scatter(images: pd.DataFrame, faces: pd.DataFrame) -> Figure | None:
    """Draw where boxes are centred and how large they are, in shares of the photo, by status."""
    table = faces[faces.status.isin(STATUS)].join(images[["width", "height"]].astype(float))
    if table.empty:
        print("No photo was searched, so every box is the whole photo.")
        return None
    table = table.sort_values("status", key=lambda status: status.map(list(STATUS).index))
    for axis, low, high, side in (("x", "x0", "x1", "width"), ("y", "y0", "y1", "height")):
        table[axis] = (table[low] + table[high]) / 2 / table[side]
        table[f"size_{axis}"] = (table[high] - table[low]) / table[side]
    figure, (where, how_large) = plt.subplots(1, 2, figsize=(11, 4.6))
    marks, colours = ({name: look[k] for name, look in STATUS.items()} for k in (0, 1))
    look = {"hue": "status", "style": "status", "markers": marks, "palette": colours, "s": 40}
    sns.scatterplot(table, x="x", y="y", **look, ax=where)
    sns.scatterplot(table, x="size_x", y="size_y", **look, legend=False, ax=how_large)
    square = {"fill": False, "linestyle": "--", "edgecolor": "black"}
    where.add_patch(plt.Rectangle((0.5 - NEAR, 0.5 - NEAR), 2 * NEAR, 2 * NEAR, **square))
    where.set(title="Where is the face?", xlim=(0, 1), ylim=(1, 0))
    where.set(xlabel="centre, share of width", ylabel="centre, share of height")
    how_large.set(title="How large is it?", xlim=(0, None), ylim=(0, None))
    how_large.set(xlabel="share of width", ylabel="share of height")
    return figure


def gallery(
    images: pd.DataFrame, faces: pd.DataFrame, data_dir: str, status: str, most: int
) -> Figure | None:
    """Show ``most`` photos of a status with box and landmarks, lowest score first."""
    shown = faces[faces.status == status].sort_values("score")
    keys = shown.index[:most]
    pictures = [_marked(read(resolve(data_dir) / images.file[key]), faces.loc[key]) for key in keys]
    captions = [_caption(key, faces.score[key]) for key in keys]
    title = f"{status}: {len(keys)} of {len(shown)} photos, lowest score first"
    return grid(pictures, captions, title, 8)


def _marked(photo: np.ndarray, face: pd.Series) -> np.ndarray:
    """Return the photo as large as a figure needs it, with box and landmarks drawn on it."""
    picture, colour = resized(photo, 2 * PIXELS), (255, 230, 0)
    scale = picture.shape[1] / photo.shape[1]
    x0, y0, x1, y1 = (face[BOX].to_numpy(float) * scale).astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1, y1), (0, 0, 0), 6)
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, 3)
    for x, y in face[LANDMARKS].dropna().to_numpy(float).reshape(-1, 2) * scale:
        cv2.circle(picture, (int(x), int(y)), 4, colour, -1)
    return picture


def _caption(key: str, score: float) -> str:
    lines = [part[-17:] for part in key.split("/")]
    return "\n".join(lines if np.isnan(score) else [*lines, f"{score:.2f}"])


def side_by_side(rows: dict[str, list[np.ndarray]], title: str) -> Figure | None:
    """Show pictures of the same photos, a row per way of making them, each under its name."""
    pictures = [picture for row in rows.values() for picture in row]
    names = [name for name, row in rows.items() for _ in row]
    return grid(pictures, names, title, max(map(len, rows.values())))
