"""Fewer models for competitions with a time limit: the best folds of each run, or their soup.

A soup of folds has been trained on everyone, so no out-of-fold score of it exists. What can be said
of it: how many answers differ from those of all folds, and its score on photos with answers.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.errors import DataError, ParameterError, some
from lib.learn import soups
from lib.package import checkpoints
from lib.package.checkpoints import State
from lib.package.voting import voted
from lib.score import decisions, metrics, submission
from lib.score.between import Between
from lib.score.ensemble import Tables
from lib.score.runs import Run
from lib.task.attributes import LABEL, Task
from lib.textfiles import read_rows

SOUPS = ("uniform", "greedy")


def check(way: str, answers: Path | None) -> None:
    """Raise a ParameterError unless ``way`` is "", a number of folds, or one of SOUPS."""
    if way and way not in SOUPS and not (way.isdigit() and int(way)):
        raise ParameterError(
            f"--slim {way!r} is not accepted: give a number of folds from 1, or "
            f"{' or '.join(SOUPS)}"
        )
    if way == "greedy" and not answers:
        raise ParameterError(
            "--slim greedy chooses by the answers of photos that no fold was trained on: give "
            "--answers, or take --slim uniform"
        )


def keep(run: Run, way: str, labels: pd.Series, tta: str) -> dict[str, State]:
    """Return the weights that are kept of a run, by fold; a soup's name is its folds'."""
    found = {str(fold): checkpoints.of_fold(run, fold) for fold in run.folds}
    if way not in SOUPS:
        return {fold: found[fold] for fold in best_folds(run, way)}
    names = list(found)
    if way == "greedy":
        names = soups.greedy(found, lambda state: _score(run, state, labels, tta))
    return {"+".join(names): soups.uniform([found[name] for name in names])}


def best_folds(run: Run, way: str) -> list[str]:
    """Return the ``way`` folds with the best scores of the people they validated ("": all)."""
    folds = pd.Index(run.folds)
    if way:
        scores = metrics.by_fold(run.oof(), run.task)[run.task.metric].reindex(folds)
        folds = scores.sort_values(ascending=False, kind="stable").index[: int(way)]
    return [str(fold) for fold in sorted(folds)]


def _score(run: Run, state: State, labels: pd.Series, tta: str) -> float:
    found = table(run, {"soup": state}, tta, labels.index)
    return metrics.score(found.assign(label=labels), run.task)


def true_labels(path: Path, ids: pd.Index, task: Task) -> pd.Series:
    """Return the labels of a CSV of answers, written as a submission of classes, by photo.

    DataError for a photo that is not one of ``ids`` and for a class that the task does not have.
    """
    if task.answer.format == "probabilities":
        raise ParameterError(f"--answers are classes, and task {task.name!r} submits probabilities")
    columns = submission.class_columns(task)
    rows = read_rows(path, [task.answer.columns[0], *columns])
    photos = pd.Index(rows[task.answer.columns[0]], name="key")
    if len(odd := photos.difference(ids)) or photos.has_duplicates:
        raise DataError(f"{path}: {some(odd, 'photos')} are no test photos, or photos are repeated")
    classes = {}
    for column, part in columns.items():
        known = submission.accepted(task, part)
        if wrong := [text for text in rows[column] if text not in known]:
            raise DataError(f"{path}: {column}: {some(wrong, 'answers')}; accepted: {known}")
        classes[part] = np.array([known.index(text) for text in rows[column]])
    return pd.Series(classes.get(LABEL, task.encode(classes)), photos)


def table(run: Run, states: Mapping[str, State], tta: str, keys: pd.Index) -> pd.DataFrame:
    """Return the test table of some weights of a run: a row per photo and name of the weights."""
    made = {name: checkpoints.model(run, state) for name, state in states.items()}
    rows = [checkpoints.table(run, made[name], tta, keys).assign(fold=name) for name in made]
    return pd.concat(rows)


def cost(
    facts: Mapping,
    known: Tables,
    full: Tables,
    slim: Tables,
    labels: pd.Series,
    task: Task,
    between: Between,
) -> dict[str, float]:
    """Return the share of test photos whose answer changes; with labels, the score of each.

    ``known`` are out-of-fold tables, ``full`` and ``slim`` test tables of all and of fewer models.
    """
    tables = {
        name: decisions.decide(*voted(facts, known, test, task, between), task, facts["decision"])
        for name, test in {"all folds": full, "slim": slim}.items()
    }
    answers = [metrics.predicted(table, task) for table in tables.values()]
    changed = (answers[0] != answers[1].loc[answers[0].index]).any(axis=1).mean()
    scores = {
        name: metrics.score(table.loc[labels.index].assign(label=labels), task)
        for name, table in tables.items()
        if len(labels)
    }
    return {"answers changed": float(changed), **scores}
