"""Synthetic people in the competition's own layout: who they are, their photos and their tables.

No photo shows a real person. ``private/`` holds what a competitor would not be given: the answers,
the people behind the eval photos, and the label errors that were planted.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from lib import artefacts
from lib.data.competition import STEMS
from lib.demo.folder import for_each, is_finished, whole_folder, write_photo
from lib.demo.portrait.camera import random_session, random_shot, session_shot
from lib.demo.portrait.clothes import MASK_STYLES
from lib.demo.portrait.person import CLEAR, HARD, random_person
from lib.demo.portrait.photo import render
from lib.errors import ParameterError
from lib.task.attributes import load

TASK = load("mask")
AGE, GENDERS = TASK["age"], TASK["gender"].classes
YEARS = np.array(AGE.recorded)

SUFFIXES = {".jpg": 0.76, ".jpeg": 0.16, ".png": 0.08}  # mixed inside a folder, as in the real data
WRONG_PLACES = {"nose": 0.5, "chin": 0.35, "eyes": 0.15}  # of a mask worn incorrectly
JUNK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4056)  # a macOS AppleDouble file

EVEN_CELLS = ((0.2, 0.2, 0.1), (0.2, 0.2, 0.1))  # shares by gender (rows) and age group
NATURAL_CELLS = ((549, 410, 83), (732, 817, 109))  # people in the real training data
NATURAL_LATE_FIFTIES = {57: 106, 58: 159, 59: 85}  # of its 1,227 people from 30 to 59
PLANTS = ("gender", "gender", "mask", "mask", "age")  # fields with a false label, one per person


def apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Split ``total`` by ``shares`` into whole numbers of at least one each (largest remainder)."""
    exact = shares / shares.sum() * total
    counts = np.maximum(np.floor(exact).astype(int), 1)
    while counts.sum() != total:
        step = np.sign(total - counts.sum())
        gap = np.where(counts + step > 0, step * (exact - counts), -np.inf)
        counts[np.argmax(gap)] += step
    return counts


def year_shares(group: int, natural: bool) -> np.ndarray:
    """Return the share of each of YEARS in an age group: a peak at 18, naturally also at 58."""
    shares = np.where(AGE.group(YEARS) == group, 1.0, 0)
    shares[0] *= 3
    if natural and group == 1:
        late = NATURAL_LATE_FIFTIES
        shares *= (1227 - sum(late.values())) / 27  # the others, over the years 30 to 56
        shares[np.array(list(late)) - YEARS[0]] = list(late.values())
    return shares / shares.sum()


def draw_census(rng: np.random.Generator, people: int, natural: bool) -> pd.DataFrame:
    """Draw people in random order: gender, age and cell (gender and age group, none empty)."""
    if people < 6:
        raise ParameterError(
            f"people={people!r} is too few for 2 genders and 3 age groups: give at least 6"
        )
    counts = apportion(np.ravel(NATURAL_CELLS if natural else EVEN_CELLS), people)
    rows = [
        (cell // 3, age)
        for cell, count in enumerate(counts)
        for age in rng.choice(YEARS, count, p=year_shares(cell % 3, natural))
    ]
    census = pd.DataFrame(rows, columns=["gender", "age"]).sample(frac=1, random_state=rng)
    return census.reset_index(drop=True).assign(cell=TASK.strata)


def name_people(census: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give ids as in the real data: leading zeros, some with -1 and -2, one for ages 19 and 20.

    Ten seeds have ids of their own, so that a second set can be added to the first.
    """
    first = 900001 + 10000 * (seed % 10)
    census = census.assign(id=[f"{first + k:07d}" for k in range(len(census))])
    young = census.index[census.cell == 3]
    if len(young) > 1:  # one id, two folders
        census.loc[young[1], "id"] = census.id[young[0]]
        census.loc[young[:2], "age"] = [19, 20]
    others = census.index.difference(young)
    for first, second in (others[2:4], others[6:8]) if len(others) > 8 else ():
        census.loc[[first, second], "id"] = [f"{census.id[first]}-1", f"{census.id[first]}-2"]
    return census


def plant_errors(census: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Choose people with a false label: columns plant (field or ""), recorded_gender, recorded_age.

    One person of each cell and everyone at 60 stays true, so that each class has a person.
    """
    unique = ~census.id.duplicated(keep=False)
    free = census.index[census.cell.duplicated() & (census.age < YEARS[-1]) & unique]
    census = census.assign(plant="", recorded_gender=census.gender, recorded_age=census.age)
    for person, field in zip(rng.permutation(free), PLANTS, strict=False):
        census.loc[person, "plant"] = field
        if field == "gender":
            census.loc[person, "recorded_gender"] = 1 - census.gender[person]
        if field == "age":
            census.loc[person, "recorded_age"] = 52 if census.age[person] < AGE.cuts[0] else 22
    genders, ages = np.take(GENDERS, census.recorded_gender), census.recorded_age.astype(str)
    return census.assign(path=census.id + "_" + genders + "_Asian_" + ages)  # as the real folders


def planted_table(census: pd.DataFrame) -> pd.DataFrame:
    """List the planted errors: id, person, field, recorded, true (a row for each of two photos)."""
    rows = []
    for p in rows_of(census[census.plant != ""]):
        pairs = {
            "gender": [(GENDERS[p.recorded_gender], GENDERS[p.gender])],
            "age": [(p.recorded_age, p.age)],
            "mask": [("incorrect", "normal"), ("normal", "incorrect")],
        }[p.plant]
        rows += [(p.id, p.path, p.plant, recorded, true) for recorded, true in pairs]
    return pd.DataFrame(rows, columns=["id", "person", "field", "recorded", "true"])


def rows_of(census: pd.DataFrame) -> list[SimpleNamespace]:
    """Return the census as plain objects with a ``number``, which other processes can be sent."""
    return [SimpleNamespace(number=k, **row) for k, row in enumerate(census.to_dict("records"))]


def photos_of(
    person: SimpleNamespace, seed: tuple[int, ...], shortcut: bool, hard: bool
) -> Iterator[tuple[str, np.ndarray, np.random.Generator]]:
    """Yield (stem, photo in RGB, generator) for the seven photos of a row of the census."""
    rng = np.random.default_rng(seed)
    scenery = person.cell if shortcut else None
    drawn = random_person(rng, person.gender, person.age, scenery, HARD if hard else CLEAR)
    shot = partial(session_shot, session=random_session(rng)) if hard else random_shot
    styles = cycle(rng.permutation(MASK_STYLES))
    for stem in STEMS:
        wrong = str(rng.choice(list(WRONG_PLACES), p=list(WRONG_PLACES.values())))
        place = {"normal": "", "incorrect_mask": wrong}.get(stem, "wear")
        yield stem, render(drawn, shot(rng, place, str(next(styles)))), rng


def write_train_person(
    person: SimpleNamespace, root: Path, seed: int, shortcut: bool, hard: bool
) -> None:
    """Write a training person's folder; every ninth has junk files."""
    folder = root / "train" / "images" / person.path
    folder.mkdir(parents=True)
    swapped = person.plant == "mask"
    swap = {"incorrect_mask": "normal", "normal": "incorrect_mask"} if swapped else {}
    for stem, photo, rng in photos_of(person, (seed, 0, person.number), shortcut, hard):
        suffix = rng.choice(list(SUFFIXES), p=list(SUFFIXES.values()))
        write_photo(folder / f"{swap.get(stem, stem)}{suffix}", photo)
    if person.number % 9 == 0:
        (folder / "._normal.jpg").write_bytes(JUNK)
        (folder.parent / f"._{person.path}").write_bytes(JUNK)


def image_id(seed: int, person: int, stem: str) -> str:
    """Return the name of an eval photo: 40 hex digits that reveal nothing."""
    return hashlib.sha1(f"{seed}/{person}/{stem}".encode()).hexdigest() + ".jpg"


def write_eval_person(person: SimpleNamespace, root: Path, seed: int, hard: bool) -> None:
    """Write an eval person's photos."""
    for stem, photo, _ in photos_of(person, (seed, 1, person.number), False, hard):
        write_photo(root / "eval" / "images" / image_id(seed, person.number, stem), photo)


def make(
    data_dir: str | Path,
    people: int = 100,
    eval_people: int = 50,
    seed: int = 0,
    natural: bool = False,
    shortcut: bool = False,
    hard: bool = False,
    workers: int = 0,
) -> Path:
    """Make the data set in ``data_dir`` unless it is there, and return its path.

    ``natural`` takes the real data's shares of gender and age instead of even ones with a fifth at
    60. With ``shortcut`` clothes and background reveal gender and age group, in the training photos
    only. ``hard`` people show age and gender less clearly, and have photos of changing quality.
    ``workers`` 0 means one per core; the result does not depend on it. ArtefactError when
    ``data_dir`` holds data of other parameters.
    """
    folder = artefacts.resolve(data_dir)
    parameters = {"people": people, "eval_people": eval_people, "seed": seed}
    parameters |= {"natural": natural, "shortcut": shortcut, "hard": hard}
    if is_finished(folder, parameters, make):
        return folder
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    train = plant_errors(name_people(draw_census(rng, people, natural), seed), rng)
    test = draw_census(rng, eval_people, natural)
    with whole_folder(folder, parameters) as root:
        (root / "eval" / "images").mkdir(parents=True)
        write_train = partial(
            write_train_person, root=root, seed=seed, shortcut=shortcut, hard=hard
        )
        for_each(write_train, rows_of(train), workers, "training people")
        write_eval = partial(write_eval_person, root=root, seed=seed, hard=hard)
        for_each(write_eval, rows_of(test), workers, "eval people")
        write_tables(root, train, answer_table(test, seed).sample(frac=1, random_state=rng))
    return folder


def write_tables(root: Path, train: pd.DataFrame, answers: pd.DataFrame) -> None:
    """Write the competition's own tables, and in ``private`` what it would keep to itself."""
    genders, ages = np.take(GENDERS, train.recorded_gender), train.recorded_age
    recorded = train[["id"]].assign(gender=genders, race="Asian", age=ages, path=train.path)
    tables = {
        "train/train.csv": recorded.sort_values("path"),
        "eval/info.csv": answers[["ImageID"]].assign(ans=0),
        "private/planted.csv": planted_table(train),
        "private/answers.csv": answers[["ImageID", "ans"]],
        "private/eval_people.csv": answers[["ImageID", "person", "half"]],
    }
    for name, table in tables.items():
        artefacts.write_table(table, root / name)


def label(person: SimpleNamespace, mask: int) -> int:
    """Return the label of a photo of a row of the census."""
    return TASK.encode({"mask": mask, "gender": person.gender, "age": AGE.group(person.age)})


def answer_table(census: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the truth of the eval photos: ImageID, ans, person and half.

    The people of each cell alternate between the public and the private half.
    """
    halves = np.where((census.groupby("cell").cumcount() + census.cell) % 2, "private", "public")
    rows = [
        (image_id(seed, person.number, stem), label(person, mask), person.number, half)
        for person, half in zip(rows_of(census), halves, strict=True)
        for stem, mask in STEMS.items()
    ]
    return pd.DataFrame(rows, columns=["ImageID", "ans", "person", "half"])


def read_train(folder: Path) -> pd.DataFrame:
    """Return the training photos: file (from ``folder``), person, gender, age, as recorded."""
    table = pd.read_csv(folder / "train" / "train.csv", dtype={"id": str})
    images = folder / "train" / "images"
    files = {path: sorted((images / path).glob("[!.]*")) for path in table.path}
    table = table.assign(file=table.path.map(files)).explode("file", ignore_index=True)
    names = [file.relative_to(folder).as_posix() for file in table.file]
    return table.assign(person=table.path, file=names)
