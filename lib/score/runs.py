"""A run is a folder: ``runs/<experiment>/`` with its parameters, a folder a fold, and tables of predictions.

A name belongs to one set of parameters. A fold is finished when its prediction tables are there; they are written last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from lib import artefacts
from lib.errors import ArtefactError, nearest
from lib.score import metrics

NOT_PART_OF_A_RUN = ("folds", "workers", "compiled")  # say how a run is worked through, not what comes out


@dataclass(frozen=True)
class Run:
    """One experiment's folder and the parameters that made it."""

    folder: Path
    params: dict

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.name

    def fold(self, fold: int) -> Path:
        """Return the folder of a fold."""
        return self.folder / f"fold{fold}"

    def finished(self, fold: int) -> bool:
        """Tell whether a fold has been trained and its predictions written."""
        return (self.fold(fold) / "test.parquet").exists()

    def unfinished(self, folds: list[int]) -> list[int]:
        """Return those of ``folds`` that are still to be trained."""
        return [fold for fold in folds if not self.finished(fold)]

    @property
    def folds(self) -> list[int]:
        """The finished folds."""
        return sorted(int(path.parent.name[4:]) for path in self.folder.glob("fold*/test.parquet"))

    def histories(self) -> dict[int, pd.DataFrame]:
        """Return the history of each fold that has been trained, or begun."""
        paths = sorted(self.folder.glob("fold*/history.csv"))
        return {int(path.parent.name[4:]): pd.read_csv(path) for path in paths}

    def metrics(self) -> dict:
        """Return metrics.json."""
        return json.loads((self.folder / "metrics.json").read_text())

    def oof(self) -> pd.DataFrame:
        """Return the out-of-fold table."""
        return pd.read_parquet(self.folder / "oof.parquet")

    def test(self) -> pd.DataFrame:
        """Return the test table: a row a photo and fold."""
        return pd.read_parquet(self.folder / "test.parquet")


def start(runs_dir: str, params: Mapping) -> Run:
    """Open ``runs_dir/<experiment>`` for writing; ArtefactError when the name holds a run with other parameters."""
    run = Run(artefacts.resolve(runs_dir) / params["experiment"], dict(params))
    path = run.folder / "params.yaml"
    if any(run.folder.glob("fold*/*.pt")):
        _check_same(run.name, yaml.safe_load(path.read_text()), run.params)
    else:  # nothing is trained yet, so nothing is lost: a name must not be spent on a slip
        (run.folder / "precision.csv").unlink(missing_ok=True)
    with artefacts.atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(run.params, sort_keys=False))
    return run


def _check_same(name: str, old: dict, new: dict) -> None:
    differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - set(NOT_PART_OF_A_RUN)
    if differing:
        changes = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in sorted(differing))
        raise ArtefactError(
            f"experiment={name!r} holds a run with other parameters ({changes}). "
            "Nothing is overwritten: choose another experiment name, or delete that run's folder."
        )


def load(runs_dir: str, name: str) -> Run:
    """Return a finished run; ArtefactError names the runs that there are."""
    folder = artefacts.resolve(runs_dir) / name
    if not (folder / "metrics.json").exists():
        there = sorted(path.parent.name for path in folder.parent.glob("*/metrics.json"))
        raise ArtefactError(
            f"run {name!r} is not finished in {runs_dir!r}{nearest(name, there)}; finished: {', '.join(there) or 'none'}. "
            "Train it with notebook 03 first."
        )
    return Run(folder, yaml.safe_load((folder / "params.yaml").read_text()))


def finish(run: Run, fold_numbers: list[int]) -> dict:
    """Put the folds' tables together, score them and write metrics.json; an empty dict while folds are to be trained."""
    if run.unfinished(fold_numbers):
        return {}
    oof, test = (
        pd.concat([pd.read_parquet(run.fold(fold) / f"{name}.parquet") for fold in fold_numbers]) for name in ("oof", "test")
    )
    artefacts.write_table(oof, run.folder / "oof.parquet")
    artefacts.write_table(test, run.folder / "test.parquet")
    scores = _scores(oof) | {
        "experiment": run.name,
        "people": int(oof["person"].nunique()),
        "test_photos_used": uses_test_photos(run.folder.parent, run.params),
        "commit": artefacts.git_commit(),
    }
    artefacts.write_json(scores, run.folder / "metrics.json")
    return scores


def _scores(oof: pd.DataFrame) -> dict:
    if oof.empty:
        return {"oof_macro_f1": None, "folds": []}
    overall, folds = metrics.scores(oof), metrics.by_fold(oof).reset_index()
    return {"oof_macro_f1": overall.pop("macro_f1"), "folds": folds.to_dict(orient="records"), **overall}


def score_table(scores: dict) -> pd.DataFrame:
    """Return a row a fold and one for all out-of-fold photos: macro F1, accuracy, macro F1 by attribute."""
    if not scores.get("folds"):
        return pd.DataFrame({"score": ["none yet: folds are still to be trained" if not scores else "nobody was validated"]})
    overall = {
        "fold": "out-of-fold",
        "macro_f1": scores["oof_macro_f1"],
        **{k: v for k, v in scores.items() if k in scores["folds"][0]},
    }
    return pd.DataFrame([*scores["folds"], overall]).set_index("fold").drop(columns="photos")


def starting_weights(runs_dir: str, init_from: str, person_folds: pd.Series) -> Run | None:
    """Return the run whose weights training starts from (None for ""); ArtefactError when its folds would leak.

    A fold's model may only go on in the same fold: elsewhere it has been trained on the people validated now.
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
            f"init_from={init_from!r} was trained on other folds ({len(moved)} people moved, {len(unseen)} new here): "
            "its models may know the people validated here. Give the same data, seed, split and fold_count, or no init_from."
        )
    return run


def uses_test_photos(runs_dir: str, params: Mapping) -> bool:
    """Tell whether a run, or one that it started from, was trained on pseudo-labelled test photos."""
    if params["pseudo_labels"]:
        return True
    return bool(params["init_from"]) and load(runs_dir, params["init_from"]).metrics()["test_photos_used"]
