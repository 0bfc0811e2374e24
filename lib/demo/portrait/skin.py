"""The bare head: its outline, the skin, and the lines that come with age."""

import numpy as np

from lib.demo.portrait.canvas import Canvas, brighter, noise
from lib.demo.portrait.person import Person
from lib.demo.portrait.shapes import SIDES, ellipse, points, ribbon, symmetric


def head_outline(person: Person) -> np.ndarray:
    """Return the head without hair; the jaw shows gender a little, sagging cheeks show age."""
    w, j, sag = person.face, person.jaw * person.face, 0.04 * person.wrinkles
    skull = (0, -1.06), (0.4 * w, -0.96), (0.64 * w, -0.62), (0.7 * w, -0.2), (0.67 * w, 0.22)
    return symmetric(*skull, ((0.58 + sag) * j, 0.58), ((0.36 + sag) * j, 0.88), (0.15 * j, 1.0))


def draw_skin(canvas: Canvas, person: Person) -> None:
    """Draw ears, head and cheeks; spots come with age and the blush goes."""
    rng = np.random.default_rng(person.texture_seed + 1)
    skin, w = person.skin, person.wrinkles
    for side in SIDES:
        ear = 0.71 * side * person.face, 0.03
        canvas.fill(ellipse(*ear, 0.1, 0.2), skin * 0.9)
        canvas.soft(ellipse(*ear, 0.05, 0.12), skin * 0.62, 0.7, 0.03)
    mottle = noise(rng, 9) + noise(rng, 22)
    canvas.fill(head_outline(person), skin[:, None, None] * (1 + (0.012 + 0.035 * w) * mottle))
    canvas.soft(ellipse(0, -0.6, 0.34, 0.2), brighter(skin, 1.1), 0.5, 0.14)
    for side in SIDES:
        blush, hollow = ellipse(0.4 * side, 0.26, 0.16, 0.12), ellipse(0.5 * side, 0.56, 0.06, 0.22)
        canvas.soft(blush, skin * (1.02, 0.8, 0.78), 0.6 - 0.4 * w, 0.09)
        canvas.soft(hollow, skin * 0.72, 0.25 + 0.4 * w, 0.09)
    for _ in range(rng.poisson(14 * max(0, w - 0.45)) + person.marks):
        _draw_spot(canvas, skin, rng)


def _draw_spot(canvas: Canvas, skin: np.ndarray, rng: np.random.Generator) -> None:
    x, y = rng.uniform(-0.6, 0.6), rng.choice([rng.uniform(-0.85, -0.4), rng.uniform(0, 0.5)])
    radius = rng.uniform(0.012, 0.035)
    canvas.soft(ellipse(x, y, radius, radius * 0.8), skin * (0.66, 0.55, 0.48), 0.6, 0.008)


def _crease(canvas: Canvas, person: Person, knots: np.ndarray, width: float, depth: float) -> None:
    """Draw a fold of the skin, dark with a bright edge below; ``depth`` is clipped to 0..1."""
    depth, dark = np.clip(depth, 0, 1), person.skin * (0.6, 0.5, 0.45)
    canvas.stroke(knots, dark, width * (0.6 + 0.6 * person.wrinkles), 0.65 * depth, 0.007)
    below = np.add(knots, (0, 1.1 * width))
    canvas.stroke(below, brighter(person.skin, 1.12), width, 0.35 * depth, 0.01)


def draw_wrinkles(canvas: Canvas, person: Person) -> None:
    """Draw all lines of the face, as deep as the person is old, from the forehead down."""
    w, rng = person.wrinkles, np.random.default_rng(person.texture_seed + 2)
    for row in range(4):
        y, span, dip = -0.46 - 0.1 * row, rng.uniform(0.3, 0.44), rng.uniform(-0.015, 0.015, 2)
        middle = (-0.12, y - 0.01 + dip[0]), (0.12, y - 0.01 + dip[1])
        line = points((-span, y + 0.03), *middle, (span, y + 0.03))
        _crease(canvas, person, line, 0.018, 0.6 * w)
    for side in SIDES:
        frown = points((0.06, -0.38), (0.07, -0.24)) * (side, 1)
        _crease(canvas, person, frown, 0.02, 0.8 * w - 0.2)
        _draw_side_lines(canvas, person, side)


def _draw_side_lines(canvas: Canvas, person: Person, side: int) -> None:
    """Draw crow's feet, the bag under the eye, the fold from nose to mouth, and the jowl."""
    w, flip = person.wrinkles, (side, 1)
    for lift in (-0.09, -0.02, 0.05):
        foot = points((0.49, -0.1 + lift / 2), (0.56, -0.1 + lift), (0.63, -0.1 + 1.7 * lift))
        _crease(canvas, person, foot * flip, 0.016, 1.1 * w - 0.1)
    shadow = ellipse(0.31 * side, 0.03, 0.15, 0.05)
    canvas.soft(shadow, person.skin * (0.72, 0.6, 0.6), 0.04 + 0.8 * w, 0.03)
    bag = points((0.17, 0.02), (0.26, 0.09), (0.38, 0.09), (0.46, 0.02)) * flip
    _crease(canvas, person, bag, 0.018, 0.95 * w)
    fold = points((0.19, 0.27), (0.29, 0.4), (0.36, 0.58)) * flip
    _crease(canvas, person, fold, 0.026, 0.1 + 0.9 * w)
    shadow = ribbon(points((0.2, 0.27), (0.3, 0.42), (0.37, 0.6)) * flip, 0.06)
    canvas.soft(shadow, person.skin * 0.7, 0.6 * w, 0.03)
    jowl = points((0.28, 0.66), (0.31, 0.76), (0.3, 0.86)) * flip
    _crease(canvas, person, jowl, 0.022, 0.9 * w - 0.15)
