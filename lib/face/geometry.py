"""Boxes and crops: what is cut out of a photo, as numbers, and the cutting.

A box is x0, y0, x1, y1 in pixels; an aspect is width over height. A crop's box has the aspect of
the image that it becomes, so nothing is squashed; outside the photo its border is repeated.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from lib.errors import pick

ROOM = 9 / 8  # stored size over training size: room for random crops without storing the photo
CENTER_SHARE = 350 / 384  # the 2021 winner cut 350 px out of photos 384 px wide


def grow(box, aspect: float) -> np.ndarray:
    """Return the smallest box of ``aspect`` with the same centre that contains ``box``."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, (y1 - y0) * aspect), max(y1 - y0, (x1 - x0) / aspect)
    return _centred((x0 + x1) / 2, (y0 + y1) / 2, width, height)


def _centred(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def _whole(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    return grow((0, 0, width, height), aspect)


def _center(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    wide = CENTER_SHARE * min(width, height * aspect)
    return _centred(width / 2, height / 2, wide, wide / aspect)


def _face(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    x0, y0, x1, y1 = face
    side, top = margin * (x1 - x0), margin * (y1 - y0)
    return grow((x0 - side, y0 - top, x1 + side, y1 + top), aspect)


CROPS: dict[str, Callable] = {"whole": _whole, "center": _center, "face": _face}


def crop_box(crop: str, face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    """Return the box (4,) of ``aspect`` that ``crop`` cuts out of a photo; it may exceed the photo.

    ``margin`` is the share of the face box added on each side; only ``crop="face"`` uses it.
    """
    return pick(CROPS, crop, "crop")(face, width, height, margin, aspect)


def stored_size(image_size) -> tuple[int, int]:
    """Return the (height, width) stored for ``image_size``: 9/8 of it, rounded up to even."""
    height, width = (2 * math.ceil(side * ROOM / 2) for side in image_size)
    return height, width


def _spare(box, size: tuple[int, int]) -> int:
    """Return how many whole pixels of the photo become one of the crop, at least 1."""
    return max(1, int(min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0])))


def reduction(box, size: tuple[int, int]) -> int:
    """Return 1, 2 or 4: how much smaller a photo may be decoded without loss in its crop."""
    return max(factor for factor in (1, 2, 4) if factor <= _spare(box, size))


def cut(photo: np.ndarray, box, size: tuple[int, int]) -> np.ndarray:
    """Return ``box`` of ``photo`` (h, w, 3) resized to ``size`` (height, width)."""
    photo, box = _shrunk(photo, np.asarray(box), size)
    height, width = size
    sx, sy = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    # Pixel i covers [i, i + 1), so its centre is i + 1/2, in the crop and in the photo.
    to_photo = np.array([[sx, 0, box[0] + sx / 2 - 0.5], [0, sy, box[1] + sy / 2 - 0.5]])
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(photo, to_photo, (width, height), **how)


def _shrunk(photo: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple:
    """Return photo and box as small as the crop allows: linear interpolation would skip pixels."""
    times, sides = _spare(box, size), photo.shape[1::-1]  # width, height
    if times == 1:
        return photo, box
    less = [max(1, side // times) for side in sides]
    small = cv2.resize(photo, less, interpolation=cv2.INTER_AREA)
    return small, box * np.tile(np.divide(less, sides), 2)
