"""Photos as they lie on disk: the seven that a person has, and the one way of reading a file."""

from pathlib import Path

import cv2
import numpy as np

STEMS = {f"mask{k}": 0 for k in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}  # a person's seven photos: their mask codes


def read(file: str | Path, reduce: int = 1) -> np.ndarray | None:
    """Return a photo as (h, w, 3) RGB uint8, decoded at 1/``reduce`` (1, 2, 4) of its size; None if it cannot be read.

    The picture is as stored, orientation tags ignored, as its width and height in ``images.parquet`` are.
    """
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}[reduce]
    data = np.fromfile(file, np.uint8) if Path(file).is_file() else np.empty(0, np.uint8)
    photo = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    return None if photo is None else cv2.cvtColor(photo, cv2.COLOR_BGR2RGB, photo)


def read_folder(folder: Path, pattern: str = "[!.]*") -> dict[str, np.ndarray]:
    """Return the photos of a folder by file name; by default all but macOS junk."""
    return {file.name: read(file) for file in sorted(folder.glob(pattern))}
