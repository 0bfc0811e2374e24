"""Figure of label errors: the photos of each candidate, with what is recorded and proposed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.artefacts import resolve
from lib.data.photos import read
from lib.plots.grid import grid

MOST = 7  # photos of a person in a row
NAME = 22  # characters of a name that fit under a photo


def gallery(found: pd.DataFrame, images: pd.DataFrame, data_dir: str) -> Figure | None:
    """Show a row per candidate of ``labels.candidates``, in their order: the photos that change.

    Under the first photo stand rank, person and score; under those of an exchange, both ways.
    """
    readable = images[images.status == "ok"]
    columns = min(MOST, found.photos.map(len).max()) if len(found) else 1
    pictures: list[np.ndarray | None] = []
    captions = []
    for rank, one in enumerate(found.to_dict("records"), start=1):
        keys = [key for key in one["photos"] if key in readable.index][:columns]
        gap = columns - len(keys)
        pictures += [read(resolve(data_dir) / readable.file[key]) for key in keys] + [None] * gap
        captions += [_caption(rank, one, place) for place in range(len(keys))] + [""] * gap
    title = f"Would you change these? {len(found)} candidates, the most likely error first"
    return grid(pictures, captions, title, columns)


def _caption(rank: int, one: Mapping, place: int) -> str:
    change = f"{one['from']} → {one['to']}"
    if place == 0:
        return f"{rank}. {one['person']}"[:NAME] + f"\n{change}\nscore {one['score']:.1f}"
    exchange = len(one["photos"]) == 2 and place == 1
    return f"\n{one['to']} → {one['from']}" if exchange else ""
