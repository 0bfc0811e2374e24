"""The stages, and what a chain of them will do.

Parameter files merge from left to right, and each notebook is handed the keys that its own
``parameters`` cell declares. What does not fit is refused here, for every stage of the chain and
before any kernel starts; nothing heavy is imported.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lib import PROJECT
from lib.errors import ParameterError, nearest, pick
from lib.runner import parameters
from lib.runner.parameters import Parameter, check_names, check_together, checked, declared
from lib.textfiles import kind, read_yaml


class Stage(NamedTuple):
    """A notebook, the path of its executed copy without suffix, and the file that says it is done.

    Both paths are written with the notebook's parameters; ``makes`` is what later stages ask for.
    """

    notebook: str
    copy: str
    makes: str = ""


RUN = "{runs_dir}/{experiment}"
SUBMISSION = "{submissions_dir}/{submission}"
STAGES = {
    "demo": Stage("00_demo_data", "{work_dir}/00_demo_data"),
    "digits": Stage("00_digits", "{work_dir}/00_digits"),
    "eda": Stage("01_eda", "{work_dir}/01_eda"),
    "crop": Stage("02_face_crop", "{work_dir}/02_face_crop"),
    "train": Stage("03_train", f"{RUN}/03_train", f"{RUN}/metrics.json"),
    "ensemble": Stage("04_ensemble_tta", SUBMISSION, f"{SUBMISSION}.parquet"),
    "bench": Stage("08_benchmark", "{bench_dir}/08_benchmark"),
    "study": Stage("09_study", "{study_dir}/09_study"),
}
DEFAULT_STAGES = ["eda", "crop", "train", "ensemble"]
NEEDS = {  # parameters that name what another stage has made: that stage, and its parameter
    "runs": ("train", "experiment"),
    "init_from": ("train", "experiment"),
    "pseudo_labels": ("ensemble", "submission"),
}


class Entry(NamedTuple):
    """One item of a ``stages`` list: a stage, what it overrides, and the file that says so."""

    stage: str
    overrides: dict
    source: str = ""


class Layer(NamedTuple):
    """One parameter file: its name, its top-level keys, and the list ``stages`` (may be empty)."""

    source: str
    values: dict
    entries: list[Entry]


class Step(NamedTuple):
    """One notebook to run: the parameters that it is handed, and all of them with its defaults."""

    stage: str
    values: dict
    settings: dict

    @property
    def notebook(self) -> Path:
        """The notebook's path."""
        return notebook_of(self.stage)

    @property
    def copy(self) -> str:
        """The path of its executed copy, without suffix."""
        return STAGES[self.stage].copy.format(**self.settings)


def notebook_of(stage: str) -> Path:
    """Return the path of a stage's notebook."""
    return parameters.NOTEBOOKS / f"{STAGES[stage].notebook}.ipynb"


def read_layer(path: Path) -> Layer:
    """Read one parameter file; its key ``stages`` lists names or ``{name: overrides}``."""
    values = read_yaml(path)
    stages = values.pop("stages", [])
    if not isinstance(stages, list):
        raise ParameterError(
            f"{path}: stages: {stages!r} is {kind(stages)}: write [{', '.join(DEFAULT_STAGES)}]"
        )
    return Layer(str(path), values, [_entry(item, path) for item in stages])


def _entry(item: Any, path: Path) -> Entry:
    named = isinstance(item, dict) and len(item) == 1
    stage, overrides = next(iter(item.items())) if named else (item, {})
    if not isinstance(stage, str) or not isinstance(overrides, dict):
        raise ParameterError(
            f"{path}: stages: {item!r}: write a stage's name or 'name: {{parameter: value}}'"
        )
    pick(STAGES, stage, f"{path}: stage")
    return Entry(stage, overrides, str(path))


def choose(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """Return the entries of the stages in ``only``; one without an entry runs where it is named."""
    for name in only:
        pick(STAGES, name, "--stages")
    listed = {entry.stage for entry in entries}
    start = next((i for i, name in enumerate(only) if name in listed), len(only))
    plain = [Entry(name, {}) for name in only if name not in listed]
    return [*plain[:start], *(entry for entry in entries if entry.stage in only), *plain[start:]]


def plan(
    layers: Sequence[Layer], only: Sequence[str] = (), overrides: Mapping | None = None
) -> list[Step]:
    """Check every key and value and return the steps to run; the first fault is a ParameterError.

    Parameter files win over a notebook's defaults, the entry of a stage over the files, and
    ``overrides`` (``-p``) over all.
    """
    overrides = overrides or {}
    own = [layer.entries for layer in layers if layer.entries]
    own = own or [[Entry(name, {}) for name in DEFAULT_STAGES]]
    chosen = choose(own[-1], only) if only else own[-1]
    tables = {entry.stage: declared(notebook_of(entry.stage)) for entry in chain(chosen, *own)}
    for layer in layers:
        _check_keys(layer.values, tables, layer.source)
        for entry in layer.entries:
            table = {entry.stage: tables[entry.stage]}
            _check_keys(entry.overrides, table, f"{layer.source}: stage {entry.stage}")
    _check_keys(overrides, {entry.stage: tables[entry.stage] for entry in chosen}, "-p")
    steps = [_step(entry, layers, overrides, tables[entry.stage]) for entry in chosen]
    _check_needs(steps)
    return steps


def _check_keys(values: Mapping, tables: Mapping[str, Mapping], source: str) -> None:
    known = {name for table in tables.values() for name in table}
    others = [name for name in STAGES if name not in tables and notebook_of(name).is_file()]
    for key in set(values) - known:
        owners = [name for name in others if key in declared(notebook_of(name))]
        if owners:
            raise ParameterError(
                f"{source}: {key!r} is no parameter of {', '.join(tables)}, but of "
                f"{' and '.join(owners)}: add that stage, or move or remove the key"
            )
    check_names(values, known, source, f" of {', '.join(tables)}")


def _step(
    entry: Entry, layers: Sequence[Layer], overrides: Mapping, table: Mapping[str, Parameter]
) -> Step:
    sources: dict[str, Mapping] = {layer.source: layer.values for layer in layers}
    sources |= {f"{entry.source}: stage {entry.stage}": entry.overrides, "-p": overrides}
    values = {}
    for source, given in sources.items():
        for key in (key for key in given if key in table):
            values[key] = checked(given[key], table[key], f"{source}: {key}")
    settings = {name: parameter.default for name, parameter in table.items()} | values
    check_together(settings, entry.stage)
    return Step(entry.stage, values, settings)


def _check_needs(steps: Sequence[Step]) -> None:
    for number, step in enumerate(steps):
        before = steps[:number]
        made = {STAGES[other.stage].makes.format(**other.settings) for other in before}
        for parameter, name, path in _needs(step):
            if path not in made and not (PROJECT / Path(path).expanduser()).exists():
                raise ParameterError(
                    f"{step.stage}: {parameter}: {name!r} is made by no earlier stage, and "
                    f"{path} is missing{nearest(path, made)}"
                )


def _needs(step: Step) -> Iterator[tuple[str, str, str]]:
    """Yield parameter, name and path of everything that a step asks other stages for."""
    for parameter, (maker, key) in NEEDS.items():
        given = step.settings.get(parameter) or []
        for name in [given] if isinstance(given, str) else given:
            yield parameter, name, STAGES[maker].makes.format(**step.settings | {key: name})
