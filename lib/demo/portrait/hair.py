"""Hair: strands of one colour and grey ones, behind the neck, over the skull, and its shadow."""

from functools import lru_cache

import cv2
import numpy as np

from lib.demo.portrait.canvas import Canvas, grid
from lib.demo.portrait.person import GREY, Person
from lib.demo.portrait.shapes import SIDES, ellipse, mirror, points, ribbon, spline

STRANDS = 640
LENGTHS = {"long": 1.45, "bob": 0.78}  # y where the hair next to the face ends


@lru_cache
def strand_map() -> tuple[np.ndarray, np.ndarray]:
    """Return number of the strand and sheen (H, W) at each pixel; strands start at the crown."""
    x, y = grid()
    fan = x / (0.55 + np.clip(y + 1.2, 0, 1.1)) + 0.015 * np.sin(5 * y)
    sheen = 0.3 * np.exp(-(((y + 0.92 + 0.25 * x**2) / 0.16) ** 2))
    return np.clip((fan + 2) * STRANDS / 4, 0, STRANDS - 1).astype(np.int32), sheen


def hair_picture(person: Person) -> np.ndarray:
    """Return hair (3, H, W) all over the canvas: grey strands start at the temples."""
    rng = np.random.default_rng(person.texture_seed)
    threshold, light = (
        cv2.GaussianBlur(rng.uniform(-1, 1, (1, STRANDS)), (0, 0), sigma)[0] for sigma in (1.6, 1.0)
    )
    temple = 0.15 * (np.abs(np.linspace(-2, 2, STRANDS)) - 0.4)
    grey = np.clip(person.grey * 1.7 - 0.5 + temple - 0.8 * threshold, 0, 1)[:, None]
    colours = (person.hair * (1 - grey) + GREY * grey) * (1 + 0.25 * light[:, None])
    strand, sheen = strand_map()
    return colours.T.astype(np.float32)[:, strand] * (1 + sheen) + 14 * sheen


def draw_back_hair(canvas: Canvas, person: Person, hair: np.ndarray) -> None:
    """Draw the hair behind neck and shoulders."""
    falls = person.style in LENGTHS
    wide = 0.74 + person.volume if falls else 0.64  # else hidden by head and ears
    length = {"long": 1.75, "bob": 0.85}.get(person.style, 0.1)
    if person.style == "bun":
        canvas.fill(ellipse(0, -1.26 - person.volume, 0.3, 0.24), hair * 0.92)
    top = -1.1 if falls else -0.6
    sides = (wide, -0.3), (wide + 0.03, 0.4 * length), (wide, 0.85 * length), (0.5, length)
    canvas.fill(spline(mirror(points((0, top), (0.6, 0.8 * top), *sides))), hair * 0.72)


def hairline(person: Person) -> np.ndarray:
    """Return the right half of the front edge of the hair, from the ear up to the middle."""
    retreat = person.thinning
    top, temple = -0.72 - 0.24 * retreat, -0.62 - 0.34 * retreat
    if person.style == "fringe" and retreat < 0.5:
        return points((0.66, -0.06), (0.6, -0.3), (0.44, -0.43), (0.22, -0.48), (0, -0.45))
    front = (0.54 - 0.06 * retreat, temple + 0.08), (0.3, temple - 0.1), (0, top)
    return points((0.67, -0.06), (0.63, -0.34), *front)


def draw_front_hair(canvas: Canvas, person: Person, hair: np.ndarray) -> None:
    """Draw the hair over the skull, thinner on top with age, and next to the face."""
    volume = person.volume * (1 - 0.6 * person.thinning)
    side = 0.35 * volume if person.style == "crop" else volume
    crown = (0, -1.13 - volume), (0.42 + 0.5 * volume, -1.03 - 0.7 * volume)
    dome, edge = points(*crown, (0.66 + side, -0.72), (0.73 + side, -0.36)), hairline(person)
    outline = spline(mirror(np.vstack([dome, np.add(edge[:1], (0.07, 0.02)), edge])))
    x, y = grid()
    scalp = np.exp(-((x / 0.5) ** 2) - ((y + 0.98) / 0.28) ** 2)  # shows on top as hair thins
    cover = 1 - np.clip(2 * person.thinning * scalp - 0.4, 0, 0.96)
    canvas.fill(outline, hair, blur=0.012, weight=cover)
    if person.style in LENGTHS:
        _draw_locks(canvas, hair, LENGTHS[person.style], volume)


def draw_hair_shadow(canvas: Canvas, person: Person) -> None:
    """Draw the shadow of the hair's front edge on the forehead."""
    edge = np.add(mirror(hairline(person)), (0, 0.04))
    canvas.soft(ribbon(edge, 0.07), person.skin * 0.5, 0.4 * (1 - person.thinning), 0.035)


def _draw_locks(canvas: Canvas, hair: np.ndarray, length: float, volume: float) -> None:
    """Draw the hair that falls on both sides of the face."""
    wide = 0.76 + volume
    outer = (wide, -0.2), (wide + 0.06, 0.5 * length), (wide - 0.06, length)
    inner = (0.6, 0.9 * length), (0.7, 0.45 * length), (0.64, 0), (0.6, -0.4)
    right = points((0.5, -0.86), (0.68 + volume, -0.7), *outer, *inner)
    for side in SIDES[::-1]:
        canvas.fill(spline(right * (side, 1)), hair)
