"""Text files that a user edits: YAML and CSV, with every fault told in one sentence."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import yaml

from lib.errors import DataError, ParameterError, some

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def kind(value: object) -> str:
    """Return what a value is, in words."""
    return KINDS.get(type(value), f"a {type(value).__name__}")


class _Loader(yaml.CSafeLoader):
    """The safe loader of PyYAML, which by itself would let the last of two equal keys win."""

    def construct_mapping(self, node, deep=False):
        """Refuse a key that the mapping gives twice."""
        keys = [key.value for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if key.value in keys[:i]:
                line = key.start_mark.line + 1
                raise ParameterError(f"line {line}: {key.value!r} is given twice: keep one of them")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> object:
    """Return what YAML ``text`` means; ``source`` is named if it is malformed or repeats a key."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ParameterError) as error:
        raise ParameterError(f"{source}: {error}") from None


def read_yaml(path: Path) -> dict:
    """Return the mapping that a YAML file holds."""
    if not path.is_file():
        raise ParameterError(f"{path}: there is no such file")
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds {kind(values)}"
        raise ParameterError(f"{path} {found}: write one 'name: value' per line")
    return values


def read_text(path: Path) -> str:
    """Return a text in UTF-8, with or without byte-order mark; DataError for other encodings."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not text in UTF-8, it seems to be {_encoding(data)}: save it again as "
            "UTF-8 (in a spreadsheet: 'CSV UTF-8')"
        ) from None


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if b"\x00" in data:
        return "no text at all"
    try:
        data.decode("cp949")
    except UnicodeDecodeError:
        return "of an unknown encoding"
    return "cp949 (Korean Windows)"


def read_rows(path: Path, columns: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the columns of a CSV file as text, without blank rows; DataError for any fault."""
    rows = _numbered_rows(path)
    if not rows:
        raise DataError(f"{path} is empty; it needs a header with {', '.join(columns)}")
    (_, first), *others = rows.items()
    header = _without_end(first, 0)
    body = {line: _without_end(row, len(header)) for line, row in others}
    if odd := [line for line, row in body.items() if len(row) != len(header)]:
        raise DataError(
            f"{path}: {some(odd, 'rows')} have not {len(header)} fields as the header has: "
            "correct their commas"
        )
    if twice := [name for name in header if header.count(name) > 1]:
        raise DataError(f"{path}: {some(twice, 'columns')} given twice: keep or rename one")
    if missing := [name for name in columns if name not in header]:
        hint = ": separate fields by commas" if ";" in first[0] else ""
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}{hint}"
        )
    return {name: [row[k] for row in body.values()] for k, name in enumerate(header)}


def _numbered_rows(path: Path) -> dict[int, list[str]]:
    """Return the rows that are not blank, by the number of the line on which they end."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        rows = ((reader.line_num, row) for row in reader)
        return {line: row for line, row in rows if any(map(str.strip, row))}
    except csv.Error as error:
        raise DataError(
            f"{path}: row {reader.line_num}: {error}: look for a quotation mark without its end"
        ) from None


def _without_end(row: list[str], fields: int) -> list[str]:
    """Return a row without the empty fields behind the last one that counts."""
    while len(row) > fields and not row[-1].strip():
        row = row[:-1]
    return row
