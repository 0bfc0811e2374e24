"""``index.html`` in the folder of runs: all runs and submissions on one page, without network.

The facts are those of ``compare.overview``. jinja2 escapes every text.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from lib import artefacts
from lib.errors import ArtefactError
from lib.explain import compare, thumbnails
from lib.textfiles import read_yaml

FILE = "index.html"
BATCH = "batch.json"  # in the folder of runs: the units of the last batch that ran with --on
TEMPLATE = "page.html.j2"  # next to this module, with the page's style and script
FORMATS = {"score": "{:.3f}", "attribute": "{:.3f}", "cost": "{:,.1f}"}  # of groups of columns
LABELS = {
    "low": "95 % from",
    "high": "to",
    "mean": "mean of folds",
    "nested": "mean of folds, epoch chosen by the others",
    "spread": "spread of folds",
}
RESULTS = ("running", "waiting", "failed", "skipped", "done", "finished")  # of units, as shown
LEFT_OUT = ("name", "sha256", "commit")  # columns of submissions that are not shown as such


class Cell(NamedTuple):
    """One place of a table: what is shown, and by what it is sorted ("" stays at the end)."""

    text: str
    value: str | float
    number: bool = False


class Link(NamedTuple):
    """The page of an executed notebook."""

    text: str
    href: str


class Row(NamedTuple):
    """A run or a submission: its cells by column, and what only a run has."""

    name: str
    links: list[Link]
    cells: dict[str, Cell]
    remarks: Sequence[str] = ()
    facts: Mapping = {}
    pictures: Mapping = {}
    differs: Mapping = {}


class Group(NamedTuple):
    """The runs of one task, best first, and the metric of their scores ("" if none is known)."""

    task: str
    metric: str
    rows: list[Row]


def write(runs_dir: str | Path, submissions_dir: str | Path) -> Path:
    """Write the page of all runs and submissions, atomically; return its path.

    ArtefactError without a folder of runs, DataError if the ledger is malformed. A run that cannot
    be read is a row that says why.
    """
    folder = artefacts.resolve(runs_dir)
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is no folder of runs: give the runs_dir of notebook 03")
    runs, submissions = compare.overview(str(folder), str(submissions_dir))
    pictures = thumbnails.of_runs(folder, runs.index)
    page = _template().render(
        batch=_batch(folder),
        groups=[
            _group(task, part, pictures, folder) for task, part in runs.groupby(("run", "task"))
        ],
        submissions=_submissions(submissions, artefacts.resolve(submissions_dir), folder),
        others=[_link(path, folder) for path in _others(folder, runs.index)],
    )
    artefacts.write_text(page, folder / FILE)
    return folder / FILE


def _batch(folder: Path) -> dict | None:
    """Return state, units, and how many have ended of the last batch; None if there was none."""
    if not (folder / BATCH).is_file():
        return None
    batch = json.loads((folder / BATCH).read_text("utf-8"))
    counts = Counter(unit["result"] for unit in batch["units"])
    return batch | {"counts": {name: counts[name] for name in RESULTS if counts[name]}}


def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=loader, autoescape=True, **options).get_template(TEMPLATE)


def _group(task: str, runs: pd.DataFrame, pictures: Mapping, folder: Path) -> Group:
    runs = runs.sort_values(("score", "oof"), ascending=False, kind="stable")
    runs = runs.dropna(axis=1, how="all")  # no run of this task has such a number
    metrics = _columns(runs, "run").get("metric", pd.Series(dtype=str)).dropna()
    given = _columns(runs, "parameter")
    differs = given.loc[:, given.nunique(dropna=False) > 1]
    rows = [_run(name, runs, pictures[name], differs.loc[name], folder) for name in runs.index]
    return Group(task, metrics.iloc[0] if len(metrics) else "", rows)


def _run(name: str, runs: pd.DataFrame, pictures: Mapping, differs: pd.Series, folder: Path) -> Row:
    facts = _columns(runs, "run").loc[name]
    links = [_link(path, folder) for path in sorted((folder / name).glob("*.html"))]
    cells = dict(_numbers(runs.loc[name]))
    state = facts["state"] if facts["state"] != "finished" else ""
    remarks = dict.fromkeys(filter(None, [state, facts["reason"], pictures["fault"]]))
    given = {parameter: _text(value) for parameter, value in differs.items()}
    return Row(name, links, cells, list(remarks), facts, pictures, given)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "–"


def _columns(runs: pd.DataFrame, group: str) -> pd.DataFrame:
    return runs.loc[:, runs.columns.get_level_values(0) == group].droplevel(0, axis=1)


def _numbers(run: pd.Series) -> Iterator[tuple[str, Cell]]:
    for (group, column), value in run.items():
        if group in FORMATS:
            yield _label(column), _number(value, FORMATS[group])


def _label(column: str) -> str:
    return LABELS.get(column, column.replace("oof", "out-of-fold").replace("_", " "))


def _number(value: float, form: str) -> Cell:
    return Cell("", "", True) if pd.isna(value) else Cell(form.format(value), value, True)


def _submissions(table: pd.DataFrame, submissions: Path, folder: Path) -> list[Row]:
    pages = {path.stem: [_link(path, folder)] for path in submissions.glob("*.html")}
    shown = table.drop(columns=list(LEFT_OUT))
    return [
        Row(name, pages.get(name, []), {_label(c): _cell(row[c]) for c in shown})
        for name, (_, row) in zip(table["name"], shown.iterrows(), strict=True)
    ]


def _cell(value: object) -> Cell:
    return _number(value, "{:.4f}") if isinstance(value, float) else Cell(str(value), str(value))


def _others(folder: Path, runs: Iterable[str]) -> Iterator[Path]:
    """Yield the pages of notebooks that belong to no run: of the data sets, of benchmarks."""
    made_by_runs = {folder / name for name in runs}
    places = [*sorted(set(_work_folders(made_by_runs))), folder, *sorted(folder.glob("*/"))]
    for place in (place for place in dict.fromkeys(places) if place not in made_by_runs):
        yield from (path for path in sorted(place.glob("*.html")) if path != folder / FILE)


def _work_folders(runs: Iterable[Path]) -> Iterator[Path]:
    for run in runs:
        with suppress(*compare.UNREADABLE):  # the run's row says why
            yield artefacts.resolve(read_yaml(run / "params.yaml")["work_dir"])


def _link(path: Path, folder: Path) -> Link:
    """Return a link to a page, from the folder of runs."""
    return Link(path.stem, quote(Path(os.path.relpath(path, folder)).as_posix()))
