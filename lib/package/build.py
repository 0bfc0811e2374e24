"""Makes a package: everything that one row of the ledger needs, in a folder that is sealed last."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib import PROJECT, artefacts
from lib.artefacts import file_hash, resolve
from lib.data.index import load_images
from lib.errors import ArtefactError, DataError
from lib.face import faces
from lib.package import card, checkpoints, kaggle, looks, manifest, onnx, slim, wheels
from lib.package.infer import FACTS
from lib.score import ledger, predict, runs, same_person
from lib.score.between import Between
from lib.score.ensemble import Tables
from lib.score.runs import Run
from lib.task import attributes
from lib.task.attributes import LABEL, Task

OF_A_RUN = ("task.yaml", "precision.csv", "metrics.json")
OF_A_ROW = (  # what its JSON must say
    "runs", "finals", "outside", "other_photos", "weights", "tta", "metric", "calibrate",
    "group_test", "decision", "sha256",
)  # fmt: skip


def make(
    name: str,
    out: Path,
    submissions_dir: str = "submissions",
    runs_dir: str = "runs",
    way: str = "",
    answers: Path | None = None,
    download: bool = False,
    with_onnx: bool = False,
) -> dict:
    """Write the package of submission ``name`` to ``out``; return its facts.

    ``way`` and ``answers`` are those of ``lib.package.slim``; ``download`` fetches wheels,
    ``with_onnx`` writes models for onnxruntime too.
    ArtefactError if ``out`` exists, if the submission is not the one of the ledger or cannot be
    made from photos by these runs, or if a run of it is gone. Nothing is left behind when it ends
    early.
    """
    slim.check(way, answers)
    if out.exists():
        raise ArtefactError(f"{out} exists: choose another --out, or delete it")
    row = read_row(resolve(submissions_dir), name)
    members, task = runs.load_all(runs_dir, row["runs"])
    voters = {name: run for name, run in members.items() if name not in row["finals"]}
    oof = {name: predict.viewed(run, "oof", row["tta"]) for name, run in voters.items()}
    first = next(iter(voters.values()))
    found = same_person.find(first.params, row["group_test"])
    between = Between(row["calibrate"], found and found.weights)
    with artefacts.atomic(out) as folder:
        folder.mkdir()
        _copy_code(folder, task)
        for run in members.values():
            _copy_run(run, folder / "runs" / run.name)
        _write_known(oof, looks.known(first) if found else None, folder)
        facts = row | _predicting(members, task)
        facts["models"] = sum(len(run.folds) for run in voters.values())
        facts["network"] = looks.save_network(folder) if found else ""
        facts["onnx"] = with_onnx
        facts |= _models(members, oof, facts, way, answers, folder, between)
        artefacts.write_json(facts, folder / FACTS)
        wheels.write(folder, download, [onnx.PACKAGE] if with_onnx else [])
        card.write(folder, facts, members, oof, task, between)
        kaggle.write(folder, name)
        manifest.write(folder)
    return facts


def read_row(submissions: Path, name: str) -> dict:
    """Return what the JSON of a submission says, if its CSV is the one that the ledger has."""
    csv, path = submissions / f"{name}.csv", submissions / f"{name}.json"
    recorded = ledger.read(submissions)
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if photos := known.get("other_photos"):
        raise ArtefactError(
            f"{name!r} is no submission: it labels the photos of {photos!r} for pseudo-labels. "
            "Give the name of one that answers the test photos"
        )
    if not known or not csv.is_file() or name not in set(recorded["name"]):
        raise ArtefactError(
            f"{submissions} has no submission {name!r}: its ledger has "
            f"{', '.join(recorded['name']) or 'none'}. Notebook 04 makes one."
        )
    if missing := [fact for fact in OF_A_ROW if fact not in known]:
        raise ArtefactError(
            f"{path} was written by an earlier version of facefold (no {', '.join(missing)}): run "
            "notebook 04 again with these runs and parameters"
        )
    if others := known["outside"]:
        raise ArtefactError(
            f"submission {name!r} has members of other teams ({', '.join(others)}), whose models "
            "are not here: run notebook 04 without `outside`, under another submission name"
        )
    if known["sha256"] != file_hash(csv):
        raise ArtefactError(f"{csv} is not the file that the ledger has: run notebook 04 again")
    return {"submission": name, "vote": known.pop("method"), **known}


def _copy_code(folder: Path, task: Task) -> None:
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "lib", folder / "lib", ignore=skipped)
    shutil.copy(PROJECT / "LICENSE", folder)
    definition = (attributes.TASKS / f"{task.name}.yaml").relative_to(PROJECT)
    (folder / definition).parent.mkdir(parents=True)
    shutil.copy(PROJECT / definition, folder / definition)


def anonymous(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return tables of training photos with numbers instead of the names of photos and people.

    Weights, regressions, offsets and groups are learned from them, and names do not matter there.
    Numbers keep the order of the names, so that folds over people are made alike.
    """
    keys = np.unique(np.concatenate([table.index for table in tables.values()]))
    people = np.unique(np.concatenate([table["person"] for table in tables.values()]))
    return {
        run: table.assign(person=np.searchsorted(people, table["person"])).set_axis(
            pd.Index(np.searchsorted(keys, table.index), name="key")
        )
        for run, table in tables.items()
    }


def _copy_run(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in OF_A_RUN:
        shutil.copy(run.folder / name, folder)
    artefacts.write_text(yaml.safe_dump(run.params, sort_keys=False), folder / "params.yaml")


def _write_known(oof: Tables, known: pd.DataFrame | None, folder: Path) -> None:
    """Write out-of-fold tables, and the looks of training photos, without names."""
    hidden = anonymous(oof if known is None else {**oof, looks.FILE: known})
    if known is not None:
        artefacts.write_table(hidden.pop(looks.FILE), folder / looks.FILE)
    for name, table in hidden.items():
        artefacts.write_table(table, folder / "runs" / name / "oof.parquet")


def _predicting(members: Mapping[str, Run], task: Task) -> dict:
    """Return what predicting needs besides models: how faces are found, and the prior."""
    return {
        "faces": {name: _faces(run) for name, run in members.items()},
        "prior": prior(next(iter(members.values())), task),
    }


def _models(
    members: Mapping[str, Run],
    oof: Tables,
    facts: Mapping,
    way: str,
    answers: Path | None,
    folder: Path,
    between: Between,
) -> dict:
    """Write the checkpoints that are kept.

    Return where they are, how many BatchNorms of each can be folded, and what ``way`` costs.
    """
    task, tta, finals = next(iter(members.values())).task, facts["tta"], facts["finals"]
    test = {name: predict.viewed(run, "test", tta) for name, run in members.items()}
    ids = next(iter(test.values())).index.unique()
    labels = slim.true_labels(answers, ids, task) if answers else pd.Series(dtype=int)
    kept = {
        name: slim.keep(run, "" if name in finals else way, labels, tta)
        for name, run in members.items()
    }
    paths: dict[str, dict[str, str]] = {}
    folded: dict[str, int] = {}
    for name, states in kept.items():
        paths[name] = {fold: checkpoints.save(state, folder) for fold, state in states.items()}
        for fold, state in states.items():
            path = paths[name][fold]
            folded[path] = checkpoints.foldable(members[name], state, tta)
            if facts["onnx"]:
                file = folder / onnx.file(path)
                onnx.export(members[name], state, folded[path] > 0, tta, file)
    cost = {}
    if way:
        fewer = {name: slim.table(members[name], kept[name], tta, ids) for name in kept}
        cost = slim.cost(facts, oof, test, fewer, labels, task, between)
    return {"checkpoints": paths, "folded": folded, "slim": {"way": way, **cost}}


def _faces(run: Run) -> dict:
    """Return how a run's faces were found: the detector, and the box where none was."""
    images, found = (load(run.params["work_dir"]) for load in (load_images, faces.load_faces))
    box = faces.typical_box(found, images).tolist()
    return {"detector": faces.detector_of(found, images), "fallback": box}


def prior(run: Run, task: Task) -> dict[str, float]:
    """Return the share of each class among the training photos, by column of a whole table."""
    labels = load_images(run.params["work_dir"])[LABEL].dropna().to_numpy(int)
    if not len(labels):
        raise DataError(f"{run.params['work_dir']} has no labelled photos, so there is no prior")
    classes = {LABEL: labels, **task.decode(labels)}
    shares: dict[str, float] = {}
    for part in task.parts():
        columns = task.columns(part)
        counts = np.bincount(classes[part], minlength=len(columns))
        shares |= dict(zip(columns, (counts / len(labels)).tolist(), strict=True))
    return shares
