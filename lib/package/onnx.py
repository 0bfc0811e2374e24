"""Checkpoints as ONNX models, views of the photo included: onnxruntime predicts without torch."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch.jit import TracerWarning

from lib.errors import ArtefactError, ParameterError
from lib.face import crops
from lib.face.geometry import stored_size
from lib.learn import fusion
from lib.learn.precision import chosen
from lib.package import checkpoints
from lib.package.checkpoints import PROBE, SAME, State
from lib.score import predict
from lib.score.runs import Run

PACKAGE = "onnxruntime"


def file(checkpoint: str | Path) -> Path:
    """Return the path of a checkpoint's ONNX model, next to it."""
    return Path(checkpoint).with_suffix(".onnx")


def export(run: Run, state: State, folded: bool, tta: str, path: Path) -> None:
    """Write weights as an ONNX model of stored crops (N, 3, H, W) in 0..255 to probabilities.

    ArtefactError if a probability of PROBE test photos differs from torch's by over SAME.
    """
    model, size = checkpoints.model(run, state), run.params["image_size"]
    if folded:
        fusion.fuse(model, checkpoints.example(run).to(PartialState().device))
    viewed = predict.with_views(model, tta, size).eval()
    pictures = torch.zeros(2, 3, *stored_size(size), device=PartialState().device)
    names = ["images", "probabilities"]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the new exporter needs one package more
        warnings.simplefilter("ignore", TracerWarning)  # sizes are constants, but for N
        torch.onnx.export(
            viewed, (pictures,), path, input_names=names[:1], output_names=names[1:],
            dynamic_axes={name: {0: "N"} for name in names}, dynamo=False,
        )  # fmt: skip
    _check(run, viewed, path)


def _check(run: Run, viewed: torch.nn.Module, path: Path) -> None:
    stored = crops.open_crops(run.params["work_dir"], **crops.geometry(run.params))
    pixels = stored.pixels[stored.rows(run.test().index.unique()[:PROBE])]
    precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
    change = np.abs(predict.forward(viewed, pixels, precision) - reader(path)(pixels)).max()
    if change > SAME:
        raise ArtefactError(
            f"run {run.name!r}: its ONNX model changes probabilities by {change:.2g}, accepted is "
            f"{SAME}: make the package without --onnx"
        )


def reader(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives probabilities (N, columns) of stored crops (N, H, W, 3) uint8, one thread.

    ParameterError without onnxruntime.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ParameterError(
            f"--onnx needs {PACKAGE}, which is not installed: install it, or leave --onnx out"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # each batch has a thread of its own
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(pixels: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
        return session.run(None, {"images": images})[0].astype(float)

    return forward
