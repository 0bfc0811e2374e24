"""Time to quality: minutes until the recipe scores what a plain loop scores at its end.

Both learn the same synthetic people from the same crops, start from the same weights, and are
scored after each epoch on the same other people.
"""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import pandas as pd
import torch
from torch import nn
from torchvision.transforms.functional import center_crop

from lib.artefacts import resolve
from lib.bench import training
from lib.bench.turns import timed
from lib.data import folds, index
from lib.demo import people
from lib.face.faces import build_faces
from lib.learn import recipe, training_set
from lib.learn.precision import chosen
from lib.progress import progress
from lib.score import metrics, predict, runs
from lib.task.attributes import LABEL, Task
from lib.textfiles import read_yaml

FOLD, FOLDS = 0, 2  # half of the people are trained on, the other half is scored


class Trial(NamedTuple):
    """People to learn from and people to be scored on; ``params`` are those of the recipe."""

    params: dict
    task: Task
    data: training_set.TrainingSet
    training: pd.DataFrame
    validation: pd.DataFrame
    folder: Path


def trial(recipe_file: str, task: Task, count: int, folder: Path) -> Trial:
    """Make ``count`` hard synthetic people below ``folder``, and read the recipe's parameters."""
    defaults, given = training.parameters(), read_yaml(resolve(recipe_file))
    params = defaults | {name: given[name] for name in given.keys() & defaults.keys()}
    data_dir, work_dir = str(folder / "data"), str(folder / "work")
    params |= {"data_dir": data_dir, "work_dir": work_dir, "task": task.name}
    people.make(data_dir, count, eval_people=6, hard=True)
    images, _ = index.build_images(data_dir, work_dir, task, "competition", {})
    build_faces(images, data_dir, work_dir)
    data = training_set.load(params, task)
    assigned = folds.assign(folds.balanced_over(data.recorded, task), task, "holdout", FOLDS, 0)
    return Trial(params, task, data, *folds.divide(data.recorded, assigned, FOLD), folder)


def ours(what: Trial) -> pd.DataFrame:
    """Train the recipe; return the minutes passed and the moving average's score by epoch.

    Minutes count training and scoring.
    """
    params, task, data = what.params, what.task, what.data
    made = recipe.model(params, task, FOLD)
    precision = chosen(recipe.choose_precision(params, made, what.folder / "precision.csv"))
    sources = training_set.sources(params, data, what.training.index)
    manager = recipe.accelerator(params, precision)
    batches = recipe.epochs(params, task, sources, manager, precision, FOLD)
    learner = recipe.learner(params, task, sources, batches, made)
    columns = recipe.columns(params, task)
    score = predict.scorer(data.crops, what.validation, task, columns, precision)
    histories: list[pd.DataFrame] = []
    recipe.fit(params, learner, batches, what.folder / "ours", score, histories.append)
    history = histories[-1]
    return pd.DataFrame({"minutes": history["seconds"].cumsum() / 60, "score": history["score"]})


def plain(what: Trial) -> pd.DataFrame:
    """Train the loop that people write first, as many epochs; return minutes and score by epoch.

    Minutes count training alone.
    """
    size, (name,) = what.params["image_size"], what.params["backbone"]
    folder = write_classes(what, what.training, what.folder / "plain")
    model = training.plain_model(folder, name, what.params["pretrained"])
    batch = what.params["batch_size"]
    steps = math.ceil(len(what.training) / batch)
    epoch = training.plain_epoch(folder, model, size, batch, steps)
    rows, seconds = [], 0.0
    for _ in progress(range(what.params["epochs"]), "plain loop", unit="epoch"):
        seconds += timed(epoch)[0]
        rows.append((seconds / 60, _plain_score(what, model, folder)))
    return pd.DataFrame(rows, columns=["minutes", "score"])


def write_classes(what: Trial, photos: pd.DataFrame, folder: Path) -> Path:
    """Write crops as PNG files into a folder per label, as ImageFolder wants them."""
    crops = what.data.crops
    for row, label in zip(crops.rows(photos.index), photos[LABEL], strict=True):
        path = folder / f"{label:03d}" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), crops.pixels[row][:, :, ::-1])
    return folder


@torch.inference_mode()
def _plain_score(what: Trial, model: nn.Module, folder: Path) -> float:
    """Return a plain model's score on the validated people, from central cuts of their crops."""
    crops, (height, width) = what.data.crops, what.params["image_size"]
    pixels = torch.from_numpy(crops.pixels[crops.rows(what.validation.index)])
    photos = center_crop(pixels.permute(0, 3, 1, 2), [height, width])
    batches = (part / 127.5 - 1 for part in photos.split(predict.BATCH_SIZE))
    guess = torch.cat([model.eval()(part).softmax(1) for part in batches]).double()
    columns = what.task.columns(LABEL)
    learned = [columns[int(name)] for name in sorted(path.name for path in folder.iterdir())]
    table = pd.DataFrame(guess.numpy(), what.validation.index, learned)
    table = table.reindex(columns=columns, fill_value=0.0)
    return metrics.score(runs.oof_table(table, what.validation, FOLD), what.task)


def race(recipe_file: str, task: Task, count: int, folder: Path) -> dict[str, pd.DataFrame]:
    """Return minutes and score by epoch of the recipe and of the plain loop."""
    what = trial(recipe_file, task, count, folder)
    return {"recipe": ours(what), "plain loop": plain(what)}


def reached(ours: pd.DataFrame, plain: pd.DataFrame) -> float:
    """Return the minutes until the recipe first scores what the plain loop ends with, or NaN."""
    there = ours["minutes"][ours["score"] >= plain["score"].iloc[-1]]
    return there.iloc[0] if len(there) else math.nan
