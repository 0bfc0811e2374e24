"""The stages, and what a chain of them will do: parameter files merged, checked and handed out to the notebooks.

Parameter files merge from left to right, and each notebook is handed the keys that its own ``parameters`` cell
declares. A key or a value that does not fit is refused here, before any kernel starts; nothing heavy is imported.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lib import PROJECT
from lib.errors import ParameterError, nearest, pick
from lib.runner.parameters import Parameter, convert, declared, read_yaml

NOTEBOOKS = PROJECT / "notebooks"


class Stage(NamedTuple):
    """A notebook, and where its executed copy goes: a path without suffix, over the notebook's parameters."""

    notebook: str
    copy: str


STAGES = {
    "demo": Stage("00_demo_data", "{work_dir}/00_demo_data"),
    "eda": Stage("01_eda", "{work_dir}/01_eda"),
    "crop": Stage("02_face_crop", "{work_dir}/02_face_crop"),
    "train": Stage("03_train", "{runs_dir}/{experiment}/03_train"),
    "ensemble": Stage("04_ensemble_tta", "{submissions_dir}/{submission}"),
    "bench": Stage("08_benchmark", "{bench_dir}/08_benchmark"),
    "study": Stage("09_study", "{study_dir}/09_study"),
}
DEFAULT_STAGES = ["eda", "crop", "train", "ensemble"]


class Entry(NamedTuple):
    """One item of a ``stages`` list: a stage, what it overrides, and the file that says so."""

    stage: str
    overrides: dict
    source: str = ""


class Layer(NamedTuple):
    """One parameter file: its name, its top-level keys, and its ``stages`` (empty if it lists none)."""

    source: str
    values: dict
    entries: list[Entry]


class Step(NamedTuple):
    """One notebook to run: the parameters that it is handed, and its executed copy's path without suffix."""

    stage: str
    notebook: Path
    values: dict
    copy: str


def read_layer(path: Path) -> Layer:
    """Read one parameter file; its key ``stages`` lists names or one-key mappings ``{name: overrides}``."""
    values = read_yaml(path)
    stages = values.pop("stages", [])
    if not isinstance(stages, list):
        raise ParameterError(f"{path}: stages: {stages!r} is not a list: write [{', '.join(DEFAULT_STAGES)}]")
    return Layer(str(path), values, [_entry(item, path) for item in stages])


def _entry(item: object, path: Path) -> Entry:
    named = isinstance(item, dict) and len(item) == 1
    stage, overrides = next(iter(item.items())) if named else (item, {})
    if not isinstance(stage, str) or not isinstance(overrides, dict):
        raise ParameterError(f"{path}: stages: {item!r}: write a stage's name or 'name: {{parameter: value}}'")
    pick(STAGES, stage, f"{path}: stage")
    return Entry(stage, overrides, str(path))


def choose(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """Return the entries of the stages named in ``only``; a stage without an entry runs plain, where it is named."""
    for name in only:
        pick(STAGES, name, "--stages")
    listed = {entry.stage for entry in entries}
    start = next((i for i, name in enumerate(only) if name in listed), len(only))
    plain = [Entry(name, {}) for name in only if name not in listed]
    return [*plain[:start], *(entry for entry in entries if entry.stage in only), *plain[start:]]


def plan(layers: Sequence[Layer], only: Sequence[str] = (), overrides: Mapping | None = None) -> list[Step]:
    """Check every key and value and return the steps to run; the first fault is a ParameterError.

    A notebook's default gives way to the parameter files, these to the stage's entry, all to ``overrides`` (``-p``).
    """
    overrides = overrides or {}
    own = [layer.entries for layer in layers if layer.entries] or [[Entry(name, {}) for name in DEFAULT_STAGES]]
    chosen = choose(own[-1], only) if only else own[-1]
    tables = {entry.stage: declared(notebook_of(entry.stage)) for entry in chain(chosen, *own)}
    for layer in layers:
        _check_keys(layer.values, tables, layer.source)
        for entry in layer.entries:
            _check_keys(entry.overrides, {entry.stage: tables[entry.stage]}, f"{layer.source}: stage {entry.stage}")
    _check_keys(overrides, {entry.stage: tables[entry.stage] for entry in chosen}, "-p")
    return [_step(entry, layers, overrides, tables[entry.stage]) for entry in chosen]


def _check_keys(values: Mapping, tables: Mapping[str, Mapping], source: str) -> None:
    known = {name for table in tables.values() for name in table}
    for key in values:
        if key not in known:
            raise ParameterError(f"{source}: {key!r} is no parameter of {', '.join(tables)}{_mend(key, known, tables)}")


def _mend(key: str, known: set[str], tables: Mapping[str, Mapping]) -> str:
    others = [name for name in STAGES if name not in tables and notebook_of(name).is_file()]
    owners = [name for name in others if key in declared(notebook_of(name))]
    if owners:
        return f", but of {' and '.join(owners)}: add that stage, or move or remove the key"
    return f"{nearest(key, known)}: correct or remove it (python -m lib.run --list shows all)"


def _step(entry: Entry, layers: Sequence[Layer], overrides: Mapping, table: Mapping[str, Parameter]) -> Step:
    sources = {layer.source: layer.values for layer in layers}
    sources |= {f"{entry.source}: stage {entry.stage}": entry.overrides, "-p": overrides}
    values = {}
    for source, given in sources.items():
        values |= {key: _typed(key, given[key], table[key].default, source) for key in given if key in table}
    effective = {name: parameter.default for name, parameter in table.items()} | values
    return Step(entry.stage, notebook_of(entry.stage), values, STAGES[entry.stage].copy.format(**effective))


def _typed(key: str, value: object, default: object, source: str) -> object:
    try:
        return convert(value, default)
    except TypeError as error:
        raise ParameterError(f"{source}: {key}: {error}") from None


def notebook_of(stage: str) -> Path:
    """Return the path of a stage's notebook."""
    return NOTEBOOKS / f"{STAGES[stage].notebook}.ipynb"
