"""From a folder of labelled photos to a data set that is ready to run: tables, task, parameters.

``python -m lib.bring FOLDER --out data/name`` writes ``train.csv`` and ``test.csv`` to a folder of
their own, ``params/tasks/name.yaml`` and ``params/name.yaml``. Photos stay where they are. Nothing
is guessed: every column is an attribute, unless columns are named.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from lib import artefacts
from lib.data import trees
from lib.data.labels import refuse
from lib.errors import ArtefactError, DataError, FacefoldError, ParameterError, some
from lib.task import attributes
from lib.task.attributes import RESERVED, Task

PATH, GROUP = "path", "group"  # columns of the tables that are written
FOLDS = 5  # or fewer, where a class has fewer groups
RECIPE = {  # a first run on photos of anything; docs/recipes.md has others
    "detector": "none",
    "crop": "whole",
    "compare": 0,
    "image_size": [128, 128],
    "augment": ["light"],
    "epochs": 7,
    "precision": "auto",
    "learning_rate": 0.0004,
    "label_smoothing": 0.08,
    "dropout": 0.3,
}


class Brought(NamedTuple):
    """What was written: the parameter file, the photos of each kind, and attributes by column."""

    params: Path
    train: int
    test: int
    left_out: int
    columns: dict[str, str]

    def told(self) -> str:
        """Return in sentences what is there now, and what to do next."""
        named = ", ".join(
            name if name == column else f"{name} (column {column!r})"
            for column, name in self.columns.items()
        )
        left = f" {self.left_out} photos have no row and are left out." if self.left_out else ""
        return (
            f"{self.train} training photos, {self.test} test photos, attributes: {named}.{left}\n"
            f"Next: python -m lib.run {os.path.relpath(self.params)}"
        )


def bring(folder: Path, out: str, group: str = "", columns: Sequence[str] = ()) -> Brought:
    """Write the tables, the task and the parameters of a folder of labelled photos.

    ``out`` is the folder of the tables, its name that of the task. ``group`` is the column of what
    must not be split, ``columns`` are those of attributes (none: all others). Errors tell what
    cannot be learned, and which file exists with other contents: nothing is overwritten.
    """
    folder, data_dir = folder.resolve(), artefacts.resolve(out)
    photos = trees.read(folder)
    given = _chosen(list(photos.columns[2:]), group, columns)
    table = _table(photos, given, group)
    name, described = _file_name(data_dir.name), _described(table)
    task = attributes.parse(described, name, f"{folder}")
    params = _first_run(out, folder, name) | {"fold_count": _folds(table, task)}
    params |= {"group_column": GROUP} if group else {}
    tests = photos.loc[photos.split == "eval", [PATH]]
    first = attributes.TASKS.parent / f"{name}.yaml"
    texts = {
        data_dir / "train.csv": table.to_csv(index=False),
        attributes.TASKS / f"{name}.yaml": _yaml(described, f"What is recorded of {folder}"),
        first: _yaml(params, f"A first run on the photos of {folder}"),
    }
    _write(texts | ({data_dir / "test.csv": tests.to_csv(index=False)} if len(tests) else {}))
    left_out = len(photos) - len(table) - len(tests)
    return Brought(first, len(table), len(tests), left_out, given)


def _file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ParameterError(f"--out: {name!r} names files: write letters, digits and . _ + -")
    return name


def _chosen(there: Sequence[str], group: str, columns: Sequence[str]) -> dict[str, str]:
    """Return the attribute's name of each column that is learned."""
    wanted = columns or [name for name in there if name != group]
    for name in filter(None, [group, *wanted]):
        if name not in there:
            raise ParameterError(f"no column {name!r}: there are {', '.join(there) or 'none'}")
    named = {column: _name(column) for column in wanted if column != group}
    if not named:
        raise DataError("there is no column to learn from: give the photos one")
    if len(set(named.values())) < len(named):
        raise ParameterError(f"two columns would have one name ({named}): rename one of them")
    return named


def _name(column: str) -> str:
    """Return the name of the attribute of a column, whatever that is called."""
    name = re.sub(r"\W+", "_", column).strip("_")
    usable = name.isidentifier() and name not in {*RESERVED, PATH, GROUP}
    return name if usable else f"photo_{name}"


def _table(photos: pd.DataFrame, given: Mapping[str, str], group: str) -> pd.DataFrame:
    """Return the training table: path, attributes, and the group if there is one."""
    learned = photos[photos.split == "train"]
    named = learned.rename(columns={**given, group: GROUP})
    table = named[[PATH, *given.values(), *([GROUP] if group else [])]].dropna(how="any")
    for name in table:
        fix = "give every photo one, or remove its row"
        refuse(table.path[table[name] == ""], f"{name} is empty", fix)
    return table


def _described(table: pd.DataFrame) -> dict:
    """Return the task of a table as its file has it."""
    names = [name for name in table if name not in (PATH, GROUP)]
    answer = {"format": "name", "columns": [PATH, names[0]]}
    if len(names) > 1:
        answer = {"format": "attributes", "columns": [PATH, "class"]}
    found = {name: _attribute(table, name) for name in names}
    return {"attributes": found, "metric": "macro_f1", "answer": answer}


def _attribute(table: pd.DataFrame, name: str) -> dict:
    """Return an attribute's classes, and whether all photos of a group share it."""
    classes = table[name].unique().tolist()
    if len(classes) < 2:
        raise DataError(f"{name}: every photo is {classes}, so there is nothing to tell apart")
    if len(classes) > len(table) / 2:
        raise DataError(
            f"{name}: {some(classes, 'classes')} of {len(table)} photos are too many for a label; "
            "name the columns of labels with --columns"
        )
    shared = GROUP in table and (table.groupby(GROUP)[name].nunique() == 1).all()
    return {"classes": sorted(classes, key=_order), "per": "person" if shared else "photo"}


def _order(text: str) -> tuple:
    """Return a key that sorts whole numbers by their value, and before other texts."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _first_run(out: str, folder: Path, name: str) -> dict:
    return {
        "stages": ["eda", "crop", "train", "ensemble"],
        "task": name,
        "layout": "table",
        "data_dir": out,
        "work_dir": f"work/{name}",
        "image_dir": str(folder),
        "relabel": [],
        "disputed": "",
        "experiment": name,
        "submission": name,
        "runs": [name],
        **RECIPE,
    }


def _folds(table: pd.DataFrame, task: Task) -> int:
    """Return into how many folds the rarest kind of group, or of photo, can be divided."""
    unit, names = GROUP if GROUP in table else PATH, task.per("person") or task.names
    counts = table.groupby(table[names].agg(" ".join, axis=1))[unit].nunique()
    if counts.min() < 2:
        raise DataError(
            f"of {some(counts.index[counts < 2], 'kinds')} there is a single {unit}, and folds "
            "need two: add photos, remove these, or name fewer columns with --columns"
        )
    return min(FOLDS, int(counts.min()))


def _yaml(values: Mapping, title: str) -> str:
    style = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None, "width": 100}
    text = yaml.safe_dump(dict(values), **style)
    return f"# {title} (docs/bring.md)\n{text}"


def _write(texts: Mapping[Path, str]) -> None:
    """Write files, all or none: ArtefactError for one that exists with other contents."""
    for path, text in texts.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise ArtefactError(
                f"{path} exists with other contents: choose another --out, or delete it"
            )
    for path, text in texts.items():
        with artefacts.atomic(path) as temporary:
            temporary.write_bytes(text.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 for a folder that cannot be brought."""
    purpose = "Make a folder of labelled photos ready to run; docs/bring.md says what is accepted."
    parser = argparse.ArgumentParser("python -m lib.bring", description=purpose)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="an ImageFolder tree, or photos with metadata")
    add("--out", required=True, help="folder of the tables, such as data/pets; names the task")
    add("--group", default="", metavar="COLUMN", help="what must not be split, such as a person")
    add("--columns", nargs="+", default=[], metavar="COLUMN", help="attributes (all others)")
    given = parser.parse_args(arguments)
    try:
        print(bring(given.folder, given.out, given.group, given.columns).told())
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
