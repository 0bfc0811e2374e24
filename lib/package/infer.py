"""Photos to a submission by a sealed package: detect, crop, predict, vote, decide, check.

``python -m lib.package.infer --photos FOLDER --sample CSV``, run in the package's own folder. Each
batch of photos goes through all of it in one thread, so that decoding, detection and the forward
passes of all folds overlap, and a batch's crops are still in the cache when the next fold wants
them. What is computed is what the notebooks compute, by the same functions.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import nn

from lib import PROJECT
from lib.artefacts import file_hash
from lib.data.audit import measure
from lib.data.index import scan
from lib.data.table import by_stem
from lib.errors import DataError, FacefoldError, ParameterError, some
from lib.face import crops, faces
from lib.learn import fusion, recipe
from lib.learn.precision import chosen
from lib.package import looks, manifest, onnx
from lib.package.looks import Looks
from lib.package.voting import voted
from lib.progress import progress
from lib.score import decisions, predict, runs, submission
from lib.score.between import Between
from lib.score.runs import Run
from lib.task.attributes import Task
from lib.task.tables import normalised
from lib.workers import even_shares, thread_pool

FACTS = "package.json"  # in a package: everything that is no file of its own
BATCH = 32  # photos that a thread takes through all of it at once


class Faces(NamedTuple):
    """How faces are found: the detector, and the box in shares of a photo where there is none."""

    detector: str
    fallback: tuple[float, ...]


class Pictures(NamedTuple):
    """What models see of a photo: the face, and the parameters ``crops.GEOMETRY`` in order."""

    faces: Faces
    geometry: tuple


class Model(NamedTuple):
    """One checkpoint, ready to predict the pictures that it was trained on."""

    run: str
    fold: str
    pictures: Pictures
    probabilities: Callable[[np.ndarray], np.ndarray]
    columns: list[str]


class Sealed:
    """An open package: its facts, its runs, and the task that they share.

    ``onnx``: models are run by onnxruntime. ArtefactError if a file is not as it was sealed,
    ParameterError if there are no ONNX models.
    """

    def __init__(self, folder: str | Path = PROJECT, onnx: bool = False):
        self.onnx, self.folder = onnx, Path(folder).resolve()
        manifest.check(self.folder)
        self.facts = json.loads((self.folder / FACTS).read_text("utf-8"))
        if onnx and not self.facts["onnx"]:
            raise ParameterError(
                f"{self.folder} has no ONNX models: make it by python -m lib.package --onnx, or "
                "leave --onnx out"
            )
        self.runs, self.task = runs.load_all(str(self.folder / "runs"), self.facts["runs"])

    def models(self) -> list[Model]:
        """Return every checkpoint of every run, on the device."""
        return [
            self._model(run, fold, path)
            for name, run in self.runs.items()
            for fold, path in self.facts["checkpoints"][name].items()
        ]

    def looks(self) -> Looks | None:
        """Return what tells photos of one person; None where they are not judged together."""
        network = self.facts["network"]
        return looks.load(self.folder, network) if network else None

    def _model(self, run: Run, fold: str, path: str) -> Model:
        how, params = self.facts["faces"][run.name], run.params
        geometry = tuple(crops.geometry(params).values())
        return Model(
            run=run.name,
            fold=fold,
            pictures=Pictures(Faces(how["detector"], tuple(how["fallback"])), _frozen(geometry)),
            probabilities=self._probabilities(run, path),
            columns=recipe.columns(params, self.task),
        )

    def _probabilities(self, run: Run, path: str) -> Callable[[np.ndarray], np.ndarray]:
        if self.onnx:
            return onnx.reader(self.folder / onnx.file(path))
        precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
        return partial(predict.forward, self._viewed(run, path), precision=precision)

    def _viewed(self, run: Run, path: str) -> nn.Module:
        model = recipe.untrained(run.params, self.task)
        model.load_state_dict(load_file(self.folder / path))
        if self.facts["folded"][path]:
            fusion.fuse(model.eval(), torch.zeros(1, 3, *run.params["image_size"]))
        model = model.eval().to(PartialState().device)
        return predict.with_views(model, self.facts["tta"], run.params["image_size"])


def _frozen(values: tuple) -> tuple:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


class Answers(NamedTuple):
    """The voted table, the same after the decision, and the photos that could not be read."""

    table: pd.DataFrame
    decided: pd.DataFrame
    lost: list[str]


def list_photos(folder: Path, sample: Path | None, task: Task) -> pd.Series:
    """Return the file of each photo by its id, in order; "" where there is none.

    The ids of a sample submission are paths below ``folder``, or names without suffix. Without a
    sample, every photo of the folder is listed, its path is its id.
    """
    found = scan(folder, ".", "give the folder of the photos")
    found = found[found.photo & ~found.link]
    paths = (found.folder + "/" + found.name_).str.lstrip("/")
    ids = submission.sample_ids(sample, task) if sample else paths
    index = pd.Index(ids, name="key", dtype=str)
    files = index.to_series().where(index.isin(paths), index.map(by_stem(found)))
    return files.fillna("")


def answer(sealed: Sealed, folder: Path, files: pd.Series, strict: bool = False) -> Answers:
    """Predict, vote and decide photos: ``files`` below ``folder`` by id.

    A photo that is missing or cannot be read is answered by the shares of the classes among the
    training photos, and is listed; ``strict`` refuses it by a DataError.
    """
    known_looks = sealed.looks()
    tables, found = predict_photos(sealed.models(), known_looks, folder, files, sealed.task)
    seen = next(iter(tables.values())).index
    lost = list(files.index.difference(seen, sort=False))
    if lost and (strict or seen.empty):
        raise DataError(
            f"{folder}: {some(lost, 'photos')} are missing or cannot be read: copy them again"
            + (", or leave strict out" if strict else "")
        )
    facts, task = sealed.facts, sealed.task
    oof = {name: run.oof() for name, run in sealed.runs.items() if name not in facts["finals"]}
    between = Between(facts["calibrate"], known_looks and known_looks.weights(found))
    known, table = voted(facts, oof, tables, task, between)
    prior = pd.DataFrame(facts["prior"], pd.Index(lost, name="key"))
    table = pd.concat([table, prior[list(table)]]) if lost else table
    return Answers(table, decisions.decide(known, table, task, facts["decision"]), lost)


def predict_photos(
    models: Sequence[Model], known: Looks | None, folder: Path, files: pd.Series, task: Task
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Return each run's test table of the photos that can be read, and their looks if ``known``.

    A test table has a row per photo and fold.
    """
    workers = os.cpu_count() or 1
    batches = even_shares(np.arange(len(files)), BATCH, workers)
    work = partial(_predict_batch, models, known, folder, task)
    with (
        thread_pool(workers) as pool,
        progress(total=len(files), desc="photos", unit="photo") as bar,
    ):
        found = []
        for batch, rows in zip(
            batches, pool.map(work, [files.iloc[b] for b in batches]), strict=True
        ):
            found.append(rows)
            bar.update(len(batch))
    *by_model, seen = [pd.concat(parts) for parts in zip(*found, strict=True)]
    names = list(dict.fromkeys(model.run for model in models))
    pairs = list(zip(models, by_model, strict=True))
    tables = {name: pd.concat([table for m, table in pairs if m.run == name]) for name in names}
    return tables, seen


def _predict_batch(
    models: Sequence[Model], known: Looks | None, folder: Path, task: Task, files: pd.Series
) -> list[pd.DataFrame]:
    """Return a table by model, and looks, of those photos of a batch that can be read."""
    images = pd.DataFrame([measure(str(folder / file)) for file in files], files.index)
    images = images.reindex(columns=["status", "width", "height"]).assign(file=files)
    images = images[(images.status == "ok") & (images.file != "")]
    pictures = {model.pictures for model in models}
    found = {
        way: faces.find_faces(images, folder, way.detector, np.array(way.fallback))
        for way in {each.faces for each in pictures}
    }
    pixels = {
        each: np.array(crops.preview(images, found[each.faces], folder, *each.geometry), np.uint8)
        for each in pictures
    }
    seen = pd.DataFrame(index=images.index)
    if known:
        seen = known.of(folder / images.file, found[models[0].pictures.faces])
    return [*(_table(model, pixels[model.pictures], images.index, task) for model in models), seen]


def _table(model: Model, pixels: np.ndarray, keys: pd.Index, task: Task) -> pd.DataFrame:
    empty = np.zeros((0, len(model.columns)))
    values = model.probabilities(pixels) if len(keys) else empty
    table = pd.DataFrame(values, keys, model.columns)
    return normalised(table, task).assign(fold=model.fold)


def write(sealed: Sealed, answers: Answers, files: pd.Series, path: Path) -> str:
    """Write and check a submission; return in a sentence what it is."""
    folder, task = path.parent.resolve(), sealed.task
    made = submission.write(
        path.stem, answers.table, list(files.index), task, folder, answers.decided
    )
    same = file_hash(made) == sealed.facts["sha256"]
    row = f"byte for byte the submission {sealed.facts['submission']!r}"
    other = f"other photos, or other answers, than the submission {sealed.facts['submission']!r}"
    lost = f"; answered by the prior: {some(answers.lost, 'photos')}" if answers.lost else ""
    return f"{made}: valid, {len(files)} rows, {row if same else other}{lost}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    purpose = "Predict photos by a sealed package and write a checked submission."
    parser = argparse.ArgumentParser("python -m lib.package.infer", description=purpose)
    add = parser.add_argument
    add("--photos", type=Path, metavar="FOLDER", required=True, help="folder of the photos")
    add("--sample", type=Path, metavar="CSV", help="lists the photos; left out: all of the folder")
    add("--out", type=Path, metavar="CSV", default=Path("submission.csv"))
    add("--strict", action="store_true", help="refuse photos that are missing or cannot be read")
    add("--onnx", action="store_true", help="run the models by onnxruntime, on the processor")
    options = parser.parse_args(arguments)
    try:
        sealed = Sealed(onnx=options.onnx)
        files = list_photos(options.photos.resolve(), options.sample, sealed.task)
        answers = answer(sealed, options.photos.resolve(), files, options.strict)
        print(write(sealed, answers, files, options.out))
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
