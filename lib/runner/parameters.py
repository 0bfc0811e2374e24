"""A notebook's ``parameters`` cell as the configuration: what it declares, and whether a given value fits.

Nothing here runs a notebook or imports anything heavy: the cell is read as text.
"""

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from lib.errors import ArtefactError, ParameterError


class Parameter(NamedTuple):
    """A parameter's default value and the comment behind it."""

    default: object
    comment: str


def declared(notebook: Path) -> dict[str, Parameter]:
    """Return what the notebook's cell tagged ``parameters`` assigns, by name and in its order."""
    if not notebook.is_file():
        raise ArtefactError(f"{notebook} is missing: its stage cannot run")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook}: {len(tagged)} cells are tagged 'parameters': tag exactly one")
    lines = tagged[0].splitlines()
    assignments = [node for node in ast.parse(tagged[0]).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: Parameter(_default(node, notebook), _comment(node, lines)) for node in assignments}


def _default(node: ast.Assign, notebook: Path) -> object:
    try:
        return ast.literal_eval(node.value)
    except ValueError:
        raise ParameterError(f"{notebook}: {ast.unparse(node)}: a default is a literal, it is read without being run") from None


def _comment(node: ast.Assign, lines: list[str]) -> str:
    behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    return behind.partition("#")[2].strip()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would let the last of two equal keys win."""

    def construct_mapping(self, node, deep=False):
        """Refuse a key that the mapping gives twice."""
        keys = [key.value for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if key.value in keys[:i]:
                raise ParameterError(f"line {key.start_mark.line + 1}: {key.value!r} is given twice: keep one of the two")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> object:
    """Return what the YAML ``text`` means; ``source`` is named if it is malformed or repeats a key."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ParameterError) as error:
        raise ParameterError(f"{source}: {error}") from None


def read_yaml(path: Path) -> dict:
    """Return the mapping that a parameter file holds."""
    if not path.is_file():
        raise ParameterError(f"{path}: there is no such parameter file")
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds {_kind(values)}"
        raise ParameterError(f"{path} {found}: write one 'name: value' a line")
    return values


def convert(value: object, default: object) -> object:
    """Return ``value`` as the type of ``default``; a TypeError says what is wrong and how to write it.

    An int may stand for a float, and one scalar for a list; elements of a list follow those of the default.
    """
    if isinstance(default, list):
        return _convert_list(value, default)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise TypeError(_mismatch(value, default))
    return value


def _convert_list(value: object, default: list) -> list:
    items = value if isinstance(value, list) else [value]
    kinds = {type(item) for item in default} or {str, int}
    if len(kinds) == 1:
        return [convert(item, default[0]) for item in items]
    if items is not value and type(value) not in kinds:
        raise TypeError(_mismatch(value, default))
    return items


def _mismatch(value: object, default: object) -> str:
    problem = f"{value!r} is {_kind(value)}, but its default {default!r} is {_kind(default)}"
    if isinstance(default, float) and isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+e[+-]?\d+", value.lower()):
        return f"{problem}: YAML takes {value} for text, write {_with_point(value)}"
    if isinstance(default, str) and value is not None:
        return f"{problem}: put quotes around it, a bare on is read as True and 010 as 8 (on the command line: '\"on\"')"
    return f"{problem}: write {_kind(default)}"


def _with_point(number: str) -> str:
    """Return a number with exponent as YAML 1.1 wants it: 1e-4 becomes 1.0e-4."""
    mantissa, exponent = number.lower().split("e")
    return mantissa + ("" if "." in mantissa else ".0") + "e" + ("" if exponent[0] in "+-" else "+") + exponent


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")
