"""Eyes, brows, nose, mouth and beard."""

import numpy as np

from lib.demo.portrait.canvas import BLACK, WHITE, Canvas, brighter, noise
from lib.demo.portrait.person import GREY, Person
from lib.demo.portrait.shapes import SIDES, ellipse, points, ribbon, spline, symmetric

MAKE_UP = np.float32([186, 62, 66])


def draw_eyes(canvas: Canvas, person: Person, gaze: float) -> None:
    """Draw both eyes; the upper lids droop with age."""
    for side in SIDES:
        _draw_eyeball(canvas, person, side, gaze)
        _draw_lids(canvas, person, side)


def _eye_place(person: Person, side: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return scale and centre that carry an eye's own points into the face, and the lid's droop."""
    scale, centre = (side * person.eye, person.eye), (0.31 * side, -0.12)
    return np.float64(scale), np.float64(centre), 0.035 * person.wrinkles


def _draw_eyeball(canvas: Canvas, person: Person, side: int, gaze: float) -> None:
    """Draw the white, the iris, the pupil and the reflection of one eye."""
    scale, centre, droop = _eye_place(person, side)
    upper = (-0.06, -0.06 + droop / 2), (0.05, -0.068 + droop), (0.155, droop / 2)
    almond = points((-0.15, 0.025), *upper, (0.06, 0.05), (-0.06, 0.055))
    white, look = spline(almond * scale + centre), np.add(centre, (0.035 * gaze, -0.005))
    canvas.soft(ellipse(*centre, 0.21, 0.11), person.skin * (0.6, 0.5, 0.47), 0.6, 0.05)
    canvas.fill(white, (238, 232, 228), atop=True)
    iris, inside = 0.068 * person.eye, {"within": white, "atop": True}
    canvas.fill(ellipse(*look, iris, iris), person.iris * 0.6, **inside)
    canvas.fill(ellipse(*look, 0.8 * iris, 0.8 * iris), person.iris * 1.25, **inside)
    canvas.fill(ellipse(*look, 0.028, 0.028), BLACK, **inside)
    canvas.fill(ellipse(*np.add(look, (0.022, -0.026)), 0.013, 0.013), WHITE, 0.95, **inside)


def _draw_lids(canvas: Canvas, person: Person, side: int) -> None:
    """Draw the lids of one eye, its lashes and make-up."""
    scale, centre, droop = _eye_place(person, side)
    upper = (-0.06, -0.062 + droop / 2), (0.05, -0.07 + droop), (0.165, -0.005 + droop / 2)
    lid = points((-0.155, 0.03), *upper) * scale + centre
    lower = points((-0.12, 0.05), (0, 0.068), (0.14, 0.015)) * scale + centre
    canvas.stroke(lid, person.hair * 0.4, 0.024 + 0.018 * person.lashes, 0.95)
    canvas.stroke(np.add(lid, (0, -0.05)), person.skin * (0.6, 0.5, 0.46), 0.02, 0.7, 0.006)
    canvas.stroke(lower, person.skin * (0.62, 0.48, 0.46), 0.014, 0.6, 0.004)
    if person.lashes > 0.5:
        lash = points((0.1, -0.05), (0.165, -0.02), (0.215, -0.06)) * scale + centre
        canvas.stroke(lash, BLACK, 0.024, 0.9)
        shadow = ellipse(*np.add(centre, (0.02 * side, -0.09)), 0.14, 0.04)
        canvas.soft(shadow, MAKE_UP * 0.8, 0.35 * person.lashes, 0.025)


def draw_brows(canvas: Canvas, person: Person) -> None:
    """Draw brows from thick and straight to thin and arched; they turn grey with the hair."""
    colour = person.hair * 0.8 + 0.6 * person.grey * (GREY * 0.8 - person.hair * 0.8)
    arch = 0.055 - 0.5 * person.brow
    right = points((0.13, -0.3), (0.25, -0.335 - arch / 2), (0.38, -0.345 - arch), (0.52, -0.27))
    for side in SIDES:
        knots = right * (side, 1)
        canvas.stroke(knots, colour, 1.3 * person.brow, 0.85 - 0.2 * person.grey, 0.012)
        canvas.stroke(knots, colour, person.brow, 0.7, 0.004)


def draw_nose(canvas: Canvas, person: Person) -> None:
    """Draw the nose by its shadows and lights."""
    n, skin, shade = person.nose, person.skin, person.skin * (0.66, 0.56, 0.52)
    canvas.soft(ribbon(points((0, -0.18), (0, 0.28)), 0.09), brighter(skin, 1.14), 0.55, 0.03)
    canvas.soft(ellipse(0, 0.39, 0.17 * n, 0.045), shade, 0.7, 0.025)
    for side in SIDES:
        flank = points((0.1, -0.2), (0.085, 0.02), (0.13 * n, 0.24)) * (side, 1)
        wing = points((0.15, 0.22), (0.19, 0.3), (0.13, 0.365)) * (side * n, 1)
        nostril = ellipse(0.075 * side * n, 0.362, 0.042 * n, 0.02)
        canvas.soft(ribbon(flank, 0.05), shade, 0.5, 0.025)
        canvas.stroke(wing, shade * 0.85, 0.022, 0.8, 0.006)
        canvas.soft(nostril, shade * 0.5, 0.85, 0.006)
    canvas.soft(ellipse(0.02, 0.27, 0.05, 0.04), brighter(skin, 1.2, 14), 0.6, 0.025)


def draw_mouth(canvas: Canvas, person: Person, smile: float) -> None:
    """Draw the lips: thinner with age, their corners lifted by the smile."""
    full, half, y = 1 - 0.45 * person.wrinkles, 0.235 + 0.03 * smile, 0.62
    lips = 0.75 * person.lips + 0.25 * person.skin
    left, right = (-half, y - 0.05 * smile), (half, y - 0.05 * smile)
    bow = (-0.1, y - 0.062 * full), (0, y - 0.042 * full), (0.1, y - 0.062 * full)
    middle = points(right, (0.1, y + 0.012), (0, y + 0.018), (-0.1, y + 0.012), left)
    base = (0.12, y + 0.075 * full), (0, y + 0.098 * full), (-0.12, y + 0.075 * full)
    upper, lower = points(left, *bow, right), points(right, *base, left)
    canvas.soft(ellipse(0, y + 0.15, 0.16, 0.03), person.skin * 0.66, 0.6, 0.03)
    for edge, inner, colour in ((upper, middle, lips * 0.86), (middle[::-1], lower, lips)):
        outline = np.vstack([spline(edge, False), spline(inner, False)])
        canvas.soft(outline, colour, 0.95, 0.006)
    canvas.soft(ellipse(0, y + 0.055 * full, 0.09, 0.014), brighter(lips, 1.3), 0.6, 0.014)
    canvas.stroke(middle, lips * 0.42, 0.02, 0.9, 0.004)


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Draw stubble as a bluish shade, or a beard and moustache in the hair's colour."""
    area = symmetric(
        (0, 0.44), (0.2, 0.46), (0.34, 0.62), (0.6, 0.3), (0.6, 0.6), (0.38, 0.9), (0, 1.02)
    )
    colour = person.hair * 0.9 + 0.9 * person.grey * (GREY - person.hair)
    shade = 0.55 * person.skin + 0.45 * colour * (0.9, 0.95, 1.1)
    rng = np.random.default_rng(person.texture_seed + 3)
    grain = np.clip(0.75 + 0.35 * noise(rng, 2), 0, 1)
    canvas.fill(area, shade, 0.6 * person.stubble, 0.06, atop=True, weight=grain)
    if person.beard:
        canvas.fill(area, colour, 0.8, 0.03, atop=True, weight=grain)
