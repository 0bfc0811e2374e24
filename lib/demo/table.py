"""Synthetic people as a table: who wears glasses, and the colour of the hair (task ``glasses``).

All photos lie in ``images/``. ``train.csv`` names path, person, glasses and hair, ``test.csv`` only
the path, and ``private/answers.csv`` has what a competitor would not be given.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from lib import artefacts
from lib.demo.folder import for_each, is_finished, whole_folder, write_photo
from lib.demo.people import YEARS, image_id, rows_of
from lib.demo.portrait.camera import random_shot
from lib.demo.portrait.person import GREY, Person, random_person
from lib.demo.portrait.photo import render
from lib.errors import ParameterError
from lib.task.attributes import load

TASK = load("glasses")
FRAMES = {"no": 0, "yes": 0.03}  # widths in face units, thicker than the competition's people have
HAIRS = {"black": (26, 22, 24), "brown": (86, 58, 42), "blond": (216, 184, 122), "grey": GREY}
PHOTOS = 6  # per person


def draw_people(rng: np.random.Generator, people: int) -> pd.DataFrame:
    """Draw glasses and hair, every combination equally often: a row per person, class names."""
    least = len(TASK.classes())
    if people < least:
        raise ParameterError(f"people={people!r} is too few for {least} classes: give that many")
    classes = TASK.decode(rng.permutation(np.arange(people) % least))
    return pd.DataFrame({name: np.take(TASK.classes(name), classes[name]) for name in TASK.names})


def with_looks(person: Person, glasses: str, hair: str) -> Person:
    """Return a person with or without glasses, and with hair of one colour, none of it thin."""
    looks = {"glasses": FRAMES[glasses], "hair": np.float32(HAIRS[hair])}
    return replace(person, **looks, grey=float(hair == "grey"), thinning=0)


def write_person(person: SimpleNamespace, folder: Path, seed: int) -> None:
    """Write the photos of a row of the table of people."""
    rng = np.random.default_rng((seed, 2, person.number))
    bare = random_person(rng, gender=int(rng.integers(2)), age=int(rng.choice(YEARS)))
    drawn = with_looks(bare, person.glasses, person.hair)
    for k in range(PHOTOS):
        write_photo(folder / image_id(seed, person.number, str(k)), render(drawn, random_shot(rng)))


def photo_table(people: list[SimpleNamespace], seed: int) -> pd.DataFrame:
    """Return path, person, glasses and hair of every photo, in the order of the path."""
    rows = [
        (image_id(seed, one.number, str(k)), f"p{one.number:03d}", one.glasses, one.hair)
        for one in people
        for k in range(PHOTOS)
    ]
    return pd.DataFrame(rows, columns=["path", "person", *TASK.names]).sort_values("path")


def make(
    data_dir: str | Path, people: int = 32, eval_people: int = 16, seed: int = 0, workers: int = 0
) -> Path:
    """Make the data set in ``data_dir`` unless it is there, and return its path.

    ``workers`` 0 means one per core; the result does not depend on it. ArtefactError when
    ``data_dir`` holds data of other parameters.
    """
    folder = artefacts.resolve(data_dir)
    parameters = {"layout": "table", "people": people, "eval_people": eval_people, "seed": seed}
    if is_finished(folder, parameters, make):
        return folder
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    everybody = rows_of(pd.concat([draw_people(rng, people), draw_people(rng, eval_people)]))
    with whole_folder(folder, parameters) as root:
        (root / "images").mkdir()
        write = partial(write_person, folder=root / "images", seed=seed)
        for_each(write, everybody, workers, "people")
        answers = photo_table(everybody[people:], seed).drop(columns="person")
        artefacts.write_table(photo_table(everybody[:people], seed), root / "train.csv")
        artefacts.write_table(answers[["path"]], root / "test.csv")
        artefacts.write_table(answers, root / "private" / "answers.csv")
    return folder


def read_train(folder: Path) -> pd.DataFrame:
    """Return the training photos: file (from ``folder``), person, glasses, hair."""
    table = pd.read_csv(folder / "train.csv")
    return table.assign(file="images/" + table.path).sort_values("person", ignore_index=True)
