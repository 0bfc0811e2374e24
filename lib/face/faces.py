"""Where the face is: MTCNN proposes, one policy chooses, and every photo gets a box and a status.

Photos are decoded at half size and looked at in batches; those without a sure face get a second look. Train and eval
photos pass through the same code and thresholds.
"""

import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.artefacts import fingerprint, resolve, write_table
from lib.data.photos import read
from lib.errors import ArtefactError
from lib.face import mtcnn
from lib.workers import even_shares, thread_pool

BOX = ["x0", "y0", "x1", "y1"]
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARKS = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
PLACES = [*BOX, *LANDMARKS]
RAW = [*BOX, "score", *LANDMARKS]  # what the detector says of one candidate

REDUCE = 2  # photos are decoded at half size: faces fill a third of them, and JPEG gives half size cheaply
# First and second look: px of the smallest face at that size (80 in the photo, a fifth of its width) and the thresholds of
# MTCNN's stages. The first look's are the package's but for the last, lowered so that the policy sees low scores. The
# second, for photos without a sure face, is lenient from the start, at scales between the first's.
LOOKS = ((40, (0.6, 0.7, 0.3)), (30, (0.4, 0.5, 0.3)))
SURE = 0.9  # the score from which a face is taken wherever it is; usual for MTCNN, and masked faces often miss it
NEAR = 0.25  # how far off the photo's centre a face of low score may be, in shares of the photo's width and height
SAME = 0.4  # overlap (IoU) from which two candidates are one face, seen at two scales
TYPICAL = (0.25, 0.3, 0.75, 0.7)  # fallback where no photo of the set has a face, in shares of the photo
BATCH = 32  # photos a pass at most: enough to spread the fixed cost, small enough for the cache
DETECTIONS = "detections.parquet"  # in the work folder: what the policy chose, before fallbacks
CHUNK = 256  # photos between two writes: what a killed run loses at most
SETTINGS = fingerprint(REDUCE, LOOKS, SURE, NEAR, SAME, mtcnn.FACTOR, mtcnn.PROPOSALS)


def iou(a, b) -> np.ndarray:
    """Return intersection over union of boxes (…, 4), pair by pair."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    return shared / (np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - shared)


def choose(candidates: np.ndarray, width: int, height: int) -> tuple[np.ndarray, str]:
    """Return the best of a photo's candidates (n, 15: ``RAW``) and its status: detected, low or fallback (then NaN).

    Best is score x square root of the area x closeness to the centre, so a small sure face at the edge does not beat
    the sitter; of the candidates at its place the surest is taken. A score below ``SURE`` is accepted only within
    ``NEAR`` of the centre.
    """
    size = np.array([width, height])
    off = np.abs((candidates[:, :2] + candidates[:, 2:4]) / 2 / size - 0.5).max(axis=1)
    side = np.sqrt(np.prod((candidates[:, 2:4] - candidates[:, :2]) / size, axis=1))
    accepted = (candidates[:, 4] >= SURE) | (off <= NEAR)
    if not accepted.any():
        return np.full(len(RAW), np.nan), "fallback"
    best = candidates[np.argmax(accepted * candidates[:, 4] * side * (1 - off))]
    same = iou(candidates[:, :4], best[:4]) > SAME
    best = candidates[np.argmax(same * candidates[:, 4])]
    return best, "detected" if best[4] >= SURE else "low"


def fill_fallback(faces: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Return ``faces`` with the set's median box (in shares of the photo) where no face was accepted."""
    size = images[["width", "height", "width", "height"]].reindex(faces.index).to_numpy(float, na_value=np.nan)
    found, lost = faces.status.isin(["detected", "low"]), (faces.status == "fallback").to_numpy()
    median = np.median(faces.loc[found, BOX].to_numpy() / size[found], axis=0) if found.any() else np.array(TYPICAL)
    faces = faces.copy()
    faces.loc[lost, BOX] = median * size[lost]
    return faces


def load_faces(work_dir: str | Path) -> pd.DataFrame:
    """Return ``faces.parquet`` of a work folder, one row a photo; ArtefactError when notebook 02 has not made it."""
    path = resolve(work_dir) / "faces.parquet"
    if not path.exists():
        raise ArtefactError(f"{path} not found: run the stage 'crop' (notebooks/02_face_crop.ipynb) with this work_dir first")
    return pd.read_parquet(path)


def build_faces(images: pd.DataFrame, data_dir: str | Path, work_dir: str | Path, workers: int = 0) -> pd.DataFrame:
    """Detect faces in the photos not yet detected, apply the fallback and write ``faces.parquet`` to ``work_dir``.

    Columns: box, score and landmarks in the photo's pixels, status, source (fingerprint of content and settings). Photos
    are known again by their content, so a killed run continues and added photos cost only themselves. ``workers``
    threads (0: one a core) take a batch each.
    """
    path, sources = resolve(work_dir) / DETECTIONS, fingerprints(images)
    known = _known(path, sources)
    todo = images.index.difference(known.index, sort=False)
    for keys, rows in _detected(todo, resolve(data_dir) / images.file[todo], workers or os.cpu_count()):
        found = pd.DataFrame(rows, keys, [*RAW, "status"]).assign(source=sources[keys])
        known = pd.concat([known, found]) if len(known) else found
        write_table(known, path)
    faces = fill_fallback(known.reindex(images.index), images)
    write_table(faces, resolve(work_dir) / "faces.parquet")
    return faces


def fingerprints(images: pd.DataFrame) -> pd.Series:
    """Return what says that a photo has been looked at: its content, and the settings of the detector."""
    return pd.Series([fingerprint(content, SETTINGS) for content in images.sha256], images.index)


def _detected(keys: pd.Index, files: pd.Series, workers: int) -> Iterator[tuple[pd.Index, list[tuple]]]:
    """Yield keys and what ``detect_files`` says of them, CHUNK photos at a time, under one progress bar."""
    batches = even_shares(files.to_numpy(), BATCH, workers)  # no worker waits long for the last
    with thread_pool(workers) as pool:
        found = chain.from_iterable(pool.map(detect_files, batches))
        rows = iter(tqdm(found, total=len(keys), desc="faces", unit="photo"))
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            yield chunk, list(islice(rows, len(chunk)))


def _known(path: Path, sources: pd.Series) -> pd.DataFrame:
    """Rows of earlier runs whose photo and settings are unchanged."""
    if not path.exists():
        return pd.DataFrame()
    known = pd.read_parquet(path)
    return known[known.source == sources.reindex(known.index)]


def detect_files(files: list[Path]) -> list[tuple]:
    """Return the chosen face and status of each file: (15 numbers of ``RAW`` in full-size pixels, status)."""
    photos = [read(file, REDUCE) for file in files]
    rows = [(*np.full(len(RAW), np.nan), "unreadable")] * len(files)
    for size in {photo.shape for photo in photos if photo is not None}:
        same = [k for k, photo in enumerate(photos) if photo is not None and photo.shape == size]
        for k, row in zip(same, _look(np.stack([photos[k] for k in same])), strict=True):
            rows[k] = row
    return rows


def _look(photos: np.ndarray) -> list[tuple]:
    """Choose a face in each photo (n, h, w, 3); where the first look is not sure, the second's candidates count too."""
    height, width = photos.shape[1:3]
    candidates = mtcnn.detect(photos, *LOOKS[0])
    unsure = [k for k, found in enumerate(candidates) if choose(found, width, height)[1] != "detected"]
    if unsure:
        for k, found in zip(unsure, mtcnn.detect(photos[unsure], *LOOKS[1]), strict=True):
            candidates[k] = np.concatenate([candidates[k], found])
    full_size = np.array([1 if name == "score" else REDUCE for name in RAW])
    return [(*(face * full_size), status) for face, status in (choose(found, width, height) for found in candidates)]
