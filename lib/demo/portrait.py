"""Synthetic people, painted by numpy and OpenCV alone: none of them exists.

A figure is painted frontally on a canvas measured in face units (origin between nose bridge and tip, x to the right,
y down, the chin at y = 1, the cheeks near x = ±0.7), shaded by one light, then turned, scaled and laid over the photo.
Colours are RGB, 0..255. Pictures are painted in float32 planes (channel first: NumPy is several times faster so), and
what stays the same over a person's photos is painted once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT = 384, 512  # px of a photo, as in the competition
UNIT = 125  # px a face unit on the painter's canvas, a little above the photo's scale so that turning it stays sharp
CANVAS_SIZE, CANVAS_ORIGIN = (280, 440), (140, 212)  # (width, height) and the place of (0, 0), px

MASK_STYLES = ("surgical", "cloth", "kf94", "pattern")
MASK_PLACES = {
    "wear": (0.06, 1.12),
    "nose": (0.44, 1.16),
    "chin": (0.86, 1.3),
    "eyes": (-0.44, 0.2),
}  # y of top and bottom edge

SKINS = np.float32([[232, 202, 180], [228, 190, 162], [218, 174, 142], [205, 155, 118], [172, 122, 88], [128, 86, 62]])
HAIRS = np.float32([[28, 24, 26], [44, 32, 28], [70, 46, 32], [104, 66, 40], [150, 106, 62], [122, 52, 34]])
IRISES = np.float32([[58, 36, 24], [84, 54, 32], [96, 84, 48], [70, 98, 116]])
FABRICS = np.float32(
    [[40, 52, 84], [196, 198, 200], [126, 44, 48], [62, 98, 82], [34, 34, 38], [204, 160, 72], [112, 142, 176], [168, 120, 150]]
)
WALLS = np.float32([[206, 200, 190], [176, 188, 196], [152, 168, 150], [216, 190, 164], [126, 134, 148], [190, 176, 198]])
GREY = np.float32([176, 174, 170])
BLACK, WHITE, RED = np.float32([18, 14, 14]), np.float32([250, 250, 248]), np.float32([186, 62, 66])


@dataclass(frozen=True, eq=False)  # hashed by identity: see ``paint_layers``
class Person:
    """Traits of one person: what stays the same over the seven photos. Shares and strengths are 0..1."""

    gender: int  # male 0, female 1
    age: int  # recorded, years
    wrinkles: float
    grey: float  # share of grey strands
    thinning: float
    skin: np.ndarray
    hair: np.ndarray
    style: str  # crop, fringe, bob, long, bun
    volume: float  # of the hair over the skull, face units
    jaw: float  # width of the jaw, about 1
    face: float  # width of the face, about 1
    brow: float  # thickness, face units
    eye: float  # size, about 1
    iris: np.ndarray
    lips: np.ndarray
    lashes: float
    stubble: float
    beard: bool
    glasses: bool
    earrings: bool
    nose: float  # width, about 1
    clothes: np.ndarray
    collar: str  # crew, v, shirt
    wall: np.ndarray
    texture_seed: int


@dataclass(frozen=True)
class Shot:
    """What changes from photo to photo. Angles in radians."""

    mask: str  # a key of MASK_PLACES, or "" for a bare face
    style: str  # of the mask
    centre: tuple[float, float]  # px of the face's origin
    scale: float  # px a face unit
    roll: float
    yaw: float
    pitch: float
    light: float  # direction, 0 from above
    warmth: float
    gain: float
    smile: float
    gaze: float
    noise_seed: int


# --- traits ---------------------------------------------------------------------------------------------------------


def squash(value: float) -> float:
    """Return the logistic function of ``value``."""
    return 1 / (1 + math.exp(-value))


def draw_person(rng: np.random.Generator, gender: int, age: int, scenery: int | None = None) -> Person:
    """Draw the traits of a person of a gender and recorded age; ``scenery`` fixes clothes and wall (else they tell nothing).

    Looks follow the age with three years' noise, and 60 means "60 or more", as recorded ages are clipped.
    """
    look = age + rng.normal(0, 3) + rng.exponential(4) * (age >= 60)
    feminine = (1 if gender else -1) + rng.normal(0, 0.4)  # one axis with overlap, behind every cue of gender
    cue = lambda spread: feminine + rng.normal(0, spread)  # noqa: E731 - a cue is the axis seen through its own noise
    wrinkles = float(np.clip((look - 19) / 44, 0, 1.2) ** 0.75)  # concave: the years around 30 show, too
    outfit = rng.integers(len(FABRICS)), rng.integers(len(WALLS))
    fabric, wall = outfit if scenery is None else (scenery % len(FABRICS), scenery % len(WALLS))
    return Person(
        gender=gender,
        age=age,
        wrinkles=wrinkles,
        grey=squash((look + rng.normal(0, 3) - 53) / 5) * rng.choice([1, 0.45], p=[0.85, 0.15]),  # some dye their hair
        thinning=float(np.clip((look - 30) / 34 + rng.normal(0, 0.12), 0, 1)) * squash(-1.6 * cue(0.3)),
        skin=aged_skin(rng, wrinkles),
        hair=pick_row(rng, HAIRS, [0.34, 0.28, 0.19, 0.1, 0.06, 0.03]) * rng.uniform(0.85, 1.15),
        style=draw_hair_style(rng, cue(0.4)),
        volume=rng.uniform(0.06, 0.15),
        jaw=1 - 0.07 * cue(0.4) + 0.04 * wrinkles,
        face=rng.normal(1, 0.03),
        brow=float(np.clip(0.046 - 0.014 * cue(0.4), 0.02, 0.07)),
        eye=1 + 0.06 * cue(0.4) - 0.14 * wrinkles,
        iris=pick_row(rng, IRISES, [0.5, 0.3, 0.12, 0.08]),
        lips=np.float32([176, 98, 92]) + squash(2 * cue(0.7) - 1) * np.float32([14, -48, -30]),
        lashes=squash(3 * cue(0.4)),
        stubble=squash(-3 * cue(0.5) - 1) * rng.uniform(0.2, 1),
        beard=bool(feminine < -0.4 and rng.random() < 0.18),
        glasses=bool(rng.random() < 0.16 + 0.14 * wrinkles),
        earrings=bool(rng.random() < squash(2 * feminine - 1.6)),
        nose=1 - 0.07 * cue(0.5) + 0.05 * wrinkles,
        clothes=FABRICS[fabric],
        collar=str(rng.choice(["crew", "v", "shirt"])),
        wall=WALLS[wall],
        texture_seed=int(rng.integers(2**32)),
    )


def pick_row(rng: np.random.Generator, rows: np.ndarray, shares: list[float]) -> np.ndarray:
    """Draw one of the colours ``rows`` (n, 3)."""
    return rows[rng.choice(len(rows), p=shares)]


def draw_hair_style(rng: np.random.Generator, feminine: float) -> str:
    """Draw a hair style; long ones grow likelier along the axis, none is certain."""
    if rng.random() < squash(4 * feminine):
        return str(rng.choice(["long", "bob", "bun", "fringe"], p=[0.42, 0.28, 0.2, 0.1]))
    return str(rng.choice(["crop", "fringe"], p=[0.7, 0.3]))


def aged_skin(rng: np.random.Generator, wrinkles: float) -> np.ndarray:
    """Draw a skin colour between neighbours of the scale; it loses saturation and light with age."""
    place = rng.beta(1.3, 2.0) * (len(SKINS) - 1.001)
    low, share = int(place), place % 1
    skin = (1 - share) * SKINS[low] + share * SKINS[low + 1]
    return skin + 0.22 * wrinkles * (skin.mean() * 1.02 - skin)


def draw_shot(rng: np.random.Generator, mask: str = "", style: str = "surgical") -> Shot:
    """Draw pose, light and framing of one photo of a face, masked as ``mask`` says."""
    return Shot(
        mask=mask,
        style=style,
        centre=(WIDTH / 2 + rng.normal(0, 14), HEIGHT * 0.47 + rng.normal(0, 16)),
        scale=rng.uniform(88, 122),
        roll=rng.normal(0, 0.06),
        yaw=float(np.clip(rng.normal(0, 0.16), -0.35, 0.35)),
        pitch=float(np.clip(rng.normal(0, 0.07), -0.16, 0.16)),
        light=rng.normal(0, 0.7),
        warmth=rng.normal(0, 0.035),
        gain=rng.uniform(0.86, 1.08),
        smile=rng.normal(0.25, 0.45),
        gaze=rng.normal(0, 0.25),
        noise_seed=int(rng.integers(2**32)),
    )


# --- shapes and brushes ---------------------------------------------------------------------------------------------


def points(*pairs: tuple[float, float]) -> np.ndarray:
    """Return (n, 2) points in face units."""
    return np.float64(pairs)


def shift(outline: np.ndarray, x: float, y: float) -> np.ndarray:
    """Move points by (x, y)."""
    return np.add(outline, (x, y))


def mirror(right: np.ndarray) -> np.ndarray:
    """Close a right half, listed from top to bottom, with its mirror image; points on the axis are not doubled."""
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
    return 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])


def spline(knots: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """Return a Catmull-Rom curve through ``knots`` (n, 2), ``steps`` points a segment."""
    padded = np.vstack([knots[-1:], knots, knots[:2]]) if closed else np.vstack([knots[:1], knots, knots[-1:]])
    fours = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], 1)
    return (catmull_rom(steps, not closed) @ fours).reshape(-1, 2)


@lru_cache
def brush_profile(length: int, taper: bool) -> np.ndarray:
    """Return the width (length, 1) along a brush stroke, 1 at its widest."""
    return np.sin(np.linspace(0.05, np.pi - 0.05, length))[:, None] ** (0.6 if taper else 0)


def ribbon(knots: np.ndarray, width: float, taper: bool = True) -> np.ndarray:
    """Return the outline of a brush stroke along ``knots``, ``width`` units at its middle."""
    line = spline(knots, closed=False)
    along = np.vstack([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    normal = along[:, ::-1] * (-1, 1) / (np.hypot(*along.T)[:, None] + 1e-9)
    side = normal * brush_profile(len(line), taper) * (width / 2)
    return np.vstack([line + side, (line - side)[::-1]])


class Canvas:
    """A float32 picture (4, H, W), RGB premultiplied with alpha and alpha itself, painted in face units."""

    def __init__(self, size: tuple[int, int], unit: float, origin: tuple[float, float]):
        width, height = size
        self.unit, self.origin = unit, np.float64(origin)
        self.planes = np.zeros((4, height, width), np.float32)

    def cover(self, outline: np.ndarray, region: tuple[slice, slice], blur: float = 0.0) -> np.ndarray:
        """Return how much of each pixel of ``region`` lies inside ``outline``, 0..1, its edge blurred by ``blur`` units."""
        top, left = region[0].start, region[1].start
        height, width = region[0].stop - top, region[1].stop - left
        sigma = blur * self.unit
        step = max(1, int(sigma / 2))  # a wide blur needs no fine picture
        mask = np.zeros((-(-height // step), -(-width // step)), np.uint8)
        pixels = np.round((outline * self.unit + self.origin - (left, top)) / step * 16).astype(np.int32)
        cv2.fillPoly(mask, [pixels], 255, cv2.LINE_AA, shift=4)
        if blur:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma / step)
        if step > 1:
            mask = cv2.resize(mask, (width, height))
        return mask.astype(np.float32) / 255

    def region(self, outline: np.ndarray, margin: float) -> tuple[slice, slice]:
        """Return the rows and columns that ``outline`` touches, ``margin`` px around them included."""
        pixels = outline * self.unit + self.origin
        (left, top), (right, bottom) = pixels.min(0) - margin - 2, pixels.max(0) + margin + 2
        height, width = self.planes.shape[1:]
        return slice(max(0, int(top)), min(height, int(bottom) + 1)), slice(max(0, int(left)), min(width, int(right) + 1))

    def paint(self, outline, colour, opacity=1.0, blur=0.0, atop=False, within=None, weight=None) -> None:
        """Fill ``outline`` with a colour (3,) or a picture (3, H, W) of the canvas's size.

        ``blur`` softens the edge (units); ``atop`` keeps to what is painted, ``within`` to another outline; ``weight``
        (H, W) is a further opacity for each pixel.
        """
        rows, columns = region = self.region(outline, 3 * blur * self.unit)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return  # wholly outside the picture
        share = self.cover(outline, region, blur)
        share *= opacity
        if weight is not None:
            share *= weight[region]
        if within is not None:
            share *= self.cover(within, region)
        source = colour[:, rows, columns] if np.ndim(colour) == 3 else np.float32(colour)[:, None, None]
        rgb, alpha = self.planes[:3, rows, columns], self.planes[3, rows, columns]
        rgb += share * ((source * alpha if atop else source) - rgb)
        if not atop:
            alpha += share * (1 - alpha)

    def soft(self, outline, colour, opacity, blur, within=None) -> None:
        """Paint a soft patch on what is there: a shadow, a highlight, a blush."""
        self.paint(outline, colour, opacity, blur, atop=True, within=within)

    def line(self, knots, colour, width, opacity=1.0, blur=0.0, taper=True, atop=True) -> None:
        """Paint a brush stroke through ``knots``."""
        self.paint(ribbon(knots, width, taper), colour, opacity, blur, atop)


@lru_cache
def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y (face units) of every pixel of the painter's canvas."""
    columns, rows = np.meshgrid(np.arange(CANVAS_SIZE[0], dtype=np.float32), np.arange(CANVAS_SIZE[1], dtype=np.float32))
    return (columns - CANVAS_ORIGIN[0]) / UNIT, (rows - CANVAS_ORIGIN[1]) / UNIT


@lru_cache
def normals() -> np.ndarray:
    """Return the surface normals (3, H, W) of an egg that stands for the head."""
    x, y = grid()
    nx, ny = x / 0.86, (y + 0.1) / 1.3
    normal = np.stack([nx, ny, np.sqrt(np.clip(1 - nx**2 - ny**2, 0.03, 1))])
    return normal / np.linalg.norm(normal, axis=0)


def noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """Return smooth noise in about -1..1 for a picture of ``size`` (width, height), one bump every ``cell`` px."""
    coarse = rng.uniform(-1, 1, (int(size[1] / cell) + 2, int(size[0] / cell) + 2)).astype(np.float32)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


# --- hair -----------------------------------------------------------------------------------------------------------


STRANDS = 640


@lru_cache
def strand_map() -> tuple[np.ndarray, np.ndarray]:
    """Return which strand, fanning out from the crown, covers each pixel of the canvas, and the sheen (H, W) there."""
    x, y = grid()
    fan = x / (0.55 + np.clip(y + 1.2, 0, 1.1)) + 0.015 * np.sin(5 * y)
    sheen = 0.3 * np.exp(-(((y + 0.92 + 0.25 * x**2) / 0.16) ** 2))
    return np.clip((fan + 2) * STRANDS / 4, 0, STRANDS - 1).astype(np.int32), sheen


def hair_picture(person: Person) -> np.ndarray:
    """Return the colour (3, H, W) of hair all over the canvas: some strands grey, the temples first, with a sheen above."""
    rng = np.random.default_rng(person.texture_seed)
    threshold, light = (cv2.GaussianBlur(rng.uniform(-1, 1, (1, STRANDS)), (0, 0), sigma)[0] for sigma in (1.6, 1.0))
    temple = 0.15 * (np.abs(np.linspace(-2, 2, STRANDS)) - 0.4)
    grey = np.clip(person.grey * 1.7 - 0.5 + temple - 0.8 * threshold, 0, 1)[:, None]
    colours = (person.hair * (1 - grey) + GREY * grey) * (1 + 0.25 * light[:, None])
    strand, sheen = strand_map()
    return colours.T.astype(np.float32)[:, strand] * (1 + sheen) + 14 * sheen


def paint_back_hair(canvas: Canvas, person: Person, hair: np.ndarray) -> None:
    """Paint the hair behind neck and shoulders."""
    falls = person.style in ("long", "bob")
    wide = 0.74 + person.volume if falls else 0.64  # else hidden by head and ears
    length = {"long": 1.75, "bob": 0.85}.get(person.style, 0.1)
    if person.style == "bun":
        canvas.paint(ellipse(0, -1.26 - person.volume, 0.3, 0.24), hair * 0.92)
    top = -1.1 if falls else -0.6
    side = points((0.6, 0.8 * top), (wide, -0.3), (wide + 0.03, 0.4 * length), (wide, 0.85 * length), (0.5, length))
    canvas.paint(spline(mirror(np.vstack([points((0, top)), side]))), hair * 0.72)


def hairline(person: Person) -> np.ndarray:
    """Return the right half of the front edge of the hair, from the ear up to the middle."""
    retreat = person.thinning
    top, temple = -0.72 - 0.24 * retreat, -0.62 - 0.34 * retreat
    if person.style == "fringe" and retreat < 0.5:
        return points((0.66, -0.06), (0.6, -0.3), (0.44, -0.43), (0.22, -0.48), (0, -0.45))
    return points((0.67, -0.06), (0.63, -0.34), (0.54 - 0.06 * retreat, temple + 0.08), (0.3, temple - 0.1), (0, top))


def paint_front_hair(canvas: Canvas, person: Person, hair: np.ndarray) -> None:
    """Paint the cap of hair over the skull, thinner on top with age, and locks beside the face."""
    v = person.volume * (1 - 0.6 * person.thinning)
    side = 0.35 * v if person.style == "crop" else v
    edge = hairline(person)
    dome = points((0, -1.13 - v), (0.42 + 0.5 * v, -1.03 - 0.7 * v), (0.66 + side, -0.72), (0.73 + side, -0.36))
    right = np.vstack([dome, shift(edge[:1], 0.07, 0.02), edge])
    canvas.paint(spline(mirror(right)), hair, blur=0.012, weight=scalp_cover(person.thinning))
    if person.style in ("long", "bob"):
        paint_locks(canvas, hair, 1.45 if person.style == "long" else 0.78, v)


def paint_hair_shadow(canvas: Canvas, person: Person) -> None:
    """Paint the shadow of the hair's front edge on the forehead."""
    edge = shift(mirror(hairline(person)), 0, 0.04)
    canvas.soft(ribbon(edge, 0.07), person.skin * 0.5, 0.4 * (1 - person.thinning), 0.035)


def scalp_cover(thinning: float) -> np.ndarray:
    """Return how much of the scalp the hair hides at each pixel: less on top as it thins."""
    x, y = grid()
    return 1 - np.clip(2 * thinning * np.exp(-((x / 0.5) ** 2) - ((y + 0.98) / 0.28) ** 2) - 0.4, 0, 0.96)


def paint_locks(canvas: Canvas, hair: np.ndarray, length: float, volume: float) -> None:
    """Paint the hair that falls on both sides of the face, down to ``length``."""
    outer = 0.76 + volume
    right = points((0.5, -0.86), (0.68 + volume, -0.7), (outer, -0.2), (outer + 0.06, 0.5 * length), (outer - 0.06, length))
    inner = points((0.6, 0.9 * length), (0.7, 0.45 * length), (0.64, 0), (0.6, -0.4))
    for sign in (1, -1):
        canvas.paint(spline(np.vstack([right, inner]) * (sign, 1)), hair)


# --- the bare head --------------------------------------------------------------------------------------------------


def head_outline(person: Person) -> np.ndarray:
    """Return the head without hair; the jaw tells gender a little, sagging cheeks age."""
    w, j, sag = person.face, person.jaw * person.face, 0.04 * person.wrinkles
    return spline(
        mirror(
            points(
                (0, -1.06), (0.4 * w, -0.96), (0.64 * w, -0.62), (0.7 * w, -0.2), (0.67 * w, 0.22),
                ((0.58 + sag) * j, 0.58), ((0.36 + sag) * j, 0.88), (0.15 * j, 1.0),
            )
        )
    )  # fmt: skip


def paint_skin(canvas: Canvas, person: Person) -> None:
    """Paint ears and head with blotches and spots that come with age, and a blush that goes."""
    rng = np.random.default_rng(person.texture_seed + 1)
    for side in (-1, 1):
        canvas.paint(ellipse(0.71 * side * person.face, 0.03, 0.1, 0.2), person.skin * 0.9)
        canvas.soft(ellipse(0.71 * side * person.face, 0.03, 0.05, 0.12), person.skin * 0.62, 0.7, 0.03)
    outline = head_outline(person)
    mottle = noise(rng, CANVAS_SIZE, 9) + noise(rng, CANVAS_SIZE, 22)
    canvas.paint(outline, person.skin[:, None, None] * (1 + (0.012 + 0.035 * person.wrinkles) * mottle))
    canvas.soft(ellipse(0, -0.6, 0.34, 0.2), np.minimum(person.skin * 1.1, 255), 0.5, 0.14)
    for side in (-1, 1):
        canvas.soft(ellipse(0.4 * side, 0.26, 0.16, 0.12), person.skin * (1.02, 0.8, 0.78), 0.6 - 0.4 * person.wrinkles, 0.09)
        canvas.soft(
            ellipse(0.5 * side, 0.56, 0.06, 0.22), person.skin * 0.72, 0.25 + 0.4 * person.wrinkles, 0.09
        )  # hollow cheek
    for _ in range(rng.poisson(14 * max(0, person.wrinkles - 0.45))):
        x, y, radius = (
            rng.uniform(-0.6, 0.6),
            rng.choice([rng.uniform(-0.85, -0.4), rng.uniform(0, 0.5)]),
            rng.uniform(0.012, 0.035),
        )
        canvas.soft(ellipse(x, y, radius, radius * 0.8), person.skin * (0.66, 0.55, 0.48), 0.6, 0.008)


def crease(canvas: Canvas, person: Person, knots: np.ndarray, width: float, depth: float) -> None:
    """Paint a fold of the skin, dark with a bright edge below: ``depth`` is clipped to 0..1, the width grows with age."""
    depth = np.clip(depth, 0, 1)
    canvas.line(knots, person.skin * (0.6, 0.5, 0.45), width * (0.6 + 0.6 * person.wrinkles), 0.65 * depth, 0.007)
    canvas.line(shift(knots, 0, 1.1 * width), np.minimum(person.skin * 1.12, 255), width, 0.35 * depth, 0.01)


def paint_forehead_lines(canvas: Canvas, person: Person) -> None:
    """Paint lines across the forehead and the frown between the brows."""
    w, rng = person.wrinkles, np.random.default_rng(person.texture_seed + 2)
    for row in range(4):
        y, span, dip = -0.46 - 0.1 * row, rng.uniform(0.3, 0.44), rng.uniform(-0.015, 0.015, 2)
        knots = points((-span, y + 0.03), (-0.12, y - 0.01 + dip[0]), (0.12, y - 0.01 + dip[1]), (span, y + 0.03))
        crease(canvas, person, knots, 0.018, 0.6 * w)
    for side in (-1, 1):
        crease(canvas, person, points((0.06, -0.38), (0.07, -0.24)) * (side, 1), 0.02, 0.8 * w - 0.2)


def paint_eye_lines(canvas: Canvas, person: Person, side: int) -> None:
    """Paint crow's feet and the bag under one eye."""
    w, s = person.wrinkles, (side, 1)
    for lift in (-0.09, -0.02, 0.05):
        foot = points((0.49, -0.1 + lift / 2), (0.56, -0.1 + lift), (0.63, -0.1 + 1.7 * lift)) * s
        crease(canvas, person, foot, 0.016, 1.1 * w - 0.1)
    canvas.soft(ellipse(0.31 * side, 0.03, 0.15, 0.05), person.skin * (0.72, 0.6, 0.6), 0.04 + 0.8 * w, 0.03)
    crease(canvas, person, points((0.17, 0.02), (0.26, 0.09), (0.38, 0.09), (0.46, 0.02)) * s, 0.018, 0.95 * w)


def paint_cheek_lines(canvas: Canvas, person: Person, side: int) -> None:
    """Paint the fold from nose to mouth and the jowl of one side."""
    w, s = person.wrinkles, (side, 1)
    crease(canvas, person, points((0.19, 0.27), (0.29, 0.4), (0.36, 0.58)) * s, 0.026, 0.1 + 0.9 * w)
    canvas.soft(ribbon(points((0.2, 0.27), (0.3, 0.42), (0.37, 0.6)) * s, 0.06), person.skin * 0.7, 0.6 * w, 0.03)
    crease(canvas, person, points((0.28, 0.66), (0.31, 0.76), (0.3, 0.86)) * s, 0.022, 0.9 * w - 0.15)


def paint_wrinkles(canvas: Canvas, person: Person) -> None:
    """Paint all lines of the face, each as deep as the person is old."""
    paint_forehead_lines(canvas, person)
    for side in (-1, 1):
        paint_eye_lines(canvas, person, side)
        paint_cheek_lines(canvas, person, side)


def eye_place(person: Person, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale (x, y) and the centre that carry an eye's own points into the face."""
    return np.float64((side * person.eye, person.eye)), np.float64((0.31 * side, -0.12))


def paint_eyeball(canvas: Canvas, person: Person, side: int, gaze: float) -> None:
    """Paint the white, iris, pupil and light of one eye; the upper edge droops with age."""
    (scale, centre), droop = eye_place(person, side), 0.035 * person.wrinkles
    upper = points((-0.15, 0.025), (-0.06, -0.06 + droop / 2), (0.05, -0.068 + droop), (0.155, droop / 2))
    almond = spline(np.vstack([upper, points((0.06, 0.05), (-0.06, 0.055))]) * scale + centre)
    look, iris = shift(centre, 0.035 * gaze, -0.005), 0.068 * person.eye
    canvas.soft(ellipse(*centre, 0.21, 0.11), person.skin * (0.6, 0.5, 0.47), 0.6, 0.05)
    canvas.paint(almond, (238, 232, 228), atop=True)
    canvas.paint(ellipse(*look, iris, iris), person.iris * 0.6, within=almond, atop=True)
    canvas.paint(ellipse(*look, 0.8 * iris, 0.8 * iris), person.iris * 1.25, within=almond, atop=True)
    canvas.paint(ellipse(*look, 0.028, 0.028), BLACK, within=almond, atop=True)
    canvas.paint(ellipse(*shift(look, 0.022, -0.026), 0.013, 0.013), WHITE, 0.95, within=almond, atop=True)


def paint_lids(canvas: Canvas, person: Person, side: int) -> None:
    """Paint the lids of one eye, its lashes and make-up."""
    (scale, centre), droop = eye_place(person, side), 0.035 * person.wrinkles
    upper = points((-0.155, 0.03), (-0.06, -0.062 + droop / 2), (0.05, -0.07 + droop), (0.165, -0.005 + droop / 2))
    lid = upper * scale + centre
    lower = points((-0.12, 0.05), (0, 0.068), (0.14, 0.015)) * scale + centre
    canvas.line(lid, person.hair * 0.4, 0.024 + 0.018 * person.lashes, 0.95)
    canvas.line(shift(lid, 0, -0.05), person.skin * (0.6, 0.5, 0.46), 0.02, 0.7, 0.006)
    canvas.line(lower, person.skin * (0.62, 0.48, 0.46), 0.014, 0.6, 0.004)
    if person.lashes > 0.5:
        canvas.line(points((0.1, -0.05), (0.165, -0.02), (0.215, -0.06)) * scale + centre, BLACK, 0.024, 0.9)
        canvas.soft(ellipse(*shift(centre, 0.02 * side, -0.09), 0.14, 0.04), RED * 0.8, 0.35 * person.lashes, 0.025)


def paint_eyes(canvas: Canvas, person: Person, gaze: float) -> None:
    """Paint both eyes."""
    for side in (-1, 1):
        paint_eyeball(canvas, person, side, gaze)
        paint_lids(canvas, person, side)


def paint_brows(canvas: Canvas, person: Person) -> None:
    """Paint brows, thick and straight to thin and arched, greying with the hair."""
    colour = person.hair * 0.8 + 0.6 * person.grey * (GREY * 0.8 - person.hair * 0.8)
    arch = 0.055 - 0.5 * person.brow
    for side in (-1, 1):
        knots = points((0.13, -0.3), (0.25, -0.335 - arch / 2), (0.38, -0.345 - arch), (0.52, -0.27)) * (side, 1)
        canvas.line(knots, colour, 1.3 * person.brow, 0.85 - 0.2 * person.grey, 0.012)
        canvas.line(knots, colour, person.brow, 0.7, 0.004)


def paint_nose(canvas: Canvas, person: Person) -> None:
    """Paint the nose by its shadows and lights."""
    n, shade = person.nose, person.skin * (0.66, 0.56, 0.52)
    canvas.soft(ribbon(points((0, -0.18), (0, 0.28)), 0.09), np.minimum(person.skin * 1.14, 255), 0.55, 0.03)
    canvas.soft(ellipse(0, 0.39, 0.17 * n, 0.045), shade, 0.7, 0.025)
    for side in (-1, 1):
        canvas.soft(ribbon(points((0.1, -0.2), (0.085, 0.02), (0.13 * n, 0.24)) * (side, 1), 0.05), shade, 0.5, 0.025)
        canvas.line(points((0.15, 0.22), (0.19, 0.3), (0.13, 0.365)) * (side * n, 1), shade * 0.85, 0.022, 0.8, 0.006)
        canvas.paint(ellipse(0.075 * side * n, 0.362, 0.042 * n, 0.02), shade * 0.5, 0.85, 0.006, atop=True)
    canvas.soft(ellipse(0.02, 0.27, 0.05, 0.04), np.minimum(person.skin * 1.2 + 14, 255), 0.6, 0.025)


def paint_mouth(canvas: Canvas, person: Person, shot: Shot) -> None:
    """Paint the lips, thinner with age, the corners lifted by the smile."""
    lift, full = 0.05 * shot.smile, 1 - 0.45 * person.wrinkles
    half = 0.235 + 0.03 * shot.smile
    y, lips = 0.62, 0.75 * person.lips + 0.25 * person.skin
    upper = points(
        (-half, y - lift), (-0.1, y - 0.062 * full), (0, y - 0.042 * full), (0.1, y - 0.062 * full), (half, y - lift)
    )
    middle = points((half, y - lift), (0.1, y + 0.012), (0, y + 0.018), (-0.1, y + 0.012), (-half, y - lift))
    lower = points(
        (half, y - lift), (0.12, y + 0.075 * full), (0, y + 0.098 * full), (-0.12, y + 0.075 * full), (-half, y - lift)
    )
    canvas.soft(ellipse(0, y + 0.15, 0.16, 0.03), person.skin * 0.66, 0.6, 0.03)
    canvas.paint(np.vstack([spline(upper, False), spline(middle, False)]), lips * 0.86, 0.95, 0.006, atop=True)
    canvas.paint(np.vstack([spline(middle[::-1], False), spline(lower, False)]), lips, 0.95, 0.006, atop=True)
    canvas.soft(ellipse(0, y + 0.055 * full, 0.09, 0.014), np.minimum(lips * 1.3, 255), 0.6, 0.014)
    canvas.line(middle, lips * 0.42, 0.02, 0.9, 0.004)


def paint_beard(canvas: Canvas, person: Person) -> None:
    """Paint stubble as a bluish shade, or a beard and moustache in the hair's colour."""
    right = points((0, 0.44), (0.2, 0.46), (0.34, 0.62), (0.6, 0.3), (0.6, 0.6), (0.38, 0.9), (0, 1.02))
    colour = person.hair * 0.9 + 0.9 * person.grey * (GREY - person.hair)
    area = spline(mirror(right))
    grain = np.clip(0.75 + 0.35 * noise(np.random.default_rng(person.texture_seed + 3), CANVAS_SIZE, 2), 0, 1)
    canvas.paint(
        area, 0.55 * person.skin + 0.45 * colour * (0.9, 0.95, 1.1), 0.6 * person.stubble, 0.06, atop=True, weight=grain
    )
    if person.beard:
        canvas.paint(area, colour, 0.8, 0.03, atop=True, weight=grain)


def paint_glasses(canvas: Canvas, person: Person) -> None:
    """Paint a frame, temples and a faint reflection."""
    frame = BLACK if person.texture_seed % 2 else np.float32([110, 78, 52])
    for side in (-1, 1):
        ring = spline(points((0.1, -0.2), (0.3, -0.27), (0.52, -0.22), (0.52, 0.0), (0.32, 0.1), (0.12, 0.02)) * (side, 1))
        canvas.paint(ring, WHITE, 0.08, atop=True)
        canvas.line(np.vstack([ring, ring[:1]]), frame, 0.014, 0.7, taper=False)
        canvas.line(points((0.54, -0.14), (0.7, -0.1)) * (side, 1), frame, 0.018, 0.7, taper=False)
    canvas.line(points((-0.1, -0.13), (0, -0.16), (0.1, -0.13)), frame, 0.016, 0.7, taper=False)


def paint_earrings(canvas: Canvas, person: Person) -> None:
    """Paint a small earring under each ear."""
    for side in (-1, 1):
        canvas.paint(ellipse(0.72 * side * person.face, 0.27, 0.035, 0.035), (232, 206, 130))
        canvas.paint(ellipse(0.71 * side * person.face, 0.26, 0.012, 0.012), WHITE)


# --- masks ----------------------------------------------------------------------------------------------------------


def mask_outline(top: float, bottom: float, width: float) -> np.ndarray:
    """Return the outline of a mask between two heights."""
    tall = bottom - top
    return spline(
        mirror(
            points(
                (0, top), (0.3 * width, top + 0.05 * tall), (0.68 * width, top + 0.14 * tall), (0.7 * width, top + 0.5 * tall),
                (0.54 * width, bottom - 0.16 * tall), (0.26 * width, bottom - 0.02 * tall), (0, bottom),
            )
        )
    )  # fmt: skip


def fabric(style: str, rng: np.random.Generator) -> np.ndarray:
    """Return the colour (3,) of a mask's fabric, or a picture (3, H, W) of it."""
    x, y = grid()
    if style == "pattern":
        ground, figure = FABRICS[rng.permutation(len(FABRICS))[:2], :, None, None]
        stripes = np.sin(34 * y + 6 * np.sin(9 * x)) > 0.35
        dots = np.sin(38 * x) * np.sin(38 * y) > 0.45
        return np.where(stripes if rng.random() < 0.5 else dots, figure, ground)
    colours = {
        "surgical": [[236, 240, 242], [156, 198, 222], [168, 214, 206]],
        "kf94": [[244, 244, 242]],
        "cloth": [[34, 34, 38], [96, 98, 106], [64, 74, 104]],
    }
    return np.float32(colours[style])[rng.integers(len(colours[style]))]


def paint_mask(canvas: Canvas, person: Person, shot: Shot) -> None:
    """Paint a mask where the shot has it: ear loops, cloth, then pleats, seam or folds."""
    rng = np.random.default_rng(shot.noise_seed)
    top, bottom = MASK_PLACES[shot.mask] + rng.normal(0, 0.015, 2)
    outline, tall = mask_outline(top, bottom, person.face * (0.92 if shot.mask == "chin" else 1)), bottom - top
    cloth = fabric(shot.style, rng)
    for side in (-1, 1):
        for start, end in ((0.16, -0.02), (0.7, 0.16)):
            loop = points((0.66, top + start * tall), (0.7, (top + start * tall + end) / 2), (0.72, end)) * (
                side * person.face,
                1,
            )
            canvas.line(loop, (232, 232, 230) if shot.style != "cloth" else BLACK * 2, 0.022, 0.95, taper=False, atop=False)
    canvas.soft(shift(outline, 0, 0.03), person.skin * 0.45, 0.5, 0.04)
    canvas.paint(outline, cloth)
    edge = np.vstack([outline, outline[:1]])
    canvas.soft(ribbon(edge, 0.05, taper=False), BLACK, 0.18, 0.02)
    paint_folds(canvas, shot.style, outline, top, tall)


def paint_folds(canvas: Canvas, style: str, outline: np.ndarray, top: float, tall: float) -> None:
    """Paint what a mask's cut does to the light: pleats, a middle seam, or two folds."""
    canvas.soft(ellipse(0, top + 0.4 * tall, 0.2, 0.24 * tall), WHITE, 0.2, 0.1)
    if style in ("cloth", "pattern"):
        canvas.line(points((0, top), (0.02, top + 0.4 * tall), (0, top + tall)), BLACK, 0.02, 0.4, 0.006)
        return
    for share in (0.3, 0.5, 0.7) if style == "surgical" else (0.28, 0.74):
        bend = 0.06 if style == "surgical" else 0.1 - 0.2 * (share > 0.5)
        y = top + share * tall
        knots = points((-0.62, y), (-0.3, y + bend * 0.7), (0, y + bend), (0.3, y + bend * 0.7), (0.62, y))
        canvas.paint(ribbon(knots, 0.022), BLACK * 4, 0.4, 0.008, True, within=outline)
        canvas.paint(ribbon(shift(knots, 0, 0.025), 0.02), WHITE, 0.35, 0.008, True, within=outline)


# --- the photo ------------------------------------------------------------------------------------------------------


class Layers(NamedTuple):
    """What stays the same over a person's photos, painted from the front without light."""

    room: np.ndarray  # (3, 512, 384)
    behind: np.ndarray  # hair behind the neck, (H, W, 4) uint8
    face: np.ndarray  # the bare head but for eyes and mouth, (4, H, W)
    hair: np.ndarray  # hair over the head, (4, H, W)


@lru_cache(maxsize=1)  # photos are painted person by person
def paint_layers(person: Person) -> Layers:
    """Paint what stays the same over a person's photos."""
    behind, face, front = (Canvas(CANVAS_SIZE, UNIT, CANVAS_ORIGIN) for _ in range(3))
    hair = hair_picture(person)
    paint_back_hair(behind, person, hair)
    paint_front_hair(front, person, hair)
    paint_skin(face, person)
    paint_wrinkles(face, person)
    paint_beard(face, person)
    paint_nose(face, person)
    paint_brows(face, person)
    paint_hair_shadow(face, person)
    if person.earrings:
        paint_earrings(face, person)
    return Layers(paint_room(person), interleave(behind.planes), face.planes, front.planes)


def interleave(planes: np.ndarray) -> np.ndarray:
    """Return planes (4, H, W) as (H, W, 4) uint8, alpha 0..255."""
    return cv2.merge([*np.clip(planes[:3], 0, 255).astype(np.uint8), (255 * planes[3]).astype(np.uint8)])


def paint_head(person: Person, shot: Shot, layers: Layers) -> np.ndarray:
    """Return the head (H, W, 4), uint8, as the shot shows it, seen from the front, lit by the shot's light."""
    canvas = Canvas(CANVAS_SIZE, UNIT, CANVAS_ORIGIN)
    canvas.planes[:] = layers.face
    paint_mouth(canvas, person, shot)
    paint_eyes(canvas, person, shot.gaze)
    if shot.mask != "eyes" and person.glasses:
        paint_glasses(canvas, person)
    if shot.mask:
        paint_mask(canvas, person, shot)
    canvas.planes *= 1 - layers.hair[3]
    canvas.planes += layers.hair
    canvas.planes[:3] *= shade(shot.light)
    return interleave(canvas.planes)


def shade(angle: float) -> np.ndarray:
    """Return how bright the head is at each pixel (H, W) under a light from above, leaning by ``angle``."""
    light = np.float32([np.sin(angle) * 0.6, -0.45, 0.75])
    towards = sum(share * normal for share, normal in zip(light / np.linalg.norm(light), normals(), strict=True))
    return 0.66 + 0.42 * np.clip(towards, 0, 1)


class Pose(NamedTuple):
    """Rows and columns of the photo that the turned canvas can touch, and where on the canvas each of their pixels lies."""

    region: tuple[slice, slice]
    x: np.ndarray
    y: np.ndarray


def turn(shot: Shot) -> Pose:
    """Return the shot's pose.

    Yaw and pitch shift each point by its height over the picture plane, as turning a shallow egg does.
    """
    cos, sin = np.float32([math.cos(shot.roll), math.sin(shot.roll)])
    left, top, right, bottom = turned_box(shot)
    u = (np.arange(left, right, dtype=np.float32) - np.float32(shot.centre[0])) / np.float32(shot.scale)
    v = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(shot.centre[1])) / np.float32(shot.scale)
    x, y = u * cos + v * sin, v * cos - u * sin
    depth = 0.75 * np.maximum(1 - (x / 0.85) ** 2 - ((y + 0.05) / 1.2) ** 2, 0)
    x, y = x - depth * math.sin(shot.yaw), y - depth * math.sin(shot.pitch)
    return Pose((slice(top, bottom), slice(left, right)), x * UNIT + CANVAS_ORIGIN[0], y * UNIT + CANVAS_ORIGIN[1])


def turned_box(shot: Shot) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom (px of the photo) of the canvas, turned by the shot's roll."""
    sides = np.stack([-np.float64(CANVAS_ORIGIN), np.subtract(CANVAS_SIZE, CANVAS_ORIGIN)]) / UNIT * shot.scale
    x, y = np.meshgrid(*sides.T)
    cos, sin = math.cos(shot.roll), math.sin(shot.roll)
    corners = np.stack([x * cos - y * sin, x * sin + y * cos], -1).reshape(-1, 2) + shot.centre
    low, high = np.clip(corners.min(0), 0, None), np.clip(corners.max(0) + 1, None, (WIDTH, HEIGHT))
    return *low.astype(int).tolist(), *high.astype(int).tolist()


def lay_over(photo: Canvas, layer: np.ndarray, pose: Pose) -> None:
    """Turn a painted layer (H, W, 4), uint8, and lay it over the photo, in place."""
    *colours, alpha = cv2.split(cv2.remap(layer, pose.x, pose.y, cv2.INTER_LINEAR))
    through = 1 - alpha / np.float32(255)
    for plane, colour in zip(photo.planes, colours, strict=False):
        part = plane[pose.region]
        part *= through
        part += colour


def paint_room(person: Person) -> np.ndarray:
    """Return a wall (3, 512, 384) with a few things out of focus, painted small as nothing in it is sharp."""
    rng = np.random.default_rng(person.texture_seed + 4)
    wall = Canvas((WIDTH // 4, HEIGHT // 4), 25, (WIDTH / 8, HEIGHT / 8))
    wall.planes[:3], wall.planes[3] = person.wall[:, None, None], 1
    for _ in range(rng.integers(2, 6)):
        x, y, w, h = *rng.uniform(-2.2, 2.2, 2), *rng.uniform(0.3, 1.2, 2)
        box = points((x - w, y - 2 * h), (x + w, y - 2 * h), (x + w, y + h), (x - w, y + h))
        wall.paint(box, person.wall * rng.uniform(0.55, 1.2), rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.2))
    return np.stack([cv2.resize(plane, (WIDTH, HEIGHT)) for plane in wall.planes[:3]])


def falloff(angle: float) -> np.ndarray:
    """Return how bright the wall is at each pixel (512, 384): darker below, and away from a light that leans by ``angle``."""
    across, down = np.linspace(-1, 1, WIDTH, dtype=np.float32), np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    return 0.95 + np.float32(0.12 * math.sin(angle)) * across - np.float32(0.1) * down


def paint_body(body: Canvas, person: Person) -> None:
    """Paint neck, shoulders and collar."""
    thick, broad = 0.33 + 0.4 * (person.jaw - 1), 1.35 + 1.2 * (person.jaw - 1)
    neck = points((thick, 0.4), (thick, 1.1), (thick + 0.14, 1.5), (0.3, 2.0))
    shoulders = points((0.4, 1.36), (0.62, 1.44), (broad - 0.1, 1.7), (broad + 0.2, 2.3), (broad + 0.3, 5), (0, 5.2))
    body.paint(spline(mirror(shoulders)), person.clothes)
    body.soft(shift(spline(mirror(shoulders)), 0, 0.5), person.clothes * 0.6, 0.5, 0.25, within=spline(mirror(shoulders)))
    dip = {"crew": 1.55, "v": 2.05, "shirt": 1.85}[person.collar]
    throat = points((0.36, 1.3), (0.4, 1.44), (0.2, 0.35 * 1.5 + 0.65 * dip), (0, dip))
    body.paint(spline(mirror(throat)), person.skin * 0.88)
    body.paint(spline(mirror(neck[:3])), person.skin * 0.86)
    body.soft(ellipse(0, 1.04, 0.5, 0.16), person.skin * (0.5, 0.42, 0.4), 0.75, 0.1, within=spline(mirror(neck[:3])))
    if person.collar == "shirt":
        for side in (-1, 1):
            flap = points((0.4, 1.28), (0.54, 1.42), (0.42, 1.9), (0.05, 1.88)) * (side, 1)
            body.paint(flap, np.minimum(person.clothes * 1.15 + 12, 255))
            body.soft(ribbon(np.vstack([flap, flap[:1]]), 0.02), BLACK, 0.4, 0.01)


def develop(planes: np.ndarray, shot: Shot) -> np.ndarray:
    """Apply exposure, colour temperature and sensor noise to RGB planes, in place; return them as (H, W, 3) uint8."""
    rng = np.random.default_rng(shot.noise_seed + 1)
    grain = 3 * rng.standard_normal(planes.shape[1:], np.float32)
    planes *= np.float32([1 + shot.warmth, 1, 1 - shot.warmth])[:, None, None] * np.float32(shot.gain)
    planes += grain
    return cv2.merge(list(np.clip(planes, 0, 255).astype(np.uint8)))


def paint_photo(person: Person, shot: Shot) -> np.ndarray:
    """Return a photo (512, 384, 3), uint8 RGB, of a person as the shot says."""
    layers, pose = paint_layers(person), turn(shot)
    photo = Canvas((WIDTH, HEIGHT), shot.scale, shot.centre)
    photo.planes[:3], photo.planes[3] = layers.room * falloff(shot.light), 1
    lay_over(photo, layers.behind, pose)
    paint_body(photo, person)
    lay_over(photo, paint_head(person, shot, layers), pose)
    return develop(photo.planes[:3], shot)
