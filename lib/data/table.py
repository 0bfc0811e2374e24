"""The layout ``table``: a CSV of training photos, one of test photos, and a folder of images.

The training table has a column of paths (from the image folder), a column for each attribute of the
task, and perhaps a column of groups, such as people, whose photos must stay together. The test
table has a column of paths, or a column ``id``: then the photo is the file of that name. Further
columns are carried along as text, unless ``images.parquet`` has a column of that name.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.data.audit import PHOTO_COLUMNS
from lib.data.labels import recorded, refuse
from lib.errors import DataError
from lib.task.attributes import RESERVED, Task
from lib.textfiles import read_rows

ID = "id"  # the column of a test table without paths
NEEDS = "data_dir must hold the image_dir and the train_table that the parameters name"


def folders(settings: Mapping) -> dict[str, str]:
    """Return the folder of each split's photos, from ``data_dir``: here it is the same."""
    return dict.fromkeys(["train", "eval"], settings["image_dir"] or ".")


def photos(data_dir: Path, task: Task, settings: Mapping, files: pd.DataFrame) -> pd.DataFrame:
    """Return a row per photo that the tables name, train then eval; ``file`` is empty if missing.

    Columns: key, split, person (the group, or the key), id, file, attributes, and further texts.
    """
    train = _train(data_dir / settings["train_table"], task, settings)
    test = _test(data_dir / settings["test_table"], settings, files)
    both = train.key[train.path.isin(test.path)]
    refuse(both, "in the training and in the test table", "leave it in one of them")
    table = pd.concat([train, test], ignore_index=True)
    named = table.pop("path").radd(folders(settings)["train"] + "/")
    return table.assign(file=named.where(named.isin(files.file), ""))


def _train(path: Path, task: Task, settings: Mapping) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} not found: train_table={settings['train_table']!r} names it")
    group, column = settings["group_column"], settings["path_column"]
    used = [column, *filter(None, [group]), *task.names]
    table = pd.DataFrame(read_rows(path, used), dtype=str)
    keys = table[column].str.strip()
    person = table[group].str.strip() if group else keys
    refuse(person[person == ""], f"{path}: {group or column} is empty", "give every photo one")
    numbers = {name: recorded(task[name], table[name], path) for name in task.names}
    taken = {*used, *RESERVED, *PHOTO_COLUMNS}
    rest = table[[name for name in table if name not in taken]]
    facts = {"key": keys, "path": _checked(keys, path), "split": "train"}
    return rest.assign(**facts, person=person, id=person, **numbers)


def _test(path: Path, settings: Mapping, files: pd.DataFrame) -> pd.DataFrame:
    """Return the test photos: none where the set has no such table."""
    column = settings["path_column"]
    if not path.is_file():
        return pd.DataFrame(columns=["key", "path", "split", "person", "id"], dtype=str)
    table = read_rows(path)
    if column not in table and ID not in table:
        raise DataError(f"{path} has neither {column!r} nor {ID!r}; it has {', '.join(table)}")
    keys = pd.Series(table.get(column, table.get(ID)), dtype=str).str.strip()
    paths = _checked(keys, path)
    if column not in table:
        paths = keys.map(by_stem(files)).fillna(keys)
    facts = {"split": "eval", "person": "", "id": ""}
    return pd.DataFrame({"key": keys, "path": paths}).assign(**facts)


def by_stem(files: pd.DataFrame) -> pd.Series:
    """Return the path of each photo by its name without suffix; the first where there are two."""
    photos = files[files.photo]
    stems = photos.name_.map(lambda name: PurePosixPath(name).stem)
    paths = pd.Series((photos.folder + "/" + photos.name_).str.lstrip("/").values, stems)
    return paths[~paths.index.duplicated()]


def _checked(keys: pd.Series, source: Path) -> pd.Series:
    """Return paths with "/" between folders; DataError where one leaves the folder or repeats."""
    paths = keys.str.replace("\\", "/").map(PurePosixPath)
    outside = keys[[path.is_absolute() or ".." in path.parts for path in paths]]
    refuse(outside, f"{source}: paths leave the image folder", "give paths below it")
    refuse(keys[keys == ""], f"{source}: paths are empty", "give every row a path")
    refuse(keys[paths.duplicated()], f"{source}: repeated", "each photo has one row")
    return paths.map(str)


def issues(people: pd.DataFrame, unused: pd.DataFrame, task: Task) -> list[tuple[str, str, str]]:
    """Return what this layout finds odd, as (kind, subject, detail); nothing is changed."""
    if (people.index != people.id).any() or (people.photos > 1).any():
        return []
    detail = "every photo is a group: leaks between near-identical photos cannot be excluded"
    return [("no groups", "all photos", detail)]
