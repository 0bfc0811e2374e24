"""What README, CONTRIBUTING and docs name is there."""

import importlib.util
import re
from pathlib import Path

import pytest

from lib import PROJECT

TEXTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(PROJECT.glob("docs/*.md"))]
FOLDERS = r"lib|params|notebooks|docs|tests|\.ci"
every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


@every_text
def test_paths_exist(path):
    named = re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]*\w", path.read_text())
    missing = [name for name in named if not (PROJECT / name).exists()]
    assert set(missing) <= {"params/mine.yaml", "params/pets.yaml"}  # what the reader writes


@every_text
def test_commands_are_modules(path):
    named = re.findall(r"python -m (lib[\w.]*)", path.read_text())
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


@every_text
def test_links_and_figures_exist(path):
    linked = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [name for name in linked if not (path.parent / name).exists()] == []


@every_text
def test_make_targets_exist(path):
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", path.read_text(), re.MULTILINE)) <= {
        *targets
    }


def test_registries_are_where_contributing_says():
    named = re.findall(r"`([A-Z_]+)` (?:in|of) `(lib/[\w/]+\.py)`", TEXTS[1].read_text())
    assert len(named) > 12
    missing = [(name, path) for name, path in named if not defines(PROJECT / path, name)]
    assert missing == []


def defines(path: Path, name: str) -> bool:
    return re.search(rf"^{name}\b.* = ", path.read_text(), re.MULTILINE) is not None


def test_readme_is_short_and_shows_every_notebook():
    text = TEXTS[0].read_text()
    assert len(text.splitlines()) <= 120
    notebooks = [path.stem for path in PROJECT.glob("notebooks/0[1-9]_*.ipynb")]
    assert [name for name in notebooks if f"`{name}`" not in text] == []
