"""Where the face is: a detector proposes, one policy chooses, every photo gets a box and a status.

Photos are decoded at half size and searched in batches; those without a sure face are searched
again. Photos of train and eval pass through the same code and thresholds.
"""

import os
from collections.abc import Iterator
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.artefacts import fingerprint, read_cache, read_table, resolve, write_table
from lib.data.issues import state_names, states
from lib.data.photos import read
from lib.errors import ArtefactError, pick
from lib.progress import progress
from lib.task.attributes import Task
from lib.workers import even_shares, one_process, thread_pool

BOX = ["x0", "y0", "x1", "y1"]
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARKS = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
PLACES = [*BOX, *LANDMARKS]
RAW = [*BOX, "score", *LANDMARKS]  # what a detector says of one candidate

# A detector is a module with detect(photos, *look), which returns the candidates (k, 15: RAW) of
# each of the photos (n, h, w, 3); LOOKS, which are tried one after the other until a face is sure;
# and SETTINGS, what else its results depend on. It is imported when it is chosen.
DETECTORS = {"mtcnn": "lib.face.mtcnn", "none": None}

REDUCE = 2  # photos are decoded at half size: faces are large, and JPEG gives half size cheaply
LONGEST = 1024  # px of the longer side that a detector sees at most, so that its memory is bounded
COMPARED = (20, 2048)  # px of the shortest and the longest side of photos for MTCNN's own detect
SURE = 0.9  # the score from which a face is accepted anywhere: usual for MTCNN
NEAR = 0.25  # distance from the photo's centre, in shares of its size, that a low score may have
SAME = 0.4  # overlap (IoU) from which two candidates are one face, seen at two scales
TYPICAL = (0.25, 0.3, 0.75, 0.7)  # fallback if no photo has a face, in shares of the photo
BATCH = 32  # photos per pass at most: enough to spread the fixed cost, small enough for the cache
CHUNK = 256  # photos between two writes: what a killed run loses at most
DETECTIONS = "detections.parquet"  # in the work folder: what the policy chose, before fallbacks


def iou(a, b) -> np.ndarray:
    """Return intersection over union of boxes (…, 4), pair by pair."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = (np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b))
    return shared / (sum(areas) - shared)


def choose(candidates: np.ndarray, width: int, height: int) -> tuple[np.ndarray, str]:
    """Return the best of a photo's candidates (n, 15: ``RAW``) and detected, low or fallback (NaN).

    Best is score x square root of the area x closeness to the centre; of the candidates at its
    place the surest is taken. A score below ``SURE`` is accepted only ``NEAR`` the centre.
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


def typical_box(faces: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    """Return the median box (4,) of accepted faces, in shares of the photo."""
    found = faces.status.isin(["detected", "low"])
    shares = faces.loc[found, BOX].to_numpy() / _sides(faces, images)[found]
    return np.median(shares, axis=0) if len(shares) else np.array(TYPICAL)


def fill_fallback(faces: pd.DataFrame, images: pd.DataFrame, box: np.ndarray) -> pd.DataFrame:
    """Return ``faces`` with ``box``, in shares of the photo, where no face was accepted."""
    lost = (faces.status == "fallback").to_numpy()
    faces = faces.copy()
    faces.loc[lost, BOX] = box * _sides(faces, images)[lost]
    return faces


def _sides(faces: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    """Return width, height, width, height of each face's photo: (n, 4)."""
    sides = images[["width", "height", "width", "height"]].reindex(faces.index)
    return sides.to_numpy(float, na_value=np.nan)


def load_faces(work_dir: str | Path) -> pd.DataFrame:
    """Return ``faces.parquet``, a row per photo; ArtefactError if notebook 02 has not made it."""
    return read_table(work_dir, "faces.parquet", "crop", "02_face_crop")


def build_faces(
    images: pd.DataFrame,
    data_dir: str | Path,
    work_dir: str | Path,
    detector: str = "mtcnn",
    workers: int = 0,
) -> pd.DataFrame:
    """Give every photo a box and a status, and write them as ``faces.parquet`` to ``work_dir``.

    Columns: box, score, landmarks (pixels of the photo), status, source (fingerprint of content and
    settings). Without a detector the box is the whole photo. ``workers`` threads; 0: one per core.
    """
    path = resolve(work_dir) / "faces.parquet"
    with one_process(path):
        if _module(detector):
            known = _search(images, data_dir, path.with_name(DETECTIONS), detector, workers)
            faces = known.reindex(images.index)
            faces = fill_fallback(faces, images, typical_box(faces, images))
        else:
            faces = _whole(images, fingerprints(images, detector))
        write_table(faces, path)
    return faces


def find_faces(
    images: pd.DataFrame, data_dir: str | Path, detector: str, box: np.ndarray
) -> pd.DataFrame:
    """Return what ``build_faces`` does for readable photos, with a fallback ``box``; kept nowhere.

    ``images`` has file, width and height; ``source`` is empty.
    """
    if not _module(detector):
        return _whole(images, "")
    files = (resolve(data_dir) / images.file).tolist()
    rows = pd.DataFrame(detect_files(files, detector), images.index, [*RAW, "status"])
    return fill_fallback(rows.assign(source=""), images, box)


def detector_of(faces: pd.DataFrame, images: pd.DataFrame) -> str:
    """Return the detector that made ``faces``; ArtefactError if it works otherwise now."""
    for name in DETECTORS:
        if faces.source.equals(fingerprints(images, name).reindex(faces.index)):
            return name
    raise ArtefactError(
        "faces.parquet is of other photos or of another version of the detectors "
        f"({', '.join(DETECTORS)}): run notebook 02 again"
    )


def _module(detector: str) -> Any:
    name = pick(DETECTORS, detector, "detector")
    return import_module(name) if name else None


def fingerprints(images: pd.DataFrame, detector: str = "mtcnn") -> pd.Series:
    """Return what faces depend on: the photo's content, the settings of detector and policy."""
    module = _module(detector)
    policy = (REDUCE, LONGEST, SURE, NEAR, SAME)
    settings = fingerprint(detector, *([policy, module.LOOKS, module.SETTINGS] if module else []))
    return pd.Series([fingerprint(content, settings) for content in images.sha256], images.index)


def _whole(images: pd.DataFrame, sources: pd.Series | str) -> pd.DataFrame:
    """Return faces that are whole photos, for tasks that need no detector."""
    width, height = images.width.astype(float), images.height.astype(float)
    box = {"x0": 0 * width, "y0": 0 * height, "x1": width, "y1": height}
    status = np.where(width.isna(), "unreadable", "whole")
    return pd.DataFrame(np.nan, images.index, RAW).assign(**box, status=status, source=sources)


def _search(
    images: pd.DataFrame, data_dir: str | Path, path: Path, detector: str, workers: int
) -> pd.DataFrame:
    """Detect faces in the photos whose content ``path`` does not know yet, and write them to it."""
    sources = fingerprints(images, detector)
    known = read_cache(path)
    known = pd.DataFrame({"source": []}) if known is None else known
    known = known[known.source == sources.reindex(known.index)]  # photo and settings unchanged
    todo = images.index.difference(known.index, sort=False)
    files = resolve(data_dir) / images.file[todo]
    for keys, rows in _detected(todo, files, detector, workers or os.cpu_count() or 1):
        found = pd.DataFrame(rows, keys, [*RAW, "status"]).assign(source=sources[keys])
        known = pd.concat([known, found]) if len(known) else found
        write_table(known, path)
    return known


def _detected(
    keys: pd.Index, files: pd.Series, detector: str, workers: int
) -> Iterator[tuple[pd.Index, list[tuple]]]:
    """Yield keys and the rows of ``detect_files``, CHUNK photos at a time."""
    if keys.empty:
        return  # without a progress bar over nothing
    batches = even_shares(files.to_numpy(), BATCH, workers)  # no worker waits long for the last
    with thread_pool(workers) as pool:
        found = chain.from_iterable(pool.map(detect_files, batches, [detector] * len(batches)))
        rows = iter(progress(found, total=len(keys), desc="faces", unit="photo"))
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            yield chunk, list(islice(rows, len(chunk)))


def detect_files(files: list[Path], detector: str = "mtcnn") -> list[tuple]:
    """Return a row per file: the 15 numbers of ``RAW`` in the photo's pixels, and the status."""
    decoded = [_decoded(file) for file in files]
    rows = [(*np.full(len(RAW), np.nan), "unreadable")] * len(files)
    for shape in {photo.shape for photo, _ in decoded if photo is not None}:
        same = [
            k for k, (photo, _) in enumerate(decoded) if photo is not None and photo.shape == shape
        ]
        chosen = _chosen(np.stack([decoded[k][0] for k in same]), _module(detector))
        for k, (face, status) in zip(same, chosen, strict=True):
            rows[k] = (*(face * np.where(np.array(RAW) == "score", 1, decoded[k][1])), status)
    return rows


def read_reduced(file: Path, reduce: int) -> tuple[np.ndarray | None, int]:
    """Return a photo at 1/``reduce`` of its size, or at 1 if it has too few pixels, and which."""
    photo = read(file, reduce)
    return (read(file), 1) if photo is None else (photo, reduce)


def _decoded(file: Path) -> tuple[np.ndarray | None, float]:
    """Return a photo as a detector sees it, and the file's pixels per pixel of it."""
    photo, reduce = read_reduced(file, REDUCE)
    if photo is None or max(photo.shape) <= LONGEST:
        return photo, reduce
    scale = max(LONGEST / max(photo.shape[:2]), 1 / min(photo.shape[:2]))
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small, reduce / scale


def _chosen(photos: np.ndarray, module: ModuleType) -> list[tuple[np.ndarray, str]]:
    """Choose a face in each photo (n, h, w, 3); each look adds candidates to the earlier ones."""
    height, width = photos.shape[1:3]
    candidates = [np.empty((0, len(RAW)), np.float32)] * len(photos)
    chosen = [choose(found, width, height) for found in candidates]
    for look in module.LOOKS:
        unsure = [k for k, (_, status) in enumerate(chosen) if status != "detected"]
        if not unsure:
            break
        for k, found in zip(unsure, module.detect(photos[unsure], *look), strict=True):
            candidates[k] = np.concatenate([candidates[k], found])
            chosen[k] = choose(candidates[k], width, height)
    return chosen


def kinds(images: pd.DataFrame, task: Task) -> pd.Series:
    """Return the state of each photo (``lib.data.issues``), ``eval`` where nothing is recorded."""
    order = [*state_names(task), "eval"]
    kinds = states(images, task).fillna("eval").astype(pd.CategoricalDtype(order))
    return kinds.rename(" ".join(task.per("photo"))).cat.remove_unused_categories()


def sample(kinds: pd.Series, count: int) -> pd.Index:
    """Return ``count`` keys in random order, the kinds of photos as evenly as they allow."""
    shuffled = kinds.sample(frac=1, random_state=0)
    turn = shuffled.groupby(shuffled).cumcount()
    return turn.sort_values(kind="stable").index[:count]


def compare(images: pd.DataFrame, faces: pd.DataFrame, data_dir: str | Path) -> pd.DataFrame:
    """Return what MTCNN of facenet-pytorch finds by default in searched photos of usual size.

    Columns: the scores ``MTCNN, defaults`` and ``this notebook`` (NaN for no face), and ``iou`` of
    the boxes where both scores are at least ``SURE``.
    """
    sides = images[["width", "height"]]
    usual = (sides.ge(COMPARED[0]) & sides.le(COMPARED[1])).all(axis=1)
    ours = faces.loc[images.index[usual]].query("status not in ('whole', 'unreadable')")
    if ours.empty:
        return pd.DataFrame(columns=["MTCNN, defaults", "this notebook", "iou"], dtype=float)
    from lib.face import mtcnn  # only now, since its packages take seconds to import

    default = mtcnn.detect_one_by_one(resolve(data_dir) / images.file[ours.index])
    default.index = ours.index
    both = (default.score >= SURE) & (ours.score >= SURE)
    overlap = pd.Series(iou(default[BOX], ours[BOX]), ours.index).where(both)
    scores = {"MTCNN, defaults": default.score, "this notebook": ours.score}
    return pd.DataFrame({**scores, "iou": overlap})
