"""Small pictures of a run for the page of all runs: learning curves as SVG, confusions as PNG.

The pictures of a run are kept until one of its files changes, so that the page is soon made again.
"""

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib import artefacts
from lib.explain.compare import UNREADABLE
from lib.score import metrics, runs
from lib.score.runs import Run
from lib.task.tables import attributes

KEPT = ".index.json"  # in the folder of runs: the pictures by run, and a hash of what they are from
MADE_FROM = ("fold*/history.csv", "oof.parquet", "metrics.json", "task.yaml")
WIDTH, HEIGHT = 60, 40  # of a panel of curves; a line has at most a point per unit of width
DARK = (0, 34, 78)  # the colour of 100 % (RGB); 0 % is white


def of_runs(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    """Return the pictures of runs by name; those whose files have not changed are not made again.

    A run has ``curves`` (SVG, "" before its first epoch), ``confusions`` (a text and the data URI
    of a PNG for each attribute; none before it is finished), and ``fault``: why they are missing.
    """
    path = folder / KEPT
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept = {name: _of_run(folder / name, before.get(name, {})) for name in names}
    if kept != before:
        artefacts.write_json(kept, path)
    return kept


def _of_run(folder: Path, before: dict) -> dict:
    files = [Path(__file__), *(path for name in MADE_FROM for path in sorted(folder.glob(name)))]
    stats = [path.stat() for path in files]
    stamp = artefacts.fingerprint([[stat.st_size, stat.st_mtime_ns] for stat in stats])
    return before if before.get("stamp") == stamp else {"stamp": stamp, **_made(folder)}


def _made(folder: Path) -> dict:
    made: dict = {"curves": "", "confusions": [], "fault": ""}
    try:
        made["curves"] = curves([pd.read_csv(path) for path in folder.glob("fold*/history.csv")])
        if (folder / "metrics.json").exists():
            made["confusions"] = confusions(runs.load(str(folder.parent), folder.name))
    except UNREADABLE as error:
        made["fault"] = str(error)
    return made


def curves(histories: list[pd.DataFrame]) -> str:
    """Return an SVG of two panels over the epochs, or "" without an epoch.

    The first one has the mean losses of the folds, in training (dashed) and validation; the second
    one has the validation score of each fold.
    """
    rows = pd.concat(histories) if histories else pd.DataFrame()
    if rows.empty:
        return ""
    loss = rows.groupby("epoch")[["loss", "valid_log_loss"]].mean()
    scores = [history.set_index("epoch")["score"] for history in histories]
    best = rows["score"].max()
    title = f"Losses and validation score: {len(loss)} epochs, {len(scores)} folds, best {best:.3f}"
    return (
        f'<svg viewBox="0 0 {2 * WIDTH + 6} {HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{_panel([loss[name] for name in loss])}"
        f'<g transform="translate({WIDTH + 6})">{_panel(scores)}</g></svg>'
    )


def _panel(lines: list[pd.Series]) -> str:
    """Return polylines of values by epoch, all on one scale that fills the panel."""
    lines = [line[np.isfinite(line)] for line in lines]
    every = pd.concat(lines)
    if every.empty:
        return ""
    first, last, low, high = every.index.min(), every.index.max(), every.min(), every.max()
    drawn = []
    for line in lines:
        line = line.iloc[np.linspace(0, len(line) - 1, min(len(line), WIDTH)).astype(int)]
        x = (line.index - first) / max(last - first, 1) * (WIDTH - 2) + 1
        y = (high - line) / (high - low or 1) * (HEIGHT - 2) + 1
        points = " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
        drawn.append(f'<polyline points="{points}"/>')
    return "".join(drawn)


def confusions(run: Run) -> list[dict[str, str]]:
    """Return a text and the data URI of a PNG for each attribute: true classes are the rows.

    A pixel is one cell, darker for a larger share of its row. Nobody validated: no picture.
    """
    oof = run.oof()
    if oof.empty:
        return []
    true, guess = metrics.truth(oof, run.task), metrics.predicted(oof, run.task)
    names = attributes(oof, run.task)
    return [
        _confusion(name, true[name], guess[name], len(run.task.classes(name))) for name in names
    ]


def _confusion(name: str, true: pd.Series, guess: pd.Series, size: int) -> dict[str, str]:
    counts = np.bincount(true * size + guess, minlength=size * size).reshape(size, size)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    right = np.trace(counts) / counts.sum()
    pixels = 255 - shares[..., None] * (255 - np.array(DARK))
    file = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"text": f"{name}: {right:.0%} right", "uri": uri}
