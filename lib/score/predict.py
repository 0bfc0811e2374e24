"""Predictions of a trained model as a table, with or without test-time augmentation (TTA)."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import ttach
from accelerate import PartialState
from torch import Tensor, nn

from lib import artefacts
from lib.data.index import load_images
from lib.errors import pick
from lib.face.crops import Crops, geometry, open_crops
from lib.learn import recipe
from lib.learn.models import PhotoModel
from lib.learn.precision import Precision, chosen
from lib.learn.training_set import with_crops
from lib.progress import progress
from lib.score import metrics
from lib.score.runs import Run, oof_table
from lib.task.attributes import Task
from lib.task.tables import normalised

BATCH_SIZE = 64  # photos per forward pass: no gradients, so more fit than in training

# Views of the stored crop, which is 9/8 of the image size; what is larger is then cut centrally.
SCALES = ttach.Scale([8 / 9, 1, 9 / 8], interpolation="bilinear", align_corners=False)
VIEWS: dict[str, Callable[[Sequence[int]], list]] = {
    "none": lambda image_size: [],
    "hflip": lambda image_size: [ttach.HorizontalFlip()],
    "multi_scale": lambda image_size: [SCALES],
    "five_crop": lambda image_size: [ttach.FiveCrops(*image_size)],
}


class CentralProbabilities(nn.Module):
    """Probabilities of the central cut of ``image_size``: the one tensor that ttach can average."""

    def __init__(self, model: PhotoModel, image_size: Sequence[int]):
        super().__init__()
        self.model, self.image_size = model, image_size

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, columns) of images (N, 3, H, W) at least as large as ``image_size``."""
        (height, width), (h, w) = images.shape[2:], self.image_size
        top, left = (height - h) // 2, (width - w) // 2
        return self.model.probabilities(images[:, :, top : top + h, left : left + w])


def with_views(model: PhotoModel, tta: str, image_size: Sequence[int]) -> nn.Module:
    """Return ``model`` averaged over the views of ``tta`` (a name of VIEWS)."""
    transforms = pick(VIEWS, tta, "tta")(image_size)
    central = CentralProbabilities(model, image_size).eval()
    return ttach.ClassificationTTAWrapper(central, ttach.Compose(transforms), merge_mode="mean")


@torch.inference_mode()
def forward(viewed: nn.Module, pixels: np.ndarray, precision: Precision) -> np.ndarray:
    """Return probabilities (N, columns) of stored crops (N, H, W, 3) uint8, through the views."""
    device = next(viewed.parameters()).device
    images = torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    images = images.contiguous(memory_format=precision.memory_format)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision.mixed_precision == "bf16"):
        return viewed(images).float().cpu().double().numpy()


def predict(
    model: PhotoModel,
    crops: Crops,
    keys: Sequence[str],
    columns: Sequence[str],
    precision: Precision,
    tta: str = "none",
    description: str = "predict",
) -> pd.DataFrame:
    """Return a table (index: key) of probability ``columns``, in which each part sums to 1."""
    viewed, rows = with_views(model, tta, crops.image_size), crops.rows(keys)
    values = np.zeros((len(rows), len(columns)))
    for start in progress(range(0, len(rows), BATCH_SIZE), description, unit="batch"):
        batch = slice(start, start + BATCH_SIZE)
        values[batch] = forward(viewed, crops.pixels[rows[batch]], precision)
    table = pd.DataFrame(values, pd.Index(keys, name="key"), list(columns))
    return normalised(table, model.task)


def viewed(run: Run, split: str, tta: str) -> pd.DataFrame:
    """Return a run's "oof" or "test" table, predicted by its fold checkpoints through ``tta``.

    Without TTA that is the table that the run has. A view's tables are kept in the run's folder.
    """
    if tta == "none":
        return run.table(split)
    pick(VIEWS, tta, "tta")
    return pd.concat([_viewed_fold(run, split, tta, fold) for fold in run.folds])


def _viewed_fold(run: Run, split: str, tta: str, fold: int) -> pd.DataFrame:
    path = run.fold(fold) / f"{split}_{tta}.parquet"
    table = artefacts.read_cache(path)
    if table is None:
        plain = run.fold_table(fold, split)
        crops = open_crops(artefacts.resolve(run.params["work_dir"]), **geometry(run.params))
        table = _by_fold(run, fold, crops, plain.index, tta, split)
        table = table.join(plain.drop(columns=list(table)))
        artefacts.write_table(table, path)
    return table


def _by_fold(
    run: Run, fold: int, crops: Crops, keys: Sequence[str], tta: str, photos: str
) -> pd.DataFrame:
    """Return what a fold's best model predicts; ``photos`` says of which, on the progress bar."""
    columns = recipe.columns(run.params, run.task)
    precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
    model = recipe.restore(run.params, run.task, run.fold(fold)).to(PartialState().device)
    what = f"{run.name} fold {fold} {photos} {tta}"
    return predict(model, crops, keys, columns, precision, tta, what)


def unlabelled(run: Run, tta: str, work_dir: str) -> pd.DataFrame:
    """Return a run's test table through ``tta``; of the photos in ``work_dir``, where it is given.

    Of those, the ones without a crop (they cannot be read) are left out. Nothing is kept.
    """
    if not work_dir:
        return viewed(run, "test", tta)
    folder = artefacts.resolve(work_dir)
    crops = open_crops(folder, **geometry(run.params))
    keys = with_crops(load_images(folder), crops, "eval").index
    tables = [
        _by_fold(run, fold, crops, keys, tta, folder.name).assign(fold=fold) for fold in run.folds
    ]
    return pd.concat(tables)


def scorer(
    crops: Crops, validation: pd.DataFrame, task: Task, columns: Sequence[str], precision: Precision
) -> Callable[[PhotoModel], dict[str, float]]:
    """Return a function that measures a model on validation photos by their official labels.

    It returns ``score``, the task's metric, and ``valid_log_loss``; NaN if nobody is validated.
    """

    def score(model: PhotoModel) -> dict[str, float]:
        keys = validation.index
        table = predict(model.eval(), crops, keys, columns, precision, description="validate")
        oof = oof_table(table, validation, 0)
        log_loss = -metrics.measure(oof, task, "log_loss")
        return {"score": metrics.score(oof, task), "valid_log_loss": log_loss}

    return score
