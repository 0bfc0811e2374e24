"""What is in the files: every photo is read once, and again only when its file has changed."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.artefacts import read_cache, resolve, write_table
from lib.data.photos import contents, decode, header
from lib.errors import DataError
from lib.progress import progress
from lib.workers import thread_pool

CHANNELS = [f"{statistic}_{channel}" for statistic in ("mean", "std") for channel in "rgb"]
CHUNK = 2048  # photos measured between two saves: what an interrupted audit loses
PHOTO_COLUMNS = [
    "width",
    "height",
    "orientation",
    "frames",
    "sha256",
    "dhash",
    "brightness",
    *CHANNELS,
]
FILE_COLUMNS = ["file", "bytes", "modified"]  # a photo with these unchanged is not read again
INTEGERS = dict.fromkeys(["width", "height", "orientation", "frames"], "Int64") | {
    "dhash": "UInt64"
}


def difference_hash(gray: np.ndarray) -> int:
    """Return 64 bits: where ``gray`` (H, W) grows brighter to the right, on an 8 x 9 grid."""
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def measure(path: str) -> dict:
    """Measure one photo, decoded at half size: sizes, hashes, brightness (0..255), RGB statistics.

    Sizes are of the upright picture; mean and std by channel are in 0..1.
    """
    data = contents(path)
    found: dict = {"status": "unreadable", "sha256": hashlib.sha256(data).hexdigest()}
    picture = decode(data, reduce=2)
    if picture is None:  # perhaps too small to be halved
        picture = decode(data)
    if picture is None:
        return found
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mean, std = (values.ravel() / 255 for values in cv2.meanStdDev(picture))
    found |= {"status": "ok", "dhash": difference_hash(gray), "brightness": gray.mean()}
    return found | header(data) | dict(zip(CHANNELS, [*mean, *std], strict=True))


def _measured(files: pd.DataFrame, data_dir: Path, workers: int) -> Iterator[pd.DataFrame]:
    """Yield the measurements of ``files`` (columns FILE_COLUMNS), a frame every CHUNK photos."""
    with thread_pool(workers) as pool:
        rows = pool.map(measure, [str(data_dir / file) for file in files.file])
        rows = iter(progress(rows, total=len(files), desc="audit", unit="photo"))
        for start in range(0, len(files), CHUNK):
            chunk = files.iloc[start : start + CHUNK]
            measured = list(islice(rows, CHUNK))
            table = pd.DataFrame(measured, index=chunk.index, columns=["status", *PHOTO_COLUMNS])
            yield pd.concat([chunk, table.astype(INTEGERS)], axis=1)


def audit(
    images: pd.DataFrame, data_dir: str | Path, cache: Path | None = None, workers: int = 0
) -> pd.DataFrame:
    """Return ``images`` with PHOTO_COLUMNS; status is "unreadable" where a file does not decode.

    ``cache`` is a parquet file of earlier measurements: a photo that was read is not read again,
    and an interrupted call continues. ``workers`` threads; 0 means one per core.
    """
    present = images.loc[images.status != "missing", FILE_COLUMNS]
    if present.empty:
        raise DataError(f"{data_dir}: none of the photos that its tables name exists")
    known = _known(cache)
    same = pd.MultiIndex.from_frame(present).isin(pd.MultiIndex.from_frame(known[FILE_COLUMNS]))
    parts = [known] if len(known) else []
    if not same.all():
        for part in _measured(present[~same], resolve(data_dir), workers or os.cpu_count() or 1):
            parts.append(part)
            if cache:
                write_table(pd.concat(parts, ignore_index=True), cache)
    measured = pd.concat(parts).drop_duplicates("file", keep="last").set_index("file")
    status = images.file.map(measured.status).fillna(images.status)
    return images.assign(status=status).join(measured[PHOTO_COLUMNS], on="file")


def _known(cache: Path | None) -> pd.DataFrame:
    known = read_cache(cache) if cache else None
    if known is None or not set(FILE_COLUMNS + PHOTO_COLUMNS) <= set(known):
        return pd.DataFrame(columns=FILE_COLUMNS)
    return known[known.status == "ok"]
