"""Predictions of a trained model: one table, with or without test-time augmentation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import ttach
from accelerate import PartialState
from torch import Tensor, nn
from tqdm import tqdm

from lib import artefacts
from lib.errors import pick
from lib.face.crops import Crops, open_crops
from lib.learn import models
from lib.learn.heads import columns as columns_of
from lib.learn.models import FaceModel
from lib.learn.precision import Precision, chosen
from lib.score import metrics
from lib.score.runs import Run

GEOMETRY = ("crop", "crop_margin", "background", "image_size")  # the parameters that say which crops a run saw
BATCH_SIZE = 64  # photos a forward pass: no gradients, so more fit than in training

# Views of the stored crop, which is 9/8 of the image size; what is larger than the image size is cut centrally afterwards.
VIEWS: dict[str, Callable[[Sequence[int]], list]] = {
    "none": lambda image_size: [],
    "hflip": lambda image_size: [ttach.HorizontalFlip()],
    "multi_scale": lambda image_size: [ttach.Scale([8 / 9, 1, 9 / 8], interpolation="bilinear", align_corners=False)],
    "five_crop": lambda image_size: [ttach.FiveCrops(*image_size)],
}


class CentralProbabilities(nn.Module):
    """One tensor out, as ttach needs: probabilities of the central cut of ``image_size``; ttach merges them as they are."""

    def __init__(self, model: FaceModel, image_size: Sequence[int]):
        super().__init__()
        self.model, self.image_size = model, image_size

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, classes) of images (N, 3, H, W) at least as large as ``image_size``."""
        (height, width), (h, w) = images.shape[2:], self.image_size
        top, left = (height - h) // 2, (width - w) // 2
        return self.model.probabilities(images[:, :, top : top + h, left : left + w])


def with_views(model: FaceModel, tta: str, image_size: Sequence[int]) -> nn.Module:
    """Return ``model`` averaged over the views of ``tta`` (a name of VIEWS): images in, probabilities out."""
    transforms = pick(VIEWS, tta, "tta")(image_size)
    central = CentralProbabilities(model, image_size).eval()
    return ttach.ClassificationTTAWrapper(central, ttach.Compose(transforms), merge_mode="mean") if transforms else central


@torch.inference_mode()
def predict(
    model: FaceModel,
    crops: Crops,
    keys: Sequence[str],
    columns: Sequence[str],
    precision: Precision,
    tta: str = "none",
    description: str = "predict",
) -> pd.DataFrame:
    """Return a table (index: key) of probability ``columns`` for photos by key; rows sum to 1."""
    device = next(model.parameters()).device
    viewed, rows = with_views(model, tta, crops.image_size), crops.rows(keys)
    parts = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision.mixed_precision == "bf16"):
        for start in tqdm(range(0, len(rows), BATCH_SIZE), description, unit="batch", leave=False, mininterval=0.5):
            pixels = torch.from_numpy(crops.pixels[rows[start : start + BATCH_SIZE]])
            images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
            parts.append(viewed(images.contiguous(memory_format=precision.memory_format)).float().cpu())
    values = torch.cat(parts).double().numpy() if parts else np.zeros((0, len(columns)))
    return pd.DataFrame(values / values.sum(axis=1, keepdims=True), pd.Index(keys, name="key"), list(columns))


def viewed(run: Run, part: str, tta: str) -> pd.DataFrame:
    """Return a run's ``part`` ("oof" or "test") predicted by its fold checkpoints through the views of ``tta``.

    Without TTA that is the table the run has. Tables are kept in the run's folder, so a view is computed once.
    """
    if tta == "none":
        return pd.read_parquet(run.folder / f"{part}.parquet")
    pick(VIEWS, tta, "tta")
    tables = [_viewed_fold(run, part, tta, fold) for fold in run.folds]
    return pd.concat(tables)


def _viewed_fold(run: Run, part: str, tta: str, fold: int) -> pd.DataFrame:
    path = run.fold(fold) / f"{part}_{tta}.parquet"
    if not path.exists():
        plain = pd.read_parquet(run.fold(fold) / f"{part}.parquet")
        columns = columns_of(run.params["task"])
        crops = open_crops(artefacts.resolve(run.params["work_dir"]), *(run.params[name] for name in GEOMETRY))
        precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
        model = models.restore(run.params, run.fold(fold)).to(PartialState().device)
        table = predict(model, crops, plain.index, columns, precision, tta, f"{run.name} fold {fold} {part} {tta}")
        artefacts.write_table(table.join(plain.drop(columns=columns)), path)
    return pd.read_parquet(path)


def oof_table(probabilities: pd.DataFrame, photos: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Add the fold, the official label and the person to validation predictions."""
    return probabilities.assign(fold=fold, label=photos["label"].astype(int), person=photos["person"])


def scorer(crops: Crops, validation: pd.DataFrame, columns: Sequence[str], precision: Precision) -> Callable[[nn.Module], dict]:
    """Return a function of a model: macro F1 (the ``score``) and log loss on validation photos by their official labels."""
    return partial(score, crops=crops, validation=validation, columns=columns, precision=precision)


def score(model: FaceModel, crops: Crops, validation: pd.DataFrame, columns: Sequence[str], precision: Precision) -> dict:
    """Return ``score`` (macro F1) and ``valid_log_loss``; NaN where nobody is validated."""
    if validation.empty:
        return {"score": float("nan"), "valid_log_loss": float("nan")}
    table = oof_table(predict(model.eval(), crops, validation.index, columns, precision, description="validate"), validation, 0)
    truth = metrics.truth(table)
    likelihood = metrics.probabilities(table).to_numpy()[np.arange(len(table)), truth]
    log_loss = -np.log(np.clip(likelihood, 1e-12, 1)).mean()
    return {"score": float(metrics.macro_f1(truth, metrics.predicted(table))), "valid_log_loss": float(log_loss)}


def write_fold(oof: pd.DataFrame, test: pd.DataFrame, folder: Path) -> None:
    """Write a fold's tables, test last: it marks the fold as finished; the recovery checkpoint goes."""
    artefacts.write_table(oof, folder / "oof.parquet")
    artefacts.write_table(test, folder / "test.parquet")
    (folder / "last.pt").unlink(missing_ok=True)
