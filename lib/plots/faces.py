"""Figures of the face crop: where faces were found, how surely, and what was cut out."""

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
from lib.plots.grid import grid
from lib.task.labels import MASKS

MARKS = {"detected": "o", "low": "s", "fallback": "X"}  # a status is told by its mark as well as by its colour


def detection_rates(rates: pd.DataFrame) -> Axes:
    """Draw the share of faces found by mask state (rows) and detector (columns)."""
    axes = rates.reindex(MASKS).plot.bar(rot=0, figsize=(8, 3.6), colormap="cividis", edgecolor="black", width=0.7)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:.0%}", fontsize=9)
    axes.set(title="How many faces are found?", xlabel="mask", ylabel=f"share with score ≥ {SURE}", ylim=(0, 1.12))
    axes.legend(title="", loc="lower right", framealpha=1)
    return axes


def scores(faces: pd.DataFrame, mask: pd.Series) -> Axes:
    """Draw the histogram of detection scores by mask state; photos without any candidate have none."""
    _, axes = plt.subplots(figsize=(8, 3.6))
    table = pd.DataFrame({"score": faces.score, "mask": mask})
    bins = np.linspace(0.3, 1, 29)
    sns.histplot(table, x="score", hue="mask", bins=bins, multiple="stack", palette="cividis", edgecolor="black", ax=axes)
    axes.axvline(SURE, color="black", linestyle="--")
    axes.set(title="How sure is the detector?", xlabel=f"score (dashed: {SURE}, taken anywhere)", ylabel="photos", yscale="log")
    return axes


def box_scatter(images: pd.DataFrame, faces: pd.DataFrame) -> Figure:
    """Draw where boxes are centred and how large they are, in shares of the photo, by status."""
    table = faces[faces.status != "unreadable"].join(images[["width", "height"]].astype(float))
    table = table.sort_values("status", key=lambda status: status.map(list(MARKS).index))  # the rare ones on top
    table["x"] = (table.x0 + table.x1) / 2 / table.width
    table["y"] = (table.y0 + table.y1) / 2 / table.height
    table["wide"] = (table.x1 - table.x0) / table.width
    table["tall"] = (table.y1 - table.y0) / table.height
    figure, (where, how_large) = plt.subplots(1, 2, figsize=(11, 4.6))
    look = {
        "hue": "status",
        "style": "status",
        "markers": MARKS,
        "hue_order": list(MARKS),
        "palette": ["#c9b86a", "#00337c", "black"],
        "s": 40,
    }
    sns.scatterplot(table, x="x", y="y", **look, ax=where)
    where.add_patch(plt.Rectangle((0.5 - NEAR, 0.5 - NEAR), 2 * NEAR, 2 * NEAR, fill=False, linestyle="--", edgecolor="black"))
    where.set(
        title="Where is the face?", xlabel="centre, share of width", ylabel="centre, share of height", xlim=(0, 1), ylim=(1, 0)
    )
    sns.scatterplot(table, x="wide", y="tall", **look, legend=False, ax=how_large)
    how_large.set(title="How large is it?", xlabel="share of width", ylabel="share of height", xlim=(0, None), ylim=(0, None))
    return figure


def _marked(photo: np.ndarray, face: pd.Series) -> np.ndarray:
    """Return a copy of the photo with box and landmarks drawn on it."""
    photo, colour = photo.copy(), (255, 230, 0)
    if not face[BOX].isna().any():
        x0, y0, x1, y1 = face[BOX].astype(int)
        cv2.rectangle(photo, (x0, y0), (x1, y1), (0, 0, 0), 8)
        cv2.rectangle(photo, (x0, y0), (x1, y1), colour, 4)
    for x, y in face[LANDMARKS].dropna().to_numpy(float).reshape(-1, 2):
        cv2.circle(photo, (int(x), int(y)), 6, colour, -1)
    return photo


def gallery(images: pd.DataFrame, faces: pd.DataFrame, data_dir: str, status: str, most: int = 0, columns: int = 8) -> Figure:
    """Show the readable photos of one status with box and landmarks, lowest score first; ``most`` 0 shows all."""
    shown = faces[faces.status == status].sort_values("score")
    keys = shown.index[:most] if most else shown.index
    pictures = [_marked(read(resolve(data_dir) / images.file[key]), faces.loc[key]) for key in keys]
    captions = [_caption(key, faces.score[key]) for key in keys]
    return grid(pictures, captions, f"{status}: {len(keys)} of {len(shown)} photos, lowest score first.", columns)


def _caption(key: str, score: float) -> str:
    lines = [part[-18:] for part in key.split("/")]
    return "\n".join(lines if np.isnan(score) else [*lines, f"{score:.2f}"])


def side_by_side(rows: dict[str, list[np.ndarray]], title: str) -> Figure:
    """Show pictures of the same photos, one named row a way of making them."""
    captions = [name if place == 0 else "" for name, pictures in rows.items() for place in range(len(pictures))]
    return grid([picture for pictures in rows.values() for picture in pictures], captions, title, max(map(len, rows.values())))
