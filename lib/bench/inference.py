"""Test photos predicted through views as notebook 04 does, and the forward passes alone."""

from collections.abc import Callable, Mapping

import pandas as pd
import torch

from lib import artefacts
from lib.learn import loop, recipe
from lib.learn.precision import chosen
from lib.score import predict, runs
from lib.score.predict import BATCH_SIZE
from lib.task.attributes import Task


def make_run(
    params: Mapping, task: Task, keys: pd.Index, probe: pd.DataFrame, folds: int
) -> runs.Run:
    """Write a finished run with untrained folds, whose test photos are ``keys``, and return it."""
    run = runs.start(params["runs_dir"], params, task)
    artefacts.write_table(probe.reset_index(), run.folder / "precision.csv")
    columns = recipe.columns(params, task)
    for fold in range(folds):
        model = recipe.model(params, task, fold)
        loop.save(model.state_dict(), run.fold(fold) / "best.pt")
        plain = pd.DataFrame(1 / len(columns), keys, columns).assign(fold=fold)
        artefacts.write_table(plain, run.fold(fold) / "test.parquet")
    return run


def our_views(run: runs.Run, tta: str) -> Callable[[], pd.DataFrame]:
    """Return a call that predicts a run's test photos through the views of ``tta``, all folds."""

    def views() -> pd.DataFrame:
        for fold in run.folds:
            (run.fold(fold) / f"test_{tta}.parquet").unlink(missing_ok=True)
        return predict.viewed(run, "test", tta)

    return views


def pure_views(run: runs.Run, photos: int, views: int) -> Callable[[], None]:
    """Return a call that takes as many forward passes on one batch in memory."""
    precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
    restored = [recipe.restore(run.params, run.task, run.fold(fold)) for fold in run.folds]
    folds = [model.to(memory_format=precision.memory_format) for model in restored]
    images = torch.rand(min(photos, BATCH_SIZE), 3, *run.params["image_size"]) * 255
    images = images.contiguous(memory_format=precision.memory_format)

    @torch.inference_mode()
    def passes() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.mixed_precision == "bf16"):
            for model in folds:
                for _ in range(views * photos // len(images)):
                    model(images)

    return passes
