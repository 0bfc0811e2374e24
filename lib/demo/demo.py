"""The demo data: synthetic people in the competition's own layout, with a leaderboard of their own.

    python -m lib.demo make --data data/demo
    python -m lib.demo report --run runs/demo --submission submissions/demo.csv --data data/demo

No photo shows a real person. What a competitor would not be given lies in ``private/`` and is read by the closing score
alone: the answers, the people behind the eval photos, and the label errors that were planted.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib import artefacts
from lib.data.photos import STEMS
from lib.demo import portrait
from lib.errors import ArtefactError, DataError, ParameterError
from lib.task import labels

SUFFIXES = {".jpg": 0.76, ".jpeg": 0.16, ".png": 0.08}  # mixed inside a folder, as in the real data
WRONG_PLACES = {"nose": 0.5, "chin": 0.35, "eyes": 0.15}  # how a mask is worn incorrectly
JUNK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4056)  # an AppleDouble file, as macOS leaves them

EVEN_CELLS = ((0.2, 0.2, 0.1), (0.2, 0.2, 0.1))  # shares by gender (rows) and age group
NATURAL_CELLS = ((549, 410, 83), (732, 817, 109))  # people in the real training data
NATURAL_LATE_FIFTIES = {57: 106, 58: 159, 59: 85}  # of its 1,227 people from 30 to 59
PLANTS = ("gender", "gender", "mask", "mask", "age")  # fields with a false label, one a person


# --- who is in the data ---------------------------------------------------------------------------------------------


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
    """Return the share of each of ``labels.YEARS`` within an age group: a spike at 18, naturally also in the late fifties."""
    shares = np.where(labels.age_group(labels.YEARS) == group, 1.0, 0)
    shares[0] *= 3
    if natural and group == 1:
        shares *= (1227 - sum(NATURAL_LATE_FIFTIES.values())) / 27  # what is left, over the years 30 to 56
        shares[[year - labels.YEARS[0] for year in NATURAL_LATE_FIFTIES]] = list(NATURAL_LATE_FIFTIES.values())
    return shares / shares.sum()


def draw_census(rng: np.random.Generator, people: int, natural: bool) -> pd.DataFrame:
    """Draw who is in the data, in random order: columns gender and age; every gender × age group is inhabited."""
    if people < 6:
        raise ParameterError(f"people={people!r} is too few for 2 genders and 3 age groups; give at least 6")
    counts = apportion(np.ravel(NATURAL_CELLS if natural else EVEN_CELLS), people)
    rows = [
        (cell // 3, age)
        for cell, count in enumerate(counts)
        for age in rng.choice(labels.YEARS, count, p=year_shares(cell % 3, natural))
    ]
    census = pd.DataFrame(rows, columns=["gender", "age"]).sample(frac=1, random_state=rng).reset_index(drop=True)
    return census.assign(cell=lambda frame: 3 * frame.gender + labels.age_group(frame.age))


def name_people(census: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give ids as the real data have them: leading zeros, some numbers shared as -1/-2, one id for ages 19 and 20.

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
    """Choose people with a false label: column ``plant`` (a field or ""), and gender and age ``as recorded``.

    One person of each cell and everyone at 60 stays true, so that each class is inhabited.
    """
    free = census.index[census.cell.duplicated() & (census.age < 60) & ~census.id.duplicated(keep=False)]
    census = census.assign(plant="", recorded_gender=census.gender, recorded_age=census.age)
    for person, field in zip(rng.permutation(free), PLANTS, strict=False):
        census.loc[person, "plant"] = field
        if field == "gender":
            census.loc[person, "recorded_gender"] = 1 - census.gender[person]
        if field == "age":
            census.loc[person, "recorded_age"] = 52 if census.age[person] < labels.YOUNG_UNTIL else 22
    folder = lambda p: f"{p.id}_{labels.GENDERS[p.recorded_gender]}_Asian_{p.recorded_age}"  # noqa: E731
    return census.assign(path=[folder(p) for p in rows_of(census)])


def planted_table(census: pd.DataFrame) -> pd.DataFrame:
    """List the planted errors: id, person, field, recorded, true (two rows for a swapped pair of photos)."""
    rows = []
    for p in rows_of(census[census.plant != ""]):
        pairs = {
            "gender": [(labels.GENDERS[p.recorded_gender], labels.GENDERS[p.gender])],
            "age": [(p.recorded_age, p.age)],
            "mask": [("incorrect", "normal"), ("normal", "incorrect")],
        }[p.plant]
        rows += [(p.id, p.path, p.plant, recorded, true) for recorded, true in pairs]
    return pd.DataFrame(rows, columns=["id", "person", "field", "recorded", "true"])


# --- photos ---------------------------------------------------------------------------------------------------------


def paint_person(person, seed: tuple[int, ...], shortcut: bool) -> Iterator[tuple[str, np.ndarray, np.random.Generator]]:
    """Yield (stem, photo in RGB, generator) for the seven photos of a row of the census."""
    rng = np.random.default_rng(seed)
    sitter = portrait.draw_person(rng, person.gender, person.age, scenery=person.cell if shortcut else None)
    styles = cycle(rng.permutation(portrait.MASK_STYLES))
    for stem in STEMS:
        place = {"normal": "", "incorrect_mask": str(rng.choice(list(WRONG_PLACES), p=list(WRONG_PLACES.values())))}.get(
            stem, "wear"
        )
        yield stem, portrait.paint_photo(sitter, portrait.draw_shot(rng, place, str(next(styles)))), rng


def write_photo(path: Path, photo: np.ndarray) -> None:
    """Write RGB as JPEG or PNG; DataError when the disk does not take it."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 90]
    if not cv2.imwrite(str(path), photo[..., ::-1], options):
        raise DataError(f"cannot write {path}: check the disk's free space and the folder's permissions")


def write_train_person(person, root: Path, seed: int, shortcut: bool) -> None:
    """Write a training person's folder, junk in every ninth."""
    folder = root / "train" / "images" / person.path
    folder.mkdir(parents=True)
    swap = {"incorrect_mask": "normal", "normal": "incorrect_mask"} if person.plant == "mask" else {}
    for stem, photo, rng in paint_person(person, (seed, 0, person.number), shortcut):
        suffix = rng.choice(list(SUFFIXES), p=list(SUFFIXES.values()))
        write_photo(folder / f"{swap.get(stem, stem)}{suffix}", photo)
    if person.number % 9 == 0:
        (folder / "._normal.jpg").write_bytes(JUNK)
        (folder.parent / f"._{person.path}").write_bytes(JUNK)


def image_id(seed: int, person: int, stem: str) -> str:
    """Return the name of an eval photo: 40 hex digits that tell nothing."""
    return hashlib.sha1(f"{seed}/{person}/{stem}".encode()).hexdigest() + ".jpg"


def write_eval_person(person, root: Path, seed: int, shortcut: bool) -> None:
    """Write an eval person's photos."""
    for stem, photo, _ in paint_person(person, (seed, 1, person.number), shortcut):
        write_photo(root / "eval" / "images" / image_id(seed, person.number, stem), photo)


def rows_of(census: pd.DataFrame) -> list[SimpleNamespace]:
    """Return the census as plain objects with a ``number``, which can be sent to other processes."""
    return [SimpleNamespace(number=k, **row) for k, row in enumerate(census.to_dict("records"))]


def single_thread() -> None:
    """Keep OpenCV to one thread: the processes are the parallelism."""
    cv2.setNumThreads(1)


def spread(function, rows: list, workers: int, title: str) -> None:
    """Call ``function`` on every row, over processes, with a progress bar."""
    bar = partial(tqdm, total=len(rows), desc=title, unit="person")
    if workers == 1:
        list(bar(map(function, rows)))
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the notebook's threads
    with ProcessPoolExecutor(workers, context, single_thread) as pool:
        list(bar(pool.map(function, rows)))


# --- the data set ---------------------------------------------------------------------------------------------------


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; rename it when the block ends well, else remove it."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_finished(folder: Path, parameters: dict) -> bool:
    """Tell whether ``folder`` holds this data set; ArtefactError when it holds anything else."""
    if not folder.exists():
        return False
    record = folder / "private" / "params.json"
    found = json.loads(record.read_text()) if record.exists() else "no demo data"
    if found != parameters:
        raise ArtefactError(f"{folder} holds {found}, not {parameters}; remove it or choose another data_dir")
    return True


def make(
    data_dir: str | Path,
    people: int = 100,
    eval_people: int = 50,
    seed: int = 0,
    natural: bool = False,
    shortcut: bool = False,
    workers: int = 0,
) -> Path:
    """Paint the demo data into ``data_dir`` unless it is there, and return its path.

    ``natural`` takes the real data's shares of gender and age instead of even ones with a fifth at 60; ``shortcut`` lets
    clothes and background tell gender and age group, in the training photos only; ``workers`` 0 means one a core. The
    result depends on the seed, not on the workers. ArtefactError when ``data_dir`` holds other parameters' data.
    """
    folder = artefacts.resolve(data_dir)
    parameters = {"people": people, "eval_people": eval_people, "seed": seed, "natural": natural, "shortcut": shortcut}
    if is_finished(folder, parameters):
        return folder
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    train = plant_errors(name_people(draw_census(rng, people, natural), seed), rng)
    exam = draw_census(rng, eval_people, natural)
    workers = workers or os.cpu_count() or 1
    with whole_folder(folder) as root:
        (root / "eval" / "images").mkdir(parents=True)
        paint_train = partial(write_train_person, root=root, seed=seed, shortcut=shortcut)
        paint_eval = partial(write_eval_person, root=root, seed=seed, shortcut=False)
        spread(paint_train, rows_of(train), workers, "training people")
        spread(paint_eval, rows_of(exam), workers, "eval people")
        write_tables(root, train, exam, rng, seed)
        artefacts.write_json(parameters, root / "private" / "params.json")
    return folder


def write_tables(root: Path, train: pd.DataFrame, exam: pd.DataFrame, rng: np.random.Generator, seed: int) -> None:
    """Write the competition's two tables and what it would keep to itself."""
    genders = [labels.GENDERS[g] for g in train.recorded_gender]
    record = pd.DataFrame({"id": train.id, "gender": genders, "race": "Asian", "age": train.recorded_age, "path": train.path})
    artefacts.write_table(record.sort_values("path"), root / "train" / "train.csv")
    answers = answer_table(exam, seed).sample(frac=1, random_state=rng)
    artefacts.write_table(answers[["ImageID"]].assign(ans=0), root / "eval" / "info.csv")
    artefacts.write_table(answers[["ImageID", "ans"]], root / "private" / "answers.csv")
    artefacts.write_table(answers[["ImageID", "person", "half"]], root / "private" / "eval_people.csv")
    artefacts.write_table(planted_table(train), root / "private" / "planted.csv")


def answer_table(exam: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the truth of the eval photos: ImageID, ans, person and half (people of each cell alternate between halves)."""
    halves = np.where((exam.groupby("cell").cumcount() + exam.cell) % 2, "private", "public")
    rows = [
        (image_id(seed, p.number, stem), labels.encode(STEMS[stem], p.gender, labels.age_group(p.age)), p.number, half)
        for p, half in zip(rows_of(exam), halves, strict=True)
        for stem in STEMS
    ]
    return pd.DataFrame(rows, columns=["ImageID", "ans", "person", "half"])


# --- the closing score ----------------------------------------------------------------------------------------------


def read_private(data_dir: str | Path, name: str) -> pd.DataFrame:
    """Read a table of ``private/``; ArtefactError when these are not demo data."""
    path = artefacts.resolve(data_dir) / "private" / name
    if not path.exists():
        raise ArtefactError(f"{path} is missing: only demo data have a leaderboard here (python -m lib.demo make)")
    return pd.read_csv(path)


def leaderboard(submission_csv: str | Path, data_dir: str | Path) -> pd.DataFrame:
    """Score a submission by the hidden answers: macro_f1 and accuracy for all photos, the public and the private half."""
    from lib.score.metrics import macro_f1  # not at the top: each painting process would load scikit-learn

    truth = read_private(data_dir, "answers.csv").merge(read_private(data_dir, "eval_people.csv"), on="ImageID", validate="1:1")
    given = pd.read_csv(artefacts.resolve(submission_csv))
    scored = truth.merge(given, on="ImageID", suffixes=("", "_given"), validate="1:1")
    if not len(scored) == len(truth) == len(given):
        raise DataError(
            f"{submission_csv} has {len(given)} rows, {len(scored)} of them among the {len(truth)} photos of {data_dir}"
        )
    parts = {"all": scored, **dict(list(scored.groupby("half"))[::-1])}
    scores = {
        part: {"macro_f1": macro_f1(rows.ans, rows.ans_given), "accuracy": (rows.ans == rows.ans_given).mean()}
        for part, rows in parts.items()
    }
    return pd.DataFrame.from_dict(scores, orient="index")


def closing_table(run_dir: str | Path, submission_csv: str | Path, data_dir: str | Path) -> pd.DataFrame:
    """Set side by side what a run promised and what the hidden answers say: one column ``macro F1``."""
    run = json.loads((artefacts.resolve(run_dir) / "metrics.json").read_text())
    submission = json.loads(artefacts.resolve(submission_csv).with_suffix(".json").read_text())
    board = leaderboard(submission_csv, data_dir).macro_f1
    rows = {f"fold {fold['fold']}": fold["macro_f1"] for fold in run["folds"]}
    rows["out-of-fold, without TTA"] = submission["oof_macro_f1_without_tta"]
    rows["out-of-fold, with TTA"] = submission["oof_macro_f1"]
    rows |= {f"demo leaderboard, {part}": score for part, score in board.items()}
    return pd.Series(rows, name="macro F1").to_frame()


def main(arguments: list[str] | None = None) -> None:
    """Make the demo data, or print the closing table."""
    parser = argparse.ArgumentParser(prog="python -m lib.demo", description="Synthetic people and their leaderboard.")
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="paint the data")
    maker.add_argument("--data", default="data/demo")
    reporter = commands.add_parser("report", help="print the closing table")
    for name in ("--run", "--submission", "--data"):
        reporter.add_argument(name, required=True)
    chosen = parser.parse_args(arguments)
    if chosen.command == "make":
        print(make(chosen.data))
    else:
        print("macro F1 on synthetic people: it says that the workflow runs, nothing about real faces")
        print(closing_table(chosen.run, chosen.submission, chosen.data).round(4).to_string())
