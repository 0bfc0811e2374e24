"""Photos of one synthetic person in every state that a label names, each with a caption."""

from itertools import product

import numpy as np

from lib.demo import table
from lib.demo.people import GENDERS
from lib.demo.portrait.camera import random_shot
from lib.demo.portrait.clothes import MASK_PLACES, MASK_STYLES
from lib.demo.portrait.person import random_person
from lib.demo.portrait.photo import render

Photos = dict[str, np.ndarray]  # RGB (512, 384, 3) by caption


def masks(seed: int) -> Photos:
    """Return every style of mask in every place."""
    rng = np.random.default_rng(seed)
    person = random_person(rng, gender=1, age=35)
    return {
        f"{style}\n{place}": render(person, random_shot(rng, place, style))
        for place in MASK_PLACES
        for style in MASK_STYLES
    }


def glasses(seed: int) -> Photos:
    """Return every colour of hair, without and with glasses."""
    rng = np.random.default_rng(seed)
    person = random_person(rng, gender=1, age=35)
    photos = {}
    for worn, hair in product(table.FRAMES, table.HAIRS):
        drawn = table.with_looks(person, worn, hair)
        photos[f"{hair} hair\nglasses: {worn}"] = render(drawn, random_shot(rng))
    return photos


def ages(seed: int) -> Photos:
    """Return two people through the years."""
    photos = {}
    for gender, name in enumerate(GENDERS):
        for year in (18, 24, 29, 31, 38, 45, 52, 58, 60):
            rng = np.random.default_rng(seed + gender)
            photos[f"{name} {year}"] = render(random_person(rng, gender, year), random_shot(rng))
    return photos
