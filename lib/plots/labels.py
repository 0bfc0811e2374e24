"""Figure of label errors: the photos of each candidate, with what is recorded and proposed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.artefacts import resolve
from lib.data.photos import read
from lib.plots.grid import grid

MOST = 7  # photos of a person in a row
NAME = 24  # characters of a name that fit under a photo


def gallery(found: pd.DataFrame, images: pd.DataFrame, data_dir: str) -> Figure | None:
    """Show a row per candidate of ``labels.candidates``, in their order: the photos that change.

    Above the first photo stand rank, score, person and change; above the second one of an exchange
    the change back. The place of a photo that cannot be read stays empty.
    """
    columns = min(MOST, found.photos.map(len).max()) if len(found) else 1
    pictures: list[np.ndarray | None] = []
    captions = []
    for rank, one in enumerate(found.to_dict("records"), start=1):
        rows = images.loc[one["photos"][:columns]]
        gap = columns - len(rows)
        pictures += [_picture(row, data_dir) for row in rows.itertuples()] + [None] * gap
        captions += _captions(rank, one, rows) + [""] * gap
    title = f"Would you change these? {len(found)} candidates, the most likely error first"
    return grid(pictures, captions, title, columns)


def _picture(row, data_dir: str) -> np.ndarray | None:
    return read(resolve(data_dir) / row.file) if row.status == "ok" else None


def _captions(rank: int, one: Mapping, rows: pd.DataFrame) -> list[str]:
    """Return a caption per photo; two of different recorded values are an exchange."""
    first = (
        f"{rank}. score {one['score']:.1f}\n{one['person'][-NAME:]}\n{one['from']} → {one['to']}"
    )
    back = f"{one['to']} → {one['from']}" if rows[one["field"]].nunique() > 1 else ""
    return [first, *[back] * (len(rows) - 1)]
