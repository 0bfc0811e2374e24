"""What is worn: masks, glasses, earrings, and the clothes below the neck."""

import numpy as np

from lib.demo.portrait.camera import Shot
from lib.demo.portrait.canvas import BLACK, WHITE, Canvas, brighter, grid
from lib.demo.portrait.person import FABRICS, Person
from lib.demo.portrait.shapes import SIDES, closed, ellipse, points, ribbon, spline, symmetric

PLAIN_FABRICS = {
    "surgical": [[236, 240, 242], [156, 198, 222], [168, 214, 206]],
    "kf94": [[244, 244, 242]],
    "cloth": [[34, 34, 38], [96, 98, 106], [64, 74, 104]],
}
MASK_STYLES = ("surgical", "cloth", "kf94", "pattern")
MASK_PLACES = {  # y of the top and the bottom edge
    "wear": (0.06, 1.12),
    "nose": (0.44, 1.16),
    "chin": (0.86, 1.3),
    "eyes": (-0.44, 0.2),
}


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Draw a frame, its arms and a faint reflection."""
    width, frame = person.glasses, BLACK if person.texture_seed % 2 else np.float32([110, 78, 52])
    rim = (0.1, -0.2), (0.3, -0.27), (0.52, -0.22), (0.52, 0.0), (0.32, 0.1), (0.12, 0.02)
    for side in SIDES:
        ring, arm = spline(points(*rim) * (side, 1)), points((0.54, -0.14), (0.7, -0.1)) * (side, 1)
        canvas.fill(ring, WHITE, 0.08, atop=True)
        canvas.stroke(closed(ring), frame, width, 0.7, taper=False)
        canvas.stroke(arm, frame, width + 0.004, 0.7, taper=False)
    bridge = points((-0.1, -0.13), (0, -0.16), (0.1, -0.13))
    canvas.stroke(bridge, frame, width + 0.002, 0.7, taper=False)


def draw_earrings(canvas: Canvas, person: Person) -> None:
    """Draw a small earring under each ear."""
    for side in SIDES:
        canvas.fill(ellipse(0.72 * side * person.face, 0.27, 0.035, 0.035), (232, 206, 130))
        canvas.fill(ellipse(0.71 * side * person.face, 0.26, 0.012, 0.012), WHITE)


def draw_mask(canvas: Canvas, person: Person, shot: Shot) -> None:
    """Draw a mask where the shot has it: ear loops, fabric, then pleats, seam or folds."""
    rng = np.random.default_rng(shot.noise_seed)
    top, bottom = MASK_PLACES[shot.mask] + rng.normal(0, 0.015, 2)
    outline = _mask_outline(top, bottom, person.face * (0.92 if shot.mask == "chin" else 1))
    fabric = _fabric(shot.style, rng)
    _draw_ear_loops(canvas, person.face, shot.style, top, bottom - top)
    canvas.soft(np.add(outline, (0, 0.03)), person.skin * 0.45, 0.5, 0.04)
    canvas.fill(outline, fabric)
    canvas.soft(ribbon(closed(outline), 0.05, taper=False), BLACK, 0.18, 0.02)
    _draw_folds(canvas, shot.style, outline, top, bottom - top)


def _mask_outline(top: float, bottom: float, width: float) -> np.ndarray:
    tall = bottom - top
    upper = (0.3 * width, top + 0.05 * tall), (0.68 * width, top + 0.14 * tall)
    lower = (0.54 * width, bottom - 0.16 * tall), (0.26 * width, bottom - 0.02 * tall)
    return symmetric((0, top), *upper, (0.7 * width, top + 0.5 * tall), *lower, (0, bottom))


def _fabric(style: str, rng: np.random.Generator) -> np.ndarray:
    """Return the colour (3,) of a mask's fabric, or a picture (3, H, W) of its pattern."""
    if style != "pattern":
        return np.float32(PLAIN_FABRICS[style])[rng.integers(len(PLAIN_FABRICS[style]))]
    x, y = grid()
    ground, figure = FABRICS[rng.permutation(len(FABRICS))[:2], :, None, None]
    stripes = np.sin(34 * y + 6 * np.sin(9 * x)) > 0.35
    dots = np.sin(38 * x) * np.sin(38 * y) > 0.45
    return np.where(stripes if rng.random() < 0.5 else dots, figure, ground)


def _draw_ear_loops(canvas: Canvas, width: float, style: str, top: float, tall: float) -> None:
    colour = (232, 232, 230) if style != "cloth" else BLACK * 2
    for side in SIDES:
        for start, end in ((top + 0.16 * tall, -0.02), (top + 0.7 * tall, 0.16)):
            loop = points((0.66, start), (0.7, (start + end) / 2), (0.72, end)) * (side * width, 1)
            canvas.stroke(loop, colour, 0.022, 0.95, taper=False, atop=False)


def _draw_folds(canvas: Canvas, style: str, outline: np.ndarray, top: float, tall: float) -> None:
    """Draw light and shade of a mask's cut: pleats, a middle seam, or two folds."""
    canvas.soft(ellipse(0, top + 0.4 * tall, 0.2, 0.24 * tall), WHITE, 0.2, 0.1)
    if style in ("cloth", "pattern"):
        seam = points((0, top), (0.02, top + 0.4 * tall), (0, top + tall))
        canvas.stroke(seam, BLACK, 0.02, 0.4, 0.006)
        return
    pleats, folds = {0.3: 0.06, 0.5: 0.06, 0.7: 0.06}, {0.28: 0.1, 0.74: -0.1}
    for share, bend in (pleats if style == "surgical" else folds).items():
        y = top + share * tall
        middle = (-0.3, y + bend * 0.7), (0, y + bend), (0.3, y + bend * 0.7)
        knots = points((-0.62, y), *middle, (0.62, y))
        canvas.soft(ribbon(knots, 0.022), BLACK * 4, 0.4, 0.008, outline)
        canvas.soft(ribbon(np.add(knots, (0, 0.025)), 0.02), WHITE, 0.35, 0.008, outline)


def draw_body(canvas: Canvas, person: Person) -> None:
    """Draw shoulders, collar and neck."""
    thick, broad = 0.33 + 0.4 * (person.jaw - 1), 1.35 + 1.2 * (person.jaw - 1)
    sleeves = (broad - 0.1, 1.7), (broad + 0.2, 2.3), (broad + 0.3, 5)
    shoulders = symmetric((0.4, 1.36), (0.62, 1.44), *sleeves, (0, 5.2))
    neck = symmetric((thick, 0.4), (thick, 1.1), (thick + 0.14, 1.5))
    dip = {"crew": 1.55, "v": 2.05, "shirt": 1.85}[person.collar]
    throat = symmetric((0.36, 1.3), (0.4, 1.44), (0.2, 0.35 * 1.5 + 0.65 * dip), (0, dip))
    skin, clothes = person.skin, person.clothes
    canvas.fill(shoulders, clothes)
    canvas.soft(np.add(shoulders, (0, 0.5)), clothes * 0.6, 0.5, 0.25, within=shoulders)
    canvas.fill(throat, skin * 0.88)
    canvas.fill(neck, skin * 0.86)
    canvas.soft(ellipse(0, 1.04, 0.5, 0.16), skin * (0.5, 0.42, 0.4), 0.75, 0.1, within=neck)
    if person.collar != "shirt":
        return
    for side in SIDES:
        flap = points((0.4, 1.28), (0.54, 1.42), (0.42, 1.9), (0.05, 1.88)) * (side, 1)
        canvas.fill(flap, brighter(clothes, 1.15, 12))
        canvas.soft(ribbon(closed(flap), 0.02), BLACK, 0.4, 0.01)
