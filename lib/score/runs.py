"""A run is a folder ``runs/<experiment>/``: parameters, task, a folder per fold, tables, metrics.

A name belongs to one set of parameters and one task. A fold is finished when its tables of
predictions are there; they are written last.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib import artefacts
from lib.data import leaks
from lib.errors import ArtefactError, FacefoldError, ParameterError, nearest
from lib.learn.checkpoints import CHECKPOINTS
from lib.learn.checks import NOT_PART_OF_A_RUN
from lib.runner.parameters import NOTEBOOKS, declared
from lib.score import intervals, metrics
from lib.score.origin import origin
from lib.task import attributes
from lib.task.attributes import Answer, Task
from lib.textfiles import read_yaml
from lib.workers import held, one_process

ORIGIN = "origin.json"  # in a run: data, code, versions and hardware that it was begun with


@dataclass(frozen=True)
class Run:
    """One experiment's folder, and the parameters and the task that made it."""

    folder: Path
    params: dict
    task: Task

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.name

    def fold(self, fold: int) -> Path:
        """Return the folder of a fold."""
        return self.folder / f"fold{fold}"

    def unfinished(self, folds: list[int]) -> list[int]:
        """Return those of ``folds`` that are still to be trained."""
        return [fold for fold in folds if fold not in self.folds]

    @property
    def folds(self) -> list[int]:
        """The finished folds."""
        return sorted(int(path.parent.name[4:]) for path in self.folder.glob("fold*/test.parquet"))

    def histories(self) -> dict[int, pd.DataFrame]:
        """Return the history of each fold that has been trained, or begun."""
        paths = sorted(self.folder.glob("fold*/history.csv"))
        return {int(path.parent.name[4:]): pd.read_csv(path) for path in paths}

    def write_fold(self, fold: int, oof: pd.DataFrame, test: pd.DataFrame) -> None:
        """Write a fold's tables, test last: it is finished then, and needs no checkpoints."""
        artefacts.write_table(oof, self.fold(fold) / "oof.parquet")
        artefacts.write_table(test.assign(fold=fold), self.fold(fold) / "test.parquet")
        for name in CHECKPOINTS:
            (self.fold(fold) / name).unlink(missing_ok=True)

    def metrics(self) -> dict:
        """Return metrics.json."""
        return json.loads((self.folder / "metrics.json").read_text())

    def oof(self) -> pd.DataFrame:
        """Return the out-of-fold table."""
        return self.table("oof")

    def test(self) -> pd.DataFrame:
        """Return the test table: a row per photo and fold."""
        return self.table("test")

    def table(self, split: str) -> pd.DataFrame:
        """Return the "oof" or "test" table of all folds, which ``finish`` has joined."""
        fix = "delete it, then run notebook 03 again (its folds are kept)"
        return artefacts.read_parquet(self.folder / f"{split}.parquet", fix)

    def fold_table(self, fold: int, split: str) -> pd.DataFrame:
        """Return the "oof" or "test" table of a fold."""
        fix = "delete the fold's folder, then run notebook 03 again (it is trained again)"
        return artefacts.read_parquet(self.fold(fold) / f"{split}.parquet", fix)


def start(runs_dir: str, params: Mapping, task: Task) -> Run:
    """Open a run for writing; ArtefactError if its name has other parameters or another task."""
    run = Run(artefacts.resolve(runs_dir) / params["experiment"], dict(params), task)
    now = origin(run.params)
    with one_process(run.folder / "params.yaml"):  # folds may be started at the same time
        _take(run, now)
    return run


def _take(run: Run, now: dict) -> None:
    """Give the name to the run's parameters and its task, or refuse."""
    if any(run.folder.glob("fold*/*.pt")) or held(run.folder, "fold*"):
        _check_same_params(run)
        _check_same_task(run)
        _check_same_origin(run, now)
    elif not _is_same(run, now):  # nothing is trained yet, so nothing is lost: the name is free
        for name in ("precision.csv", ORIGIN):
            (run.folder / name).unlink(missing_ok=True)
    artefacts.write_text(yaml.safe_dump(run.params, sort_keys=False), run.folder / "params.yaml")
    if not (run.folder / ORIGIN).exists():
        artefacts.write_json(now, run.folder / ORIGIN)
    definition = (attributes.TASKS / f"{run.task.name}.yaml").read_text("utf-8")
    artefacts.write_text(definition, run.folder / "task.yaml")


def _is_same(run: Run, now: dict) -> bool:
    """Tell whether the same run, of the same origin, was opened before."""
    try:
        _check_same_params(run)
        _check_same_origin(run, now)
    except FacefoldError:
        return False
    return True


def in_turn(run: Run, folds: Sequence[int], accelerator: Any) -> Iterator[int]:
    """Yield those of ``folds`` that are still to be trained, each to one training at a time.

    Several trainings may share a run's folds: one that finds a fold being trained waits for its
    end. The processes of one training, ``accelerator``'s, take a fold together. ArtefactError if
    the run's name has been taken for other parameters meanwhile.
    """
    for fold in folds:
        first = accelerator.is_main_process
        with one_process(run.fold(fold)) if first else nullcontext():
            accelerator.wait_for_everyone()
            _check_same_params(run)
            if run.unfinished([fold]):
                yield fold


def _params(folder: Path) -> dict:
    params = read_yaml(folder / "params.yaml")
    if "learn" not in params or not (folder / "task.yaml").exists():
        raise ArtefactError(
            f"run {folder.name!r} was made by an earlier version of facefold (no task.yaml, or no "
            f"parameter `learn`): delete or move {folder}, then train it again with notebook 03"
        )
    return _completed(params)


def _completed(params: Mapping) -> dict:
    """Return parameters with the defaults of those that notebook 03 has got since.

    A default is what was done before there was the parameter. A package has no notebooks, and
    complete parameters.
    """
    notebook = NOTEBOOKS / "03_train.ipynb"
    table = declared(notebook) if notebook.is_file() else {}
    return {name: each.default for name, each in table.items()} | dict(params)


def _check_same_params(run: Run) -> None:
    old, new = _params(run.folder), _completed(run.params)
    keys = sorted((old.keys() | new.keys()) - set(NOT_PART_OF_A_RUN))
    differ = [key for key in keys if old.get(key) != new.get(key)]
    changes = [f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in differ]
    if changes:
        raise ArtefactError(
            f"experiment={run.name!r} holds a run with other parameters ({'; '.join(changes)}). "
            "Nothing is overwritten: choose another experiment name, or delete that run's folder."
        )


def _check_same_task(run: Run) -> None:
    """Refuse a run whose task was edited; how a submission is written may change at any time."""
    path = run.folder / "task.yaml"
    kept = attributes.parse(read_yaml(path), run.task.name, str(path))
    if _learned(kept) != _learned(run.task):
        raise ArtefactError(
            f"run {run.name!r} was trained for another version of task {run.task.name!r}: put the "
            f"attributes, label and metric of {path} back into {run.task.name}.yaml, or give the "
            "changed task a file of its own and train for it"
        )


def _check_same_origin(run: Run, now: dict) -> None:
    """Refuse to go on with other data; and with other code, unless the run is finished."""
    path = run.folder / ORIGIN
    before = json.loads(path.read_text()) if path.exists() else now
    compared = ["data"] if (run.folder / "metrics.json").exists() else ["data", "code"]
    changed = [what for what in compared if before[what] != now[what]]
    if changed:
        raise ArtefactError(
            f"experiment={run.name!r} was begun with other {' and '.join(changed)} (commit "
            f"{before['commit'] or 'unknown'}, now {now['commit'] or 'unknown'}), so its folds "
            "would not belong together: choose another experiment name, or delete that run's folder"
        )


def _learned(task: Task) -> tuple[Task, list[str]]:
    return replace(task, answer=Answer()), task.names  # equal mappings may differ in their order


def load(runs_dir: str, name: str) -> Run:
    """Return a finished run; ArtefactError names the runs that there are."""
    folder = artefacts.resolve(runs_dir) / name
    if not (folder / "metrics.json").exists():
        there = sorted(path.parent.name for path in folder.parent.glob("*/metrics.json"))
        raise ArtefactError(
            f"run {name!r} is not finished in {runs_dir!r}{nearest(name, there)}; "
            f"finished: {', '.join(there) or 'none'}. Train it with notebook 03 first."
        )
    params = _params(folder)
    run = Run(folder, params, attributes.load(params["task"]))
    _check_same_task(run)
    return run


def load_all(runs_dir: str, names: Sequence[str]) -> tuple[dict[str, Run], Task]:
    """Return finished runs by name, and the task that they share; ParameterError without one.

    A name with a * stands for all finished runs that it fits; ArtefactError if it fits none.
    """
    fitting = [one for name in names for one in _fitting(runs_dir, name)]
    found = {name: load(runs_dir, name) for name in fitting}
    tasks = {run.task.name: run.task for run in found.values()}
    if len(tasks) != 1:
        raise ParameterError(
            f"runs={list(names)} must be one or more runs of one task, not of {list(tasks)}"
        )
    return found, next(iter(tasks.values()))


def load_finals(runs_dir: str, names: Sequence[str], task: Task) -> dict[str, Run]:
    """Return final runs by name: trained on everyone, so that nobody is left to score them.

    ParameterError for a run of another task, and for one that has validated people.
    """
    found, other = load_all(runs_dir, names) if names else ({}, task)
    if other.name != task.name:
        raise ParameterError(f"finals={list(names)} are runs of {other.name}, not of {task.name}")
    for name, run in found.items():
        if len(run.oof()):
            raise ParameterError(
                f"finals: {name!r} has validated people: name it in runs, or train it on everyone "
                "with split: none"
            )
    return found


def _fitting(runs_dir: str, name: str) -> list[str]:
    """Return the finished runs that a name with a * fits; another name as it is."""
    if "*" not in name:
        return [name]
    paths = artefacts.resolve(runs_dir).glob(f"{name}/metrics.json")
    if found := sorted(path.parent.name for path in paths):
        return found
    raise ArtefactError(f"no finished run in {runs_dir!r} fits {name!r}; train with notebook 03")


def oof_table(probabilities: pd.DataFrame, photos: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Add the fold, the official label and the person to validation predictions."""
    facts = {"label": photos["label"].astype(int), "person": photos["person"]}
    return probabilities.assign(fold=fold, **facts)


def finish(run: Run, fold_numbers: list[int], corrections_without_effect: int = 0) -> dict:
    """Join the folds' tables, score them, write metrics.json; {} while folds are to be trained.

    ``corrections_without_effect`` counts the rows of relabel files that changed no label.
    """
    if run.unfinished(fold_numbers):
        return {}
    oof, test = (
        pd.concat([run.fold_table(fold, name) for fold in fold_numbers]) for name in ("oof", "test")
    )
    artefacts.write_table(oof, run.folder / "oof.parquet")
    artefacts.write_table(test, run.folder / "test.parquet")
    scores = _scores(oof, run.task) | {"experiment": run.name}
    scores["nested_epoch_score"] = _nested_epoch_score(run)
    scores["people"] = int(oof["person"].nunique())
    scores["test_photos_used"] = uses_test_photos(str(run.folder.parent), run.params)
    scores["corrections_without_effect"] = corrections_without_effect
    scores["commit"] = artefacts.git_commit()
    artefacts.write_json(scores, run.folder / "metrics.json")
    return scores


def _scores(oof: pd.DataFrame, task: Task) -> dict:
    if oof.empty:
        return {"oof_score": None, "metric": task.metric, "folds": []}
    overall, folds = metrics.scores(oof, task), metrics.by_fold(oof, task)
    limits = [intervals.limits(part, task) for _, part in oof.groupby("fold")]
    folds = pd.concat(
        [folds.iloc[:, :2], pd.DataFrame(limits, folds.index), folds.iloc[:, 2:]], axis=1
    )
    first = {"oof_score": overall.pop(task.metric), "metric": task.metric}
    rows = folds.reset_index().to_dict(orient="records")
    return {**first, **intervals.limits(oof, task), "folds": rows, **overall}


def _nested_epoch_score(run: Run) -> float | None:
    """Return the mean over folds of the score at the epoch that is best in the other folds.

    None where there is one fold, or nobody is validated.
    """
    nested = leaks.epoch_choice(run.histories())["nested"]
    return None if nested.isna().all() else float(nested.mean())


def score_table(scores: dict) -> pd.DataFrame:
    """Return a row per fold and one for all out-of-fold photos: metric, accuracy, attributes.

    ``low`` to ``high`` is the metric's interval over people.
    """
    if not scores.get("folds"):
        why = "nobody was validated" if scores else "none yet: folds are still to be trained"
        return pd.DataFrame({"score": [why]})
    named = {**scores, "fold": "out-of-fold", scores["metric"]: scores["oof_score"]}
    table = pd.DataFrame([*scores["folds"], named], columns=list(scores["folds"][0]))
    return table.set_index("fold").drop(columns="photos")


def starting_weights(runs_dir: str, init_from: str, person_folds: pd.Series) -> Run | None:
    """Return the run whose weights training starts from (None for "").

    ArtefactError when its folds would leak: a fold's model may only go on in the same fold,
    elsewhere it has been trained on the people who are validated now.
    """
    if not init_from:
        return None
    run = load(runs_dir, init_from)
    if (person_folds < 0).all():
        return run  # nobody is validated, so nobody can be known
    before = run.oof().groupby("person")["fold"].first()
    moved = [person for person, fold in before.items() if person_folds.get(person, fold) != fold]
    unseen = person_folds.index[(person_folds >= 0) & ~person_folds.index.isin(before.index)]
    if moved or len(unseen):
        raise ArtefactError(
            f"init_from={init_from!r} was trained on other folds ({len(moved)} people moved, "
            f"{len(unseen)} new here): its models may know the people validated here. Give the "
            "same data, seed, split and fold_count, or no init_from."
        )
    return run


def any_used_test_photos(found: Sequence[Run]) -> bool:
    """Tell whether one of some runs learned from test photos."""
    return any(run.metrics()["test_photos_used"] for run in found)


def uses_test_photos(runs_dir: str, params: Mapping) -> bool:
    """Tell whether a run, or one that it started from, learned from pseudo-labelled test photos."""
    if params["pseudo_labels"] and not params["pseudo_data"]:
        return True
    if params["pseudo_labels"] and _labelled_by_test_photos(params):
        return True
    before = params["init_from"]
    return bool(before) and load(runs_dir, before).metrics()["test_photos_used"]


def _labelled_by_test_photos(params: Mapping) -> bool:
    """Tell whether a run that labelled other photos had learned from test photos itself."""
    path = artefacts.resolve(params["submissions_dir"]) / f"{params['pseudo_labels']}.json"
    return json.loads(path.read_text())["test_photos_used"]
