"""The space of a sweep: which parameters of notebook 03 are searched, and among which values.

The file has two keys. ``search`` gives a list of choices, or a range ``{low, high}`` with ``log``
or ``step``, for each parameter that is searched. ``fixed`` gives what every trial has, the default
too. All of it is checked against the notebook's parameters cell before anything starts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import create_trial

from lib.errors import Faults, ParameterError, nearest, pick
from lib.learn.checks import NAMES_OF_A_RUN, NOT_PART_OF_A_RUN
from lib.runner.parameters import Parameter, check_together, checked, declared
from lib.runner.stages import Layer, notebook_of, plan, read_layer
from lib.task.attributes import Task, load
from lib.textfiles import kind, read_yaml

RANGES = {int: IntDistribution, float: FloatDistribution}
RANGE_KEYS = ("low", "high", "log", "step")
NOT_SEARCHED = (  # names of a run, how it is worked through, and what decides who is scored on what
    *NAMES_OF_A_RUN, *NOT_PART_OF_A_RUN, "task", "data_dir", "work_dir", "learn", "split",
    "fold_count", "people_limit", "seed", "shuffle_labels",
)  # fmt: skip


class Searched(NamedTuple):
    """What a parameter may be: optuna's distribution, and the choices by their text (no range)."""

    distribution: BaseDistribution
    choices: dict[str, Any]

    def value(self, found: Any) -> Any:
        """Return the parameter's value for what the study knows it by."""
        return self.choices[found] if self.choices else found

    def known(self, value: Any) -> Any:
        """Return what the study knows a value by: numbers of ranges, texts of choices."""
        return str(value) if self.choices else value

    def extremes(self) -> list:
        """Return all choices, or both ends of the range."""
        ends = self.distribution
        return list(self.choices.values()) or [ends.low, ends.high]

    def __str__(self) -> str:
        """Return the choices or the range in words."""
        if self.choices:
            return " | ".join(self.choices)
        low, high = self.extremes()
        facts = self.distribution._asdict()
        step = f", step {facts['step']}" if facts["step"] not in (None, 1) else ""
        return f"{low} to {high}{', log' * facts['log']}{step}"


class Space(NamedTuple):
    """The task, what every trial has (only what was given), what is searched and its default."""

    task: Task
    base: dict[str, Any]
    searched: dict[str, Searched]
    default: dict[str, Any]

    def parameters(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return notebook 03's parameters of a trial, of which the study knows ``found``."""
        return self.base | {name: self.searched[name].value(item) for name, item in found.items()}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return optuna's distributions by name."""
        return {name: searched.distribution for name, searched in self.searched.items()}

    def overview(self) -> pd.DataFrame:
        """Return a row per parameter that is searched: its default and its values."""
        values = {name: str(searched) for name, searched in self.searched.items()}
        return pd.DataFrame({"default": pd.Series(self.default, dtype=object), "values": values})


def read(path: Path, base: Sequence[Path] = ()) -> Space:
    """Read a space over the parameter files ``base``; a ParameterError tells all faults."""
    given = {key: _mapping(value, f"{path}: {key}") for key, value in read_yaml(path).items()}
    for key in given:
        pick(dict.fromkeys(("search", "fixed")), key, f"{path}: key")
    if not given.get("search"):
        raise ParameterError(f"{path}: search is missing: name at least one parameter to search")
    layers = [*map(read_layer, base), Layer(f"{path}: fixed", given.get("fixed", {}), [])]
    steps = plan(layers, ["train"])
    if len(steps) > 1:
        raise ParameterError(f"{len(steps)} trainings in base={[*map(str, base)]}: leave one")
    values, settings = steps[0].values, steps[0].settings
    if settings["split"] != "kfold":
        raise ParameterError(f"split={settings['split']!r}: a sweep needs every fold, set kfold")
    searched = _searched(given["search"], settings, f"{path}: search")
    default = {name: each.known(settings[name]) for name, each in searched.items()}
    return Space(load(settings["task"]), values, searched, default)


def _mapping(value: Any, source: str) -> dict:
    if not isinstance(value, dict):
        raise ParameterError(f"{source} is {kind(value)}: write 'name: values' below it")
    return value


def _searched(search: Mapping, settings: Mapping, source: str) -> dict[str, Searched]:
    """Return what is searched; the base's own value must be among it, it is the first trial."""
    table, faults, found = declared(notebook_of("train")), Faults(), {}
    for name, values in search.items():
        with faults.collected():
            found[name] = _one(name, values, table, f"{source}: {name}")
            for value in found[name].extremes():
                check_together({**settings, name: value}, f"{source}: {name}", faults)
            _check_default(name, found[name], settings[name], f"{source}: {name}")
    faults.tell()
    return found


def _one(name: str, values: Any, table: Mapping[str, Parameter], source: str) -> Searched:
    if name in NOT_SEARCHED:
        raise ParameterError(f"{source} decides what is compared, or where: remove it from search")
    if name not in table:
        raise ParameterError(f"{source} is no parameter of notebook 03{nearest(name, table)}")
    if isinstance(values, list):
        return _choices(values, table[name], source)
    return _range(_mapping(values, source), table[name], source)


def _choices(values: list, parameter: Parameter, source: str) -> Searched:
    found = [checked(value, parameter, source) for value in values]
    choices = {str(value): value for value in found}
    if len(choices) < max(2, len(found)):
        raise ParameterError(
            f"{source}: {values!r} are not two or more different choices "
            "(a choice that is a list needs brackets of its own: [[96, 96], [112, 112]])"
        )
    return Searched(CategoricalDistribution(list(choices)), choices)


def _range(values: dict, parameter: Parameter, source: str) -> Searched:
    for key in values:
        pick(dict.fromkeys(RANGE_KEYS), key, f"{source}: key")
    if type(parameter.default) not in RANGES or not {"low", "high"} <= values.keys():
        raise ParameterError(
            f"{source}: {values!r}: a number has {{low: 1, high: 5}}, anything else a list"
        )
    numbers = {key: checked(value, parameter, source) for key, value in values.items()
               if key != "log"}  # fmt: skip
    try:
        made = RANGES[type(parameter.default)](**numbers, log=values.get("log", False))
    except ValueError as error:
        raise ParameterError(f"{source}: {values!r}: {error}") from None
    return Searched(made, {})


def _check_default(name: str, searched: Searched, value: Any, source: str) -> None:
    """Refuse a space without the default: every other trial is compared with it."""
    known = searched.known(value)
    try:
        create_trial(value=0.0, params={name: known}, distributions={name: searched.distribution})
    except ValueError:
        raise ParameterError(
            f"{source}: the default {value!r} is not among the values: add it, or set another one "
            "in fixed (the first trial is the default)"
        ) from None
