"""Outlines in face units: arrays (n, 2) of x to the right and y down.

The origin lies between bridge and tip of the nose, the chin at y = 1, the cheeks near x = ±0.7.
"""

from functools import lru_cache

import numpy as np

SIDES = (-1, 1)  # left and right half of a face: factors of x


def points(*pairs: tuple[float, float]) -> np.ndarray:
    """Return points (n, 2)."""
    return np.float64(pairs)


def mirror(right: np.ndarray) -> np.ndarray:
    """Add the mirror image to a right half, listed from top to bottom; x = 0 is not doubled."""
    left = right[right[:, 0] != 0] * (-1, 1)
    return np.vstack([right, left[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Return 24 points of an upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


@lru_cache
def catmull_rom(steps: int, endpoint: bool) -> np.ndarray:
    """Return the weights (steps, 4) of four knots along the segment between the inner two."""
    t = np.linspace(0, 1, steps, endpoint=endpoint)[:, None]
    return 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )


def spline(knots: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """Return a Catmull-Rom curve through ``knots`` (n, 2), ``steps`` points per segment."""
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.vstack([before, knots, after])
    fours = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], 1)
    return (catmull_rom(steps, not closed) @ fours).reshape(-1, 2)


def symmetric(*right: tuple[float, float]) -> np.ndarray:
    """Return a smooth closed outline of the points of its right half, from top to bottom."""
    return spline(mirror(points(*right)))


def closed(outline: np.ndarray) -> np.ndarray:
    """Return an outline that ends where it starts."""
    return np.vstack([outline, outline[:1]])


@lru_cache
def brush_profile(length: int, taper: bool) -> np.ndarray:
    """Return the width (length, 1) along a brush stroke, 1 at its widest."""
    return np.sin(np.linspace(0.05, np.pi - 0.05, length))[:, None] ** (0.6 if taper else 0)


def ribbon(knots: np.ndarray, width: float, taper: bool = True) -> np.ndarray:
    """Return the outline of a brush stroke along ``knots``, ``width`` units wide in its middle."""
    line = spline(knots, closed=False)
    along = np.vstack([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    normal = along[:, ::-1] * (-1, 1) / (np.hypot(*along.T)[:, None] + 1e-9)
    side = normal * brush_profile(len(line), taper) * (width / 2)
    return np.vstack([line + side, (line - side)[::-1]])
