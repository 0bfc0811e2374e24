"""The same epochs from pictures that are kept in other places than the memory-mapped file."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.face.crops import Crops, made_from, make_crop
from lib.face.geometry import stored_size
from lib.learn.batches import Epochs


class Decoded:
    """Stands for ``Crops.pixels``: a crop is decoded and cut from its photo whenever it is read."""

    def __init__(
        self, crops: Crops, images: pd.DataFrame, found: pd.DataFrame, data_dir: str | Path
    ):
        table = pd.read_parquet(crops.folder / "crops.parquet")
        self.files, self.faces, self.boxes = made_from(table, images, found, data_dir)
        self.size = stored_size(crops.image_size)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the crop (H, W, 3) RGB uint8."""
        return make_crop(self.files[row], self.faces[row], self.boxes[row], self.size, "keep")


def with_pixels(data: Epochs, pixels: np.ndarray | Decoded) -> Epochs:
    """Return the same epochs of photos whose stored crops are ``pixels``."""
    photos = copy(data.photos)
    photos.crops = [replace(crops, pixels=pixels) for crops in photos.crops]
    return replace(data, photos=photos)


def loaded(data: Epochs) -> int:
    """Go through an epoch without training and return its number of photos."""
    return sum(len(images) for images, _ in data(0))


def loading(data: Epochs) -> Callable[[], int]:
    """Return a call of ``loaded``."""
    return lambda: loaded(data)
