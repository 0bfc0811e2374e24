"""The stages, and what a chain of them will do.

Parameter files merge from left to right, and each notebook is handed the keys that its own
``parameters`` cell declares. What does not fit is refused here, for every stage of the chain and
before any kernel starts; nothing heavy is imported.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lib import PROJECT
from lib.errors import Faults, ParameterError, nearest, pick
from lib.learn.checks import NOT_PART_OF_A_RUN
from lib.runner import parameters
from lib.runner.parameters import Parameter, check_names, check_together, checked, declared
from lib.textfiles import kind, read_yaml


class Stage(NamedTuple):
    """A notebook, the path of its executed copy without suffix, and the files that it makes.

    Paths are written with the notebook's parameters; later stages ask for the first of ``makes``.
    ``together`` is the copy's path where ``runs`` names not exactly one run; "": the same path.
    ``fills`` is the parameter that names the folder into which it writes. Parameters in ``reads``
    name folders that it needs to be filled. Those in ``follows`` name folders that it only looks
    through: it comes after what fills them, failed or not (``EVERYTHING``: after all others).
    ``anywhere``: another machine may run it.
    """

    notebook: str
    copy: str
    makes: tuple[str, ...] = ()
    together: str = ""
    fills: str = ""
    reads: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    anywhere: bool = False


EVERYTHING = ("*",)
RUN = "{runs_dir}/{experiment}"
SUBMISSION = "{submissions_dir}/{submission}"
MADE = (f"{SUBMISSION}.parquet", f"{SUBMISSION}.csv")
ALONE = "{runs_dir}/{runs[0]}/05_error_analysis"
SETS = ("data_dir", "work_dir")
RESULTS = ("runs_dir", "submissions_dir")
STAGES = {
    "demo": Stage("00_demo_data", "{work_dir}/00_demo_data", fills="data_dir"),
    "digits": Stage("00_digits", "{work_dir}/00_digits", fills="data_dir"),
    "eda": Stage("01_eda", "{work_dir}/01_eda", fills="work_dir", reads=SETS),
    "crop": Stage("02_face_crop", "{work_dir}/02_face_crop", fills="work_dir", reads=SETS),
    "train": Stage(
        "03_train",
        f"{RUN}/03_train",
        (f"{RUN}/metrics.json",),
        fills="runs_dir",
        reads=(*SETS, "extra_data", "pseudo_data"),
        anywhere=True,
    ),
    "ensemble": Stage(
        "04_ensemble_tta", SUBMISSION, MADE, fills="submissions_dir", reads=("other_photos",)
    ),
    "errors": Stage("05_error_analysis", ALONE, together=f"{SUBMISSION}_errors"),
    "compare": Stage("06_compare", "{runs_dir}/06_compare", follows=RESULTS),
    "sweep": Stage(
        "07_sweep",
        "{runs_dir}/{study}/07_sweep",
        fills="runs_dir",
        follows=EVERYTHING,
        anywhere=True,
    ),
    "bench": Stage("08_benchmark", "{bench_dir}/08_benchmark", follows=EVERYTHING),
    "study": Stage("09_study", "{study_dir}/09_study", follows=("runs_dir",)),
}
DEFAULT_STAGES = ["eda", "crop", "train", "ensemble"]
NEEDS = {  # parameters that name what another stage has made: that stage, and its parameter
    "runs": ("train", "experiment"),
    "finals": ("train", "experiment"),
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
        stage = STAGES[self.stage]
        alone = not stage.together or len(self.settings["runs"]) == 1
        return (stage.copy if alone else stage.together).format(**self.settings)

    @property
    def makes(self) -> list[str]:
        """The paths of what it makes for later stages."""
        return [path.format(**self.settings) for path in STAGES[self.stage].makes]


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
    """Check every key and value and return the steps to run; a ParameterError tells all faults.

    Parameter files win over a notebook's defaults, the entry of a stage over the files, and
    ``overrides`` (``-p``) over all.
    """
    return plan_batch([layers], only, overrides)[0]


def plan_batch(
    batch: Iterable[Sequence[Layer]],
    only: Sequence[str] = (),
    overrides: Mapping | None = None,
    faults: Faults | None = None,
) -> list[list[Step]]:
    """Return the steps of several experiments, each with layers of its own, checked as in ``plan``.

    An experiment may need what an earlier one makes; an override need fit only one of them. What
    the caller found wrong, ``faults``, is told too.
    """
    overrides, faults = overrides or {}, faults or Faults()
    experiments = [(layers, _chosen(layers, only)) for layers in batch]
    for layers, entries in experiments:
        _check_layers(layers, entries, faults)
    tables = {
        e.stage: declared(notebook_of(e.stage)) for _, entries in experiments for e in entries
    }
    _check_keys(overrides, tables, "-p", faults)
    plans = [
        [_step(entry, layers, overrides, tables[entry.stage], faults) for entry in entries]
        for layers, entries in experiments
    ]
    for step in chain(*plans):
        with faults.collected():
            _check_ledger(step)
            _check_outside(step)
    faults.tell()  # what is refused would only be missed once more where it is needed
    steps = list(chain(*plans))
    for number, step in enumerate(steps):
        with faults.collected():
            _check_needs(step, steps[:number])
            _check_name(step, steps[:number])
    faults.tell()
    return plans


def _lists(layers: Sequence[Layer]) -> list[list[Entry]]:
    """Return the lists of stages that the layers give, at least one; the last one counts."""
    given = [layer.entries for layer in layers if layer.entries]
    return given or [[Entry(name, {}) for name in DEFAULT_STAGES]]


def _chosen(layers: Sequence[Layer], only: Sequence[str]) -> list[Entry]:
    entries = _lists(layers)[-1]
    return choose(entries, only) if only else entries


def _check_layers(layers: Sequence[Layer], chosen: Sequence[Entry], faults: Faults) -> None:
    stages = dict.fromkeys(entry.stage for entry in chain(chosen, *_lists(layers)))
    tables = {stage: declared(notebook_of(stage)) for stage in stages}
    for layer in layers:
        _check_keys(layer.values, tables, layer.source, faults)
        for entry in layer.entries:
            source = f"{layer.source}: stage {entry.stage}"
            _check_keys(entry.overrides, {entry.stage: tables[entry.stage]}, source, faults)


def _check_keys(
    values: Mapping, tables: Mapping[str, Mapping], source: str, faults: Faults
) -> None:
    known = {name for table in tables.values() for name in table}
    for key in (key for key in values if key not in known):
        owners = [name for name in _others(tables) if key in declared(notebook_of(name))]
        if owners:
            faults.add(
                f"{source}: {key!r} is no parameter of {', '.join(tables)}, but of "
                f"{' and '.join(owners)}: add that stage, or move or remove the key"
            )
        else:
            check_names([key], known, source, faults, f" of {', '.join(tables)}")


def _others(tables: Mapping[str, Mapping]) -> list[str]:
    return [name for name in STAGES if name not in tables and notebook_of(name).is_file()]


def _step(
    entry: Entry,
    layers: Sequence[Layer],
    overrides: Mapping,
    table: Mapping[str, Parameter],
    faults: Faults,
) -> Step:
    sources: dict[str, Mapping] = {layer.source: layer.values for layer in layers}
    sources |= {f"{entry.source}: stage {entry.stage}": entry.overrides, "-p": overrides}
    values = {}
    for source, given in sources.items():
        for key in (key for key in given if key in table):
            with faults.collected():
                values[key] = checked(given[key], table[key], f"{source}: {key}")
    settings = {name: parameter.default for name, parameter in table.items()} | values
    check_together(settings, entry.stage, faults)
    return Step(entry.stage, values, settings)


def needs(step: Step) -> Iterator[tuple[str, str, str]]:
    """Yield parameter, name and path of everything that a step asks other stages for."""
    for parameter, name, path in _asked(step):
        yield from ((parameter, name, each) for each in _fitting(path))


def asked(step: Step) -> list[str]:
    """Return the paths of ``needs`` as they are named, a * in them included."""
    return [path for _, _, path in _asked(step)]


def _asked(step: Step) -> Iterator[tuple[str, str, str]]:
    for parameter, (maker, key) in NEEDS.items():
        given = step.settings.get(parameter) or []
        for name in [given] if isinstance(given, str) else given:
            yield parameter, name, STAGES[maker].makes[0].format(**step.settings | {key: name})


def requires(step: Step, before: Step) -> bool:
    """Tell whether a step needs what an earlier one of a batch makes."""
    if _fills(before, step, STAGES[step.stage].reads):
        return True
    return any(path in before.makes or fnmatch.filter(before.makes, path) for path in asked(step))


def follows(step: Step, before: Step) -> bool:
    """Tell whether a step looks at whatever an earlier one of a batch has left."""
    names = STAGES[step.stage].follows
    return names == EVERYTHING or _fills(before, step, names)


def _fills(before: Step, step: Step, names: Sequence[str]) -> bool:
    """Tell whether a step writes into a folder that one of another step's parameters names."""
    fills = STAGES[before.stage].fills
    read = [path for name in names for path in _folders(step.settings.get(name, []))]
    return bool(fills) and _folders(before.settings[fills])[0] in read


def _folders(given: str | Sequence[str]) -> list[Path]:
    """Return the folders that a parameter names, one or several."""
    names = [given] if isinstance(given, str) else given
    return [PROJECT / Path(name).expanduser() for name in names]


def _fitting(path: str) -> list[str]:
    """Return the files that a path with a * fits; else the path as it is."""
    whole = PROJECT / Path(path).expanduser()
    found = Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))) if "*" in path else []
    return sorted(map(str, found)) or [path]


def _check_needs(step: Step, before: Sequence[Step]) -> None:
    made = {path for other in before for path in other.makes}
    for parameter, name, path in needs(step):
        if (
            path not in made
            and not fnmatch.filter(made, path)
            and not (PROJECT / Path(path).expanduser()).exists()
        ):
            raise ParameterError(
                f"{step.stage}: {parameter}: {name!r} is made by no earlier stage, and "
                f"{path} is missing{nearest(path, made)}"
            )


def _check_ledger(step: Step) -> None:
    """Refuse a ledger that cannot be read, before hours of training for a row of it."""
    folder = PROJECT / Path(step.settings.get("submissions_dir", "")).expanduser()
    if "submission" in step.settings and (folder / "ledger.csv").exists():
        from lib.score import ledger  # pandas, only where there is one

        ledger.read(folder)


def _check_outside(step: Step) -> None:
    """Refuse a folder of another team that lacks a table, before hours of training."""
    for folder in step.settings.get("outside", []):
        from lib.score import exchange  # torch, only where there is one

        exchange.hashes(PROJECT / Path(folder).expanduser())


def _check_name(step: Step, before: Sequence[Step]) -> None:
    """Refuse a name under which an earlier step makes something else."""
    for other in (other for other in before if step.makes and other.makes == step.makes):
        changes = [
            f"{key} {other.settings[key]!r} and {value!r}"
            for key, value in step.settings.items()
            if value != other.settings[key] and key not in NOT_PART_OF_A_RUN
        ]
        if changes:
            raise ParameterError(
                f"{step.stage}: {step.makes[0]} would be made twice, with {'; '.join(changes)}: "
                "give each a name of its own"
            )
