"""Reading a photo: the one decoder that audit, detection and crops ask, so that they agree."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 274  # the EXIF tag that says how a stored picture is to be turned
TURNED = range(2, 9)  # its values other than "upright"
FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}


def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
    """Return the picture in a file's bytes, upright, as (h, w, 3) RGB uint8; None if there is none.

    It is decoded at 1/``reduce`` (1, 2, 4) of its size. OpenCV refuses truncated files.
    """
    try:
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS[reduce]) if data else None
    except cv2.error:  # more pixels than OpenCV accepts
        return None
    return None if photo is None else cv2.cvtColor(photo, cv2.COLOR_BGR2RGB, photo)


def read(file: str | Path, reduce: int = 1) -> np.ndarray | None:
    """Return a photo file as ``decode`` does; None if it is missing or cannot be read."""
    path = Path(file)
    return decode(path.read_bytes(), reduce) if path.is_file() else None


def read_folder(folder: Path, pattern: str = "[!.]*") -> dict[str, np.ndarray]:
    """Return the photos of a folder by file name; by default all except hidden files."""
    return {file.name: read(file) for file in sorted(folder.glob(pattern))}


def header(data: bytes) -> tuple[tuple[int, int], int]:
    """Return the upright (width, height) and the EXIF orientation of a picture that decodes."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            orientation = picture.getexif().get(ORIENTATION, 1)
            size = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Pillow refuses it, OpenCV reads it
        height, width = decode(data).shape[:2]  # type: ignore[union-attr]
        return (width, height), 1
    return (size[::-1] if orientation in range(5, 9) else size), orientation
