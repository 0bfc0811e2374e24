"""The canvas that everything is drawn on: float32 planes, channel first, drawn on in face units.

Channel first is several times faster in NumPy. Colours are RGB, 0 to 255.
"""

from functools import lru_cache

import cv2
import numpy as np

from lib.demo.portrait.shapes import ribbon

UNIT = 125  # px per face unit, a little more than in a photo so that a turned head stays sharp
SIZE, ORIGIN = (280, 440), (140, 212)  # (width, height) and the place of (0, 0), px
BLACK, WHITE = np.float32([18, 14, 14]), np.float32([250, 250, 248])
Region = tuple[slice, slice]  # rows and columns


class Canvas:
    """A picture (4, H, W), float32: RGB times opacity, and the opacity itself (0..1)."""

    def __init__(self, size=SIZE, unit=UNIT, origin=ORIGIN):
        width, height = size
        self.unit, self.origin = unit, np.float64(origin)
        self.planes = np.zeros((4, height, width), np.float32)

    def coverage(self, outline: np.ndarray, region: Region, blur: float = 0.0) -> np.ndarray:
        """Return how much of each pixel of ``region`` is inside ``outline``; ``blur`` in units."""
        top, left = region[0].start, region[1].start
        height, width = region[0].stop - top, region[1].stop - left
        sigma = blur * self.unit
        step = max(1, int(sigma / 2))  # a wide blur needs no fine picture
        inside = np.zeros((-(-height // step), -(-width // step)), np.uint8)
        pixels = (outline * self.unit + self.origin - (left, top)) / step
        cv2.fillPoly(inside, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        if blur:
            inside = cv2.GaussianBlur(inside, (0, 0), sigma / step)
        if step > 1:
            inside = cv2.resize(inside, (width, height))
        return inside.astype(np.float32) / 255

    def region(self, outline: np.ndarray, margin: float) -> Region:
        """Return the rows and columns that ``outline`` touches, with ``margin`` px around them."""
        pixels = outline * self.unit + self.origin
        (left, top), (right, bottom) = pixels.min(0) - margin - 2, pixels.max(0) + margin + 2
        height, width = self.planes.shape[1:]
        rows = slice(max(0, int(top)), min(height, int(bottom) + 1))
        return rows, slice(max(0, int(left)), min(width, int(right) + 1))

    def fill(
        self, outline, colour, opacity=1.0, blur=0.0, atop=False, within=None, weight=None
    ) -> None:
        """Fill ``outline`` with a colour (3,) or a picture (3, H, W) of the canvas's size.

        ``blur`` softens the edge (units). ``atop`` stays on what is drawn already,
        ``within`` inside another outline. ``weight`` (H, W) is a further opacity for each pixel.
        """
        rows, columns = region = self.region(outline, 3 * blur * self.unit)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return  # outside the picture
        share = self.coverage(outline, region, blur)
        share *= opacity
        if weight is not None:
            share *= weight[region]
        if within is not None:
            share *= self.coverage(within, region)
        picture = np.ndim(colour) == 3
        source = colour[:, rows, columns] if picture else np.float32(colour)[:, None, None]
        rgb, alpha = self.planes[:3, rows, columns], self.planes[3, rows, columns]
        rgb += share * ((source * alpha if atop else source) - rgb)
        if not atop:
            alpha += share * (1 - alpha)

    def soft(self, outline, colour, opacity, blur, within=None) -> None:
        """Draw a soft patch on what is there: a shadow, a highlight, a blush."""
        self.fill(outline, colour, opacity, blur, atop=True, within=within)

    def stroke(self, knots, colour, width, opacity=1.0, blur=0.0, taper=True, atop=True) -> None:
        """Draw a brush stroke through ``knots``."""
        self.fill(ribbon(knots, width, taper), colour, opacity, blur, atop)


def brighter(colour: np.ndarray, factor: float, more: float = 0) -> np.ndarray:
    """Return ``colour`` times ``factor`` plus ``more``, at most 255."""
    return np.minimum(colour * factor + more, 255)


@lru_cache
def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y (face units) of every pixel of the canvas."""
    across, down = (np.arange(length, dtype=np.float32) for length in SIZE)
    columns, rows = np.meshgrid(across, down)
    return (columns - ORIGIN[0]) / UNIT, (rows - ORIGIN[1]) / UNIT


def noise(rng: np.random.Generator, cell: float) -> np.ndarray:
    """Return smooth noise (H, W) of the canvas's size, about -1..1, one bump every ``cell`` px."""
    shape = int(SIZE[1] / cell) + 2, int(SIZE[0] / cell) + 2
    coarse = rng.uniform(-1, 1, shape).astype(np.float32)
    return cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
