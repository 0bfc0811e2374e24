"""Reading a photo: the one decoder that audit, detection and crops ask, so that they agree."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 274  # the EXIF tag that says how a stored picture is to be turned
TURNED = range(2, 9)  # its values other than "upright"
FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
LARGEST = 2**28  # pixels of a photo at most: 0.8 GB when decoded
REFUSED = (OSError, ValueError, SyntaxError)  # what Pillow raises for a header it cannot read
Image.MAX_IMAGE_PIXELS = None  # Pillow reads headers only, and LARGEST holds for both decoders


def contents(file: str | Path) -> bytes:
    """Return the bytes of a file; none if it is missing or cannot be opened."""
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""


def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
    """Return the picture in a file's bytes, upright, as (h, w, 3) RGB uint8; None if there is none.

    It is decoded at 1/``reduce`` (1, 2, 4) of its size. OpenCV refuses truncated files, and takes
    the first of several frames. More pixels than LARGEST are refused before they are decoded.
    """
    if not data or _pixels(data) > LARGEST:
        return None
    try:
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS[reduce])
    except cv2.error:  # more pixels than OpenCV accepts
        return None
    return None if photo is None else cv2.cvtColor(photo, cv2.COLOR_BGR2RGB, photo)


def _pixels(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.width * picture.height
    except REFUSED:
        return 0  # OpenCV may still read it, within a limit of its own


def read(file: str | Path, reduce: int = 1) -> np.ndarray | None:
    """Return a photo file as ``decode`` does; None if it is missing or cannot be read."""
    return decode(contents(file), reduce)


def header(data: bytes) -> dict[str, int]:
    """Return upright width and height, EXIF orientation and frames of a picture that decodes."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            orientation = picture.getexif().get(ORIENTATION, 1)
            width, height = picture.size[:: -1 if orientation in range(5, 9) else 1]
            frames = getattr(picture, "n_frames", 1)
    except REFUSED:  # OpenCV reads it all the same
        orientation, frames = 1, 1
        height, width = decode(data).shape[:2]  # type: ignore[union-attr]
    return {"width": width, "height": height, "orientation": orientation, "frames": frames}
