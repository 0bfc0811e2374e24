"""The layout of the competition "mask image classification".

``train/train.csv`` has a row per person: id, gender, race, age and path, the folder of the person's
seven photos in ``train/images``. ``eval/info.csv`` lists the test photos in ``eval/images``. A
person is a folder, never an id: ids repeat. Ids are text, their leading zeros matter.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib.data.labels import recorded, refuse
from lib.errors import DataError
from lib.task.attributes import Task
from lib.textfiles import read_rows

# A person's seven photos: the class of the attribute that is recorded per photo.
STEMS = {f"mask{k}": 0 for k in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}
FOLDER = r"(?P<id>.+)_(?P<gender>[^_]+)_(?P<race>[^_]+)_(?P<age>\d+)"  # how a person's is named
FOLDERS = {"train": "train/images", "eval": "eval/images"}
NEEDS = "data_dir must hold train/train.csv, train/images/, eval/info.csv and eval/images/"


def folders(settings: Mapping) -> dict[str, str]:
    """Return the folder of each split's photos, from ``data_dir``."""
    return FOLDERS


def photos(data_dir: Path, task: Task, settings: Mapping, files: pd.DataFrame) -> pd.DataFrame:
    """Return a row per photo that should exist, train then eval; ``file`` is empty if it does not.

    Columns: key, split, person, id, file, race, and the recorded number of each attribute.
    """
    if task.per("photo") != ["mask"] or set(task.per("person")) != {"gender", "age"}:
        raise DataError(
            f"layout='competition' records mask per photo, gender and age per person; "
            f"task {task.name!r} does not: take layout='table'"
        )
    return pd.concat([_train(data_dir, task, files), _eval(data_dir, files)], ignore_index=True)


def read_people(path: Path, task: Task) -> pd.DataFrame:
    """Return train.csv with a row per person: person (the folder), id, gender, race, age."""
    columns = ["id", "gender", "race", "age", "path"]
    table = pd.DataFrame(read_rows(_existing(path), columns), dtype=str)[columns]
    table = table.apply(lambda column: column.str.strip()).rename(columns={"path": "person"})
    refuse(
        table.person[table.person.str.contains(r"[/\\]|^\.*$|\.(?:jpe?g|png)$", case=False)],
        f"{path}: path is no folder",
        "name a folder of train/images per person; for a row per photo take layout='table'",
    )
    fix = "each person has one folder and one row"
    refuse(table.person[table.person.duplicated()], f"{path}: path repeated", fix)
    refuse(table.id[table.id == ""], f"{path}: id is empty", "give every row an id")
    numbers = {name: recorded(task[name], table[name], path) for name in ("gender", "age")}
    return table.assign(**numbers)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} not found: {NEEDS}")
    return path


def _train(data_dir: Path, task: Task, files: pd.DataFrame) -> pd.DataFrame:
    """Return seven rows per person; of two files with one stem the first by name is taken."""
    stems = pd.DataFrame({"stem": list(STEMS), "mask": list(STEMS.values())})
    expected = read_people(data_dir / "train/train.csv", task).merge(stems, how="cross")
    there = files[(files.root == FOLDERS["train"]) & files.photo]
    there = there.drop_duplicates(["folder", "stem"]).rename(columns={"folder": "person"})
    found = expected.merge(there[["person", "stem", "file"]], on=["person", "stem"], how="left")
    found["key"] = found.person + "/" + found.pop("stem")
    return found.assign(split="train", file=found.file.fillna(""))


def _eval(data_dir: Path, files: pd.DataFrame) -> pd.DataFrame:
    """Return a row per ImageID of info.csv, in its order; no other column of it is read."""
    path = data_dir / "eval/info.csv"
    keys = pd.Series(read_rows(_existing(path), ["ImageID"])["ImageID"], dtype=str)
    refuse(keys[keys.duplicated()], f"{path}: ImageID repeated", "each photo has one row")
    named = FOLDERS["eval"] + "/" + keys
    file = named.where(named.isin(files.file), "")
    return pd.DataFrame({"key": keys, "split": "eval", "person": "", "id": "", "file": file})


def issues(people: pd.DataFrame, unused: pd.DataFrame, task: Task) -> list[tuple[str, str, str]]:
    """Return issues of people (a row each) and ``unused`` files, as (kind, subject, detail)."""
    found = [
        ("row without a folder", person, "in train.csv, no photo in train/images")
        for person in people.index[people.photos == 0]
    ]
    stray = unused[(unused.folder != "") & ~unused.folder.isin(people.index) & ~unused.hidden]
    found += [
        ("folder without a row", folder, f"{count} files, not in train.csv")
        for folder, count in stray.groupby("folder").size().items()
    ]
    second = unused[unused.photo & unused.folder.isin(people.index) & unused.stem.isin(STEMS)]
    found += [
        ("second file of one photo", file, "not used: the first by name is") for file in second.file
    ]
    return found + _contradictions(people, task)


def _contradictions(people: pd.DataFrame, task: Task) -> list[tuple[str, str, str]]:
    """List people whose folder name says another id, gender, race or age than train.csv."""
    words = {name: people[name].map(task[name].text) for name in task.per("person")}
    recorded = people.assign(**words).astype(str)
    named = recorded.index.to_series().str.extract(f"^{FOLDER}$")
    unnamed = "folder not named id_gender_race_age"
    found = [
        (unnamed, person, "nothing to compare with train.csv")
        for person in named.index[named.id.isna()]
    ]
    for field in named:
        both = pd.DataFrame({"said": named[field], "told": recorded[field]})[named.id.notna()]
        found += [
            (f"folder contradicts {field}", person, f"folder {said}, train.csv {told}")
            for person, said, told in both[both.said != both.told].itertuples()
        ]
    return found
