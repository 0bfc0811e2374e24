"""List words that stand where they do not belong, as ``file:line: word``; exit with 1 if any.

Words of one task belong in the modules that know it: everywhere else the code is general. Dialect
belongs nowhere: prose is plain standard English. ``make lint`` runs this; the standard library is
enough. A line of a notebook is named by its cell: ``notebooks/03_train.ipynb:03-07:2``.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERAL = ("lib/**/*.py", "notebooks/*.ipynb")
TASK_MODULES = ("lib/task/", "lib/demo/", "lib/data/competition.py", "notebooks/00_")
TASK_WORDS = {"mask", "masks", "masked", "gender", "age", "ages", "18", "43"}
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|(?<![\w.])\d+(?!\w|[.,]\d)")  # of identifiers too
OPENCV = re.compile(r"\bcv2\.\w+")

PROSE = (*GENERAL, "*.md", "docs/*.md", "params/**/*.yaml", "Makefile")
DIALECT = re.compile(
    r"""(?<![^\W_])(
    mend(?:s|ed|ing)? | whom | beside | theirs | lest | anew | (?:un)?learnt | paint(?:ed|ing)
    | arithmetic | wholly | bright\ side | behind\ your\ back | a\ slip | less\ the | looked\ for
    | as\ they\ lie | of\ ours | the\ other's | what\ is\ no
    | (?:photos|images|pictures|batches|steps|MB|GB|ms)\ an?\ (?:photo|second|step|thousand)
    )(?![^\W_]) | (?<![\w.:])\.\d+\b(?!%)  # a number without its zero: .5
    """,
    re.VERBOSE | re.IGNORECASE,
)


def task_words(line: str) -> list[str]:
    """Return the words of one task in a line: whole words, or parts of snake_case or CamelCase."""
    parts = PARTS.findall(OPENCV.sub("", line))
    return [part for part in parts if part.lower() in TASK_WORDS]


def dialect(line: str) -> list[str]:
    """Return the words and spellings of a line that standard English has other words for."""
    return [found[0] for found in DIALECT.finditer(line)]


def findings(root: Path) -> Iterator[str]:
    """Yield what is found below ``root``, as ``place: word``."""
    for path in files(root, GENERAL):
        if not path.relative_to(root).as_posix().startswith(TASK_MODULES):
            yield from listed(root, path, task_words, parameters=False)
    for path in files(root, PROSE):
        yield from listed(root, path, dialect, parameters=True)


def files(root: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files that the patterns name."""
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def listed(root: Path, path: Path, words, parameters: bool) -> Iterator[str]:
    """Yield the ``words`` of one file's lines; a notebook's parameters are its task's own names."""
    for place, line in lines(path, parameters):
        for word in words(line):
            yield f"{path.relative_to(root).as_posix()}:{place}: {word}"


def lines(path: Path, parameters: bool) -> Iterator[tuple[str, str]]:
    """Yield places and lines of a file, or of a notebook's cells, the parameters or not."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        yield from ((str(number), line) for number, line in enumerate(text.splitlines(), start=1))
        return
    for cell in json.loads(text)["cells"]:
        if parameters or "parameters" not in cell["metadata"].get("tags", []):
            for number, line in enumerate("".join(cell["source"]).splitlines(), start=1):
                yield f"{cell['id']}:{number}", line


if __name__ == "__main__":
    found = list(findings(ROOT))
    print("\n".join(found) or "words: none out of place")
    sys.exit(bool(found))
