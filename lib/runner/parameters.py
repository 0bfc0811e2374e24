"""A notebook's ``parameters`` cell as its configuration: what it declares, and which values fit.

Every way in is checked by this module: ``lib.run`` before any kernel starts, and ``collect`` in the
notebook itself, however its values came there (papermill, or a cell edited by hand). The cell is
read as text; nothing heavy is imported.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from lib import PROJECT
from lib.errors import ArtefactError, Faults, ParameterError, nearest
from lib.learn import checks
from lib.task.attributes import Task, load
from lib.textfiles import kind, parse_yaml

NOTEBOOKS = PROJECT / "notebooks"
NUMBERS = {int: r"[+-]?\d+", float: r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"}
FILE_NAMES = (
    "experiment",
    "submission",
    "study",
)  # parameters that a folder or a file is named after


class Parameter(NamedTuple):
    """A parameter's default value, the comment behind it, and the choices that the comment lists.

    Choices are what follows the last ": " of a comment, separated by " | "; none means any value.
    """

    default: object
    comment: str
    choices: tuple[str, ...] = ()


def declared(notebook: Path) -> dict[str, Parameter]:
    """Return what the notebook's cell tagged ``parameters`` assigns, by name and in its order."""
    if not notebook.is_file():
        raise ArtefactError(f"{notebook} is missing: its stage cannot run")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(
            f"{notebook}: {len(tagged)} cells are tagged 'parameters': tag exactly one"
        )
    source = "".join(tagged[0]["source"])
    lines = source.splitlines()
    return {name: _parameter(node, lines, notebook) for name, node in _assignments(source).items()}


def _assignments(source: str) -> dict[str, ast.Assign]:
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): node for node in nodes}


def _parameter(node: ast.Assign, lines: list[str], notebook: Path) -> Parameter:
    comment = _comment(node, lines)
    listed = comment.rpartition(": ")[2].split(" | ")
    choices = tuple(listed) if len(listed) > 1 else ()
    try:
        return Parameter(ast.literal_eval(node.value), comment, choices)
    except ValueError:
        raise ParameterError(
            f"{notebook}: {ast.unparse(node)}: a default is a literal, it is read without being run"
        ) from None


def _comment(node: ast.Assign, lines: list[str]) -> str:
    """Return the comment behind an assignment, and the lines ``#   ...`` that continue it."""
    end = node.end_lineno or node.lineno
    behind = lines[end - 1].encode()[node.end_col_offset :].decode()
    more = takewhile(lambda line: line.startswith("#   "), lines[end:])
    return " ".join([behind.partition("#")[2].strip(), *(line[1:].strip() for line in more)])


def collect(notebook: str, variables: dict[str, object]) -> dict[str, object]:
    """Return the parameters of ``notebooks/<notebook>.ipynb`` out of a kernel's ``globals()``.

    Each is converted, checked and set again, so that its name means the same. A ParameterError
    names every parameter that is wrong, that is not set, or that papermill was given although the
    notebook does not declare it, and tells what does not fit together.
    """
    table, faults, values = declared(NOTEBOOKS / f"{notebook}.ipynb"), Faults(), {}
    check_names(_injected(variables), table, notebook, faults)
    for name, parameter in table.items():
        if name not in variables:
            faults.add(f"{notebook}: {name} is not set: run the parameters cell again")
            continue
        with faults.collected():
            values[name] = checked(variables[name], parameter, f"{notebook}: {name}")
    faults.tell()  # what has a wrong type cannot be compared
    check_together(values, notebook, faults)
    faults.tell()
    variables.update(values)
    return values


def _injected(variables: Mapping[str, Any]) -> list[str]:
    """Return the names that papermill's cell assigns; it stands in IPython's history ``In``."""
    cells = [cell for cell in variables.get("In", ()) if cell.startswith("# Parameters\n")]
    return [name for cell in cells for name in _assignments(cell)]


def check_names(
    names: Iterable[str], known: Iterable[str], source: str, faults: Faults, what: str = ""
) -> None:
    """Add a fault for each of ``names`` that is not ``known``."""
    for name in (name for name in names if name not in known):
        faults.add(
            f"{source}: {name!r} is no parameter{what}{nearest(name, known)}: correct or "
            "remove it (python -m lib.run --list shows all)"
        )


def checked(value: object, parameter: Parameter, source: str) -> object:
    """Return ``value`` in the type of its parameter; ParameterError unless type and choice fit.

    Of a list the elements, and of a mapping the keys, are from the choices.
    """
    try:
        converted = convert(value, parameter.default)
    except TypeError as error:
        raise ParameterError(f"{source}: {error}") from None
    for item in converted if isinstance(converted, (list, dict)) else [converted]:
        if parameter.choices and str(item) not in parameter.choices:
            choices = ", ".join(parameter.choices)
            hint = nearest(str(item), parameter.choices)
            raise ParameterError(f"{source}: {item!r} is not one of: {choices}{hint}")
    return converted


def convert(value: object, default: Any) -> object:
    """Return ``value`` as the type of ``default``; a TypeError says what to write instead.

    A whole number may stand for a number, one value for a list of it, and text for the number, list
    or mapping that it reads as: YAML takes 1e-4 for text, and papermill hands lists over as text.
    Elements of lists and values of mappings follow the first one of the default.
    """
    if isinstance(value, str):
        value = _read(value, type(default))
    if isinstance(default, list):
        return _convert_list(value, default)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise TypeError(_mismatch(value, default))
    if isinstance(value, dict) and isinstance(default, dict) and default:
        first = next(iter(default.values()))
        return {key: convert(item, first) for key, item in value.items()}
    return value


def _read(text: str, wanted: type) -> object:
    if wanted in (list, dict) and text.startswith(("[", "{")):
        return parse_yaml(text, text)
    if wanted in NUMBERS and re.fullmatch(NUMBERS[wanted], text, re.IGNORECASE):
        return wanted(text)
    return text


def _convert_list(value: object, default: list) -> list:
    items = value if isinstance(value, list) else [value]
    if default:
        return [convert(item, default[0]) for item in items]
    if any(type(item) not in (str, int, float) for item in items):
        raise TypeError(_mismatch(value, default))
    return items


def _mismatch(value: object, default: object) -> str:
    problem = f"{value!r} is {kind(value)}, but its default {default!r} is {kind(default)}"
    if isinstance(default, str) and value is not None:
        return (
            f"{problem}: put quotes around it, a bare on is read as True and 010 as 8 "
            "(on the command line: '\"on\"'; papermill: -r instead of -p)"
        )
    papermill = " (papermill: True or False)" if isinstance(default, bool) else ""
    return f"{problem}: write {kind(default)}{papermill}"


def _lists(values: Mapping[str, Any]) -> Mapping[str, list]:
    for name, value in values.items():
        if not isinstance(value, list):
            raise ParameterError(f"{name}: {value!r} is {kind(value)}: write a list, [{value}]")
    return values


BY_TASK = {  # parameters in the words of the task, and what refuses a word that it lacks
    "learn": Task.learned,
    "cuts": lambda task, values: task.checked_cuts(_lists(values)),
    "drop": lambda task, values: task.checked_drop(_lists(values)),
    "mix_within": lambda task, values: task.checked_classes(_lists(values)),
    "pseudo_thresholds": lambda task, values: [task[name] for name in values],
}


def check_together(values: Mapping[str, Any], source: str, faults: Faults) -> None:
    """Add what does not fit: names of files, words of the task, combinations for training."""
    for name in (name for name in FILE_NAMES if name in values):
        if not re.fullmatch(r"\w[\w.+-]*", values[name]):
            faults.add(
                f"{source}: {name}={values[name]!r} names a file: write letters, digits and . _ + -"
            )
    if str(values.get("submission")).lower() == "ledger":
        faults.add(
            f"{source}: submission={values['submission']!r} would take the place of the ledger's "
            "file: choose another name"
        )
    if "task" in values:
        with faults.collected():
            _check_task(values, load(values["task"]), source, faults)


def _check_task(values: Mapping[str, Any], task: Task, source: str, faults: Faults) -> None:
    wrong = Faults()
    for name, check in BY_TASK.items():
        try:
            check(task, values.get(name, {}))
        except ParameterError as error:
            wrong.add(f"{source}: {name}: {error}")
    faults.found += wrong.found
    if "head" in values and not wrong.found:  # a notebook that trains
        faults.found += [f"{source}: {fault}" for fault in checks.broken(values, task)]
