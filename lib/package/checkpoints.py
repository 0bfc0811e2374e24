"""Checkpoints of a package: safetensors (weights only, no code), and what they predict."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from safetensors.torch import save as to_bytes
from torch import Tensor

from lib.face import crops
from lib.learn import fusion, recipe
from lib.learn.models import PhotoModel
from lib.learn.precision import chosen
from lib.score import predict
from lib.score.runs import Run

State = Mapping[str, Tensor]

FOLDER = "weights"  # in a package
PROBE = 256  # test photos on which folded BatchNorms must predict the same
SAME = 1e-5  # difference of probabilities at most


def of_fold(run: Run, fold: int) -> State:
    """Return the weights of a fold's best epoch."""
    return recipe.restore(run.params, run.task, run.fold(fold)).state_dict()


def model(run: Run, state: State) -> PhotoModel:
    """Return a run's model with these weights, in evaluation mode on the device."""
    made = recipe.untrained(run.params, run.task)
    made.load_state_dict(state)
    return made.eval().to(PartialState().device)


def save(state: State, folder: Path) -> str:
    """Write weights, named by their hash, and return the path; equal ones are one file."""
    data = to_bytes({name: tensor.contiguous() for name, tensor in state.items()})
    path = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / path).write_bytes(data)
    return path


def table(run: Run, model: PhotoModel, tta: str, keys: pd.Index) -> pd.DataFrame:
    """Return a model's predictions of photos that have crops, by the code of notebook 04."""
    stored = crops.open_crops(run.params["work_dir"], **crops.geometry(run.params))
    precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
    columns = recipe.columns(run.params, run.task)
    return predict.predict(model, stored, keys, columns, precision, tta, run.name)


def foldable(run: Run, state: State, tta: str) -> int:
    """Return how many BatchNorms can be folded; 0 where a probability would change by over SAME.

    Submitted probabilities are never computed in another way than before: 0.
    """
    if run.task.answer.format == "probabilities":
        return 0
    restored, keys = model(run, state), run.test().index.unique()[:PROBE]
    before = table(run, restored, tta, keys)
    count = fusion.fuse(restored, example(run).to(PartialState().device))
    change = np.abs(table(run, restored, tta, keys) - before).to_numpy().max()
    return count if change <= SAME else 0


def example(run: Run) -> Tensor:
    """Return an input of a run's model: one black picture."""
    return torch.zeros(1, 3, *run.params["image_size"])
