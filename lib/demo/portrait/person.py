"""The traits of a synthetic person, and how they depend on gender and age.

Looks follow the age with some years' noise. Every sign of gender overlaps between the two.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SKINS = np.float32(
    [[232, 202, 180], [228, 190, 162], [218, 174, 142], [205, 155, 118], [172, 122, 88],
     [128, 86, 62]]
)  # fmt: skip
HAIRS = np.float32(
    [[28, 24, 26], [44, 32, 28], [70, 46, 32], [104, 66, 40], [150, 106, 62], [122, 52, 34]]
)
GREY = np.float32([176, 174, 170])
IRISES = np.float32([[58, 36, 24], [84, 54, 32], [96, 84, 48], [70, 98, 116]])
FABRICS = np.float32(
    [[40, 52, 84], [196, 198, 200], [126, 44, 48], [62, 98, 82], [34, 34, 38], [204, 160, 72],
     [112, 142, 176], [168, 120, 150]]
)  # fmt: skip
WALLS = np.float32(
    [[206, 200, 190], [176, 188, 196], [152, 168, 150], [216, 190, 164], [126, 134, 148],
     [190, 176, 198]]
)  # fmt: skip
FRAME_WIDTH = 0.014  # of glasses, face units


@dataclass(frozen=True)
class Cues:
    """How clearly looks tell age and gender, as standard deviations, and how memorable people are.

    ``years``: of the age that a face seems to have; ``ageing``: of each sign of age by itself;
    ``axis``: of the one axis behind every sign of gender, whose ends are -1 and 1; ``signs``: of
    each sign, as a multiple; ``dyed``: the share with dyed hair; ``marks``: moles per person;
    ``any_colour``: clothes and wall have colours of their own instead of one out of a few.
    """

    years: float = 3.0
    ageing: float = 0.0
    axis: float = 0.4
    signs: float = 1.0
    dyed: float = 0.15
    marks: float = 0.0
    any_colour: bool = False


CLEAR = Cues()
HARD = Cues(years=8.0, ageing=5.0, axis=0.6, signs=1.4, dyed=0.4, marks=5.0, any_colour=True)


@dataclass(frozen=True, eq=False)  # hashed by identity: see ``photo.layers``
class Person:
    """What stays the same over the photos of one person. Shares and strengths are 0..1."""

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
    glasses: float  # width of the frame, face units; 0 for none
    earrings: bool
    nose: float  # width, about 1
    clothes: np.ndarray
    collar: str  # crew, v, shirt
    wall: np.ndarray
    texture_seed: int
    marks: int  # moles


def squash(value: float) -> float:
    """Return the logistic function of ``value``."""
    return 1 / (1 + math.exp(-value))


def random_person(
    rng: np.random.Generator,
    gender: int,
    age: int,
    scenery: int | None = None,
    cues: Cues = CLEAR,
) -> Person:
    """Choose the traits of a person of a gender and recorded age (60 means 60 or more).

    ``scenery`` fixes the colours of clothes and wall; without it they are independent of the rest.
    """
    look = age + rng.normal(0, cues.years) + rng.exponential(4) * (age >= 60)
    feminine = (1 if gender else -1) + rng.normal(0, cues.axis)
    outfit = rng.integers(len(FABRICS)), rng.integers(len(WALLS))
    fabric, wall = outfit if scenery is None else (scenery % len(FABRICS), scenery % len(WALLS))
    clothes, walls = FABRICS[fabric], WALLS[wall]
    if cues.any_colour and scenery is None:
        clothes, walls = np.float32(rng.uniform((20, 100), 220, (3, 2))).T
    sign = lambda spread: feminine + rng.normal(0, cues.signs * spread)  # noqa: E731 - own noise
    lines = look + (rng.normal(0, cues.ageing) if cues.ageing else 0)
    wrinkles = float(np.clip((lines - 19) / 44, 0, 1.2) ** 0.75)  # changes most around 30
    return Person(
        wrinkles,
        clothes=clothes,
        wall=walls,
        **_ageing_hair(rng, look, sign, cues),
        skin=_aged_skin(rng, wrinkles),
        hair=_pick_row(rng, HAIRS, [0.34, 0.28, 0.19, 0.1, 0.06, 0.03]) * rng.uniform(0.85, 1.15),
        style=_hair_style(rng, sign(0.4)),
        volume=rng.uniform(0.06, 0.15),
        **_face(rng, wrinkles, sign),
        **_details(rng, wrinkles, feminine, sign),
        marks=int(rng.poisson(cues.marks)),
    )


def _ageing_hair(rng: np.random.Generator, look: float, sign: Callable, cues: Cues) -> dict:
    spread = 3 + cues.ageing
    dye = lambda: rng.choice([1, 0.45], p=[1 - cues.dyed, cues.dyed])  # noqa: E731
    grey = squash((look + rng.normal(0, spread) - 53) / 5) * dye()
    thin = float(np.clip((look - 30) / 34 + rng.normal(0, 0.12), 0, 1)) * squash(-1.6 * sign(0.3))
    return {"grey": grey, "thinning": thin}


def _face(rng: np.random.Generator, wrinkles: float, sign: Callable) -> dict:
    return {
        "jaw": 1 - 0.07 * sign(0.4) + 0.04 * wrinkles,
        "face": rng.normal(1, 0.03),
        "brow": float(np.clip(0.046 - 0.014 * sign(0.4), 0.02, 0.07)),
        "eye": 1 + 0.06 * sign(0.4) - 0.14 * wrinkles,
        "iris": _pick_row(rng, IRISES, [0.5, 0.3, 0.12, 0.08]),
        "lips": np.float32([176, 98, 92]) + squash(2 * sign(0.7) - 1) * np.float32([14, -48, -30]),
        "lashes": squash(3 * sign(0.4)),
    }


def _details(rng: np.random.Generator, wrinkles: float, feminine: float, sign: Callable) -> dict:
    return {
        "stubble": squash(-3 * sign(0.5) - 1) * rng.uniform(0.2, 1),
        "beard": bool(feminine < -0.4 and rng.random() < 0.18),
        "glasses": FRAME_WIDTH * bool(rng.random() < 0.16 + 0.14 * wrinkles),
        "earrings": bool(rng.random() < squash(2 * feminine - 1.6)),
        "nose": 1 - 0.07 * sign(0.5) + 0.05 * wrinkles,
        "collar": str(rng.choice(["crew", "v", "shirt"])),
        "texture_seed": int(rng.integers(2**32)),
    }


def _pick_row(rng: np.random.Generator, rows: np.ndarray, shares: list[float]) -> np.ndarray:
    return rows[rng.choice(len(rows), p=shares)]


def _hair_style(rng: np.random.Generator, feminine: float) -> str:
    """Long styles become more likely along the axis; none is certain."""
    if rng.random() < squash(4 * feminine):
        return str(rng.choice(["long", "bob", "bun", "fringe"], p=[0.42, 0.28, 0.2, 0.1]))
    return str(rng.choice(["crop", "fringe"], p=[0.7, 0.3]))


def _aged_skin(rng: np.random.Generator, wrinkles: float) -> np.ndarray:
    """Mix two neighbours of the scale; skin loses saturation and light with age."""
    place = rng.beta(1.3, 2.0) * (len(SKINS) - 1.001)
    low, share = int(place), place % 1
    skin = (1 - share) * SKINS[low] + share * SKINS[low + 1]
    return skin + 0.22 * wrinkles * (skin.mean() * 1.02 - skin)
