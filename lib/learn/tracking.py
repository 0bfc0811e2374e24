"""Trackers: epochs, parameters and figures of a run for tensorboard, wandb or mlflow.

accelerate's trackers do the work, in files below ``runs/<experiment>/tracking/``; nothing is sent
anywhere. Who wants a server sets WANDB_MODE=online or MLFLOW_TRACKING_URI. A fold is tracked as a
run of its own, and what comes out of all folds as one more, ``out-of-fold``.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker
from matplotlib.figure import Figure
from PIL import Image

from lib.errors import ParameterError, pick

FOLDER = "tracking"  # in the run's folder
SERVER = os.environ.get("MLFLOW_TRACKING_URI", "")  # mlflow itself sets it later


class _TensorBoard(TensorBoardTracker):
    def __init__(self, folder: Path, experiment: str, name: str):
        super().__init__(name, logging_dir=str(folder))

    def log_figure(self, name: str, figure: Figure) -> None:
        self.log_images({name: _pixels(figure)[None]}, step=0, dataformats="NHWC")


class _WandB(WandBTracker):
    def __init__(self, folder: Path, experiment: str, name: str):
        mode = os.environ.get("WANDB_MODE", "offline")
        names = {"name": f"{experiment}-{name}", "group": experiment}
        super().__init__("facefold", dir=str(folder), mode=mode, **names)

    def log_figure(self, name: str, figure: Figure) -> None:
        self.log_images({name: [_pixels(figure)]})


class _MLflow(MLflowTracker):
    def __init__(self, folder: Path, experiment: str, name: str):
        import mlflow

        mlflow.set_tracking_uri(SERVER or f"sqlite:///{folder / 'mlflow.db'}")
        files = None if SERVER else (folder / "artifacts").as_uri()
        super().__init__(experiment, logging_dir=files, run_name=name)

    def log_figure(self, name: str, figure: Figure) -> None:
        super().log_figure(figure, f"{name}.png")


class _None(GeneralTracker):
    def __init__(self, folder: Path, experiment: str, name: str):
        super().__init__(_blank=True)

    def log_figure(self, name: str, figure: Figure) -> None:
        """Do nothing."""


TRACKERS: dict[str, Any] = {  # each a package of this name, except none
    "none": _None,
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
}


def check(name: str) -> None:
    """Raise a ParameterError unless the tracker is known and its package is installed."""
    if pick(TRACKERS, name, "tracker") is not _None and find_spec(name) is None:
        raise ParameterError(
            f"tracker={name!r} needs the package {name}, which is not installed: "
            f".venv/bin/python -m pip install {name}, or take tensorboard or none"
        )


@contextmanager
def started(params: Mapping, run_folder: Path, name: str) -> Iterator[Any]:
    """Yield a tracker with the run's parameters, started as ``name``; it ends with the block."""
    folder = (run_folder / FOLDER).absolute()
    if params["tracker"] != "none":
        folder.mkdir(parents=True, exist_ok=True)
    tracker = TRACKERS[params["tracker"]](folder, params["experiment"], name)
    tracker.start()
    tracker.store_init_configuration({key: _plain(value) for key, value in params.items()})
    try:
        yield tracker
    finally:
        tracker.finish()


@contextmanager
def epochs(
    params: Mapping, run_folder: Path, fold: int, also: Callable[[pd.DataFrame], None]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield what a fold calls after each epoch: it tracks the epochs that are new, then ``also``.

    A fold that is continued is tracked from its first epoch on.
    """
    known = set()

    def after_epoch(history: pd.DataFrame) -> None:
        for row in history.to_dict("records"):
            if row["epoch"] not in known:
                known.add(row["epoch"])
                tracker.log({key: float(value) for key, value in row.items()}, step=row["epoch"])
        also(history)

    with started(params, run_folder, f"fold{fold}") as tracker:
        yield after_epoch


def results(
    params: Mapping, run_folder: Path, scores: Mapping, figures: Mapping[str, Figure | None]
) -> None:
    """Track what came out of all folds: scores (numbers of metrics.json) and figures by name."""
    numbers = {key: float(value) for key, value in scores.items() if type(value) in (int, float)}
    if numbers:
        with started(params, run_folder, "out-of-fold") as tracker:
            tracker.log(numbers, step=0)
            for name, figure in figures.items():
                if figure is not None:
                    tracker.log_figure(name, figure)


def _plain(value: Any) -> Any:
    """Return a parameter as trackers take it: lists and mappings as text."""
    return str(value) if isinstance(value, (list, dict)) else value


def _pixels(figure: Figure) -> np.ndarray:
    """Return a figure as pixels (height, width, 3), uint8."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))
