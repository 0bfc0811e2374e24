"""The cache of crops: one per photo, uint8, memory-mapped, a little larger than the training size.

Training takes random crops of ``image_size`` out of the stored ones, evaluation their centre. A
cache is a folder: ``pixels.npy`` (n, H, W, 3) RGB and ``crops.parquet`` (key, face box, source).
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap

from lib import artefacts
from lib.artefacts import fingerprint, read_cache, read_parquet, resolve, write_table
from lib.errors import ArtefactError, DataError, ParameterError, one_of
from lib.face.background import BACKGROUNDS, remove_background, segmenter
from lib.face.faces import BOX, PLACES, read_reduced
from lib.face.geometry import CROPS, crop_box, cut, reduction, stored_size
from lib.progress import progress
from lib.workers import one_process, thread_pool

GEOMETRY = ("crop", "crop_margin", "background", "image_size")  # the parameters that name a cache
CUT = ["cut_x0", "cut_y0", "cut_x1", "cut_y1"]  # the crop's box in the photo
DIGESTS = "digests.json"  # in a cache: hashes of its files
FILES = ("pixels.npy", "crops.parquet")  # of a cache
CHUNK = 256  # crops between two marks of progress: what a killed run loses at most
BUILDING = re.compile(r"\.(.+_\d+x\d+)\..+\.building")  # a cache's name, host, process
Make = Callable[[int], np.ndarray]  # from a row of a cache to its crop


@dataclass(frozen=True)
class Crops:
    """An open cache: row i of pixels (n, H, W, 3) and of face boxes (n, 4) belongs to keys[i]."""

    keys: pd.Index
    pixels: np.ndarray
    boxes: np.ndarray
    image_size: tuple[int, int]
    folder: Path

    def rows(self, keys) -> np.ndarray:
        """Return the rows of ``keys``; DataError names some of those that have no crop."""
        rows = self.keys.get_indexer(keys)
        if (rows < 0).any():
            missing = pd.Index(keys)[rows < 0]
            raise DataError(
                f"{len(missing)} of {len(rows)} photos have no crop in {self.folder}, such as "
                f"{list(missing[:3])}: leave out those that faces.parquet lists as unreadable, and "
                "run notebook 02 again if photos were added"
            )
        return rows


def geometry(params: Mapping) -> dict:
    """Return the parameters that name a cache: the last arguments of ``build_crops`` and others."""
    return {name: params[name] for name in GEOMETRY}


def cache_folder(
    work_dir: str | Path, crop: str, crop_margin: float, background: str, image_size
) -> Path:
    """Return the folder of a geometry, ``crops/face_m0.25_keep_128x128``, or a ParameterError."""
    one_of(CROPS, crop, "crop")
    one_of(BACKGROUNDS, background, "background")
    if not 0 <= crop_margin <= 2:
        raise ParameterError(
            f"crop_margin={crop_margin!r} must be from 0 to 2: the share of the face box added on "
            "each side"
        )
    if len(image_size) != 2 or min(image_size) < 16:
        raise ParameterError(
            f"image_size={image_size!r} must be [height, width], each at least 16 px"
        )
    name = f"face_m{crop_margin:g}" if crop == "face" else crop
    return resolve(work_dir) / "crops" / f"{name}_{background}_{image_size[0]}x{image_size[1]}"


def possible(faces: pd.DataFrame) -> list[str]:
    """Return the names of CROPS that these faces allow: ``face`` only if a detector was used."""
    return [name for name in CROPS if name != "face" or "whole" not in set(faces.status)]


def build_crops(
    images: pd.DataFrame,
    faces: pd.DataFrame,
    data_dir: str | Path,
    work_dir: str | Path,
    crop: str,
    crop_margin: float,
    background: str,
    image_size,
    workers: int = 0,
) -> Crops:
    """Make or complete the cache of one geometry for every readable photo, and open it.

    Crops that are still valid are kept, and a killed build continues. ``workers`` 0: one per core.
    """
    named = (crop, crop_margin, background, image_size)
    folder, size = cache_folder(work_dir, *named), stored_size(image_size)
    table = _wanted(images, faces, crop, crop_margin, image_size)
    files, places, boxes = made_from(table, images, faces, data_dir)

    def make(row: int) -> np.ndarray:
        return make_crop(files[row], places[row], boxes[row], size, background)

    if _damaged(folder):
        print(f"{folder} is damaged, its files are not those that were made: made again")
        shutil.rmtree(folder)
    if not _same(folder, table):
        artefacts.check_space(folder, len(table) * size[0] * size[1] * 3)
        if background == "segment":
            segmenter()  # missing weights are reported before anything is made
        with one_process(folder):
            _build(folder, table, size, make, workers or os.cpu_count() or 1)
    return open_crops(work_dir, *named)


def open_crops(
    work_dir: str | Path, crop: str, crop_margin: float, background: str, image_size
) -> Crops:
    """Open a cache that ``build_crops`` has made; ArtefactError says how to make it."""
    folder = cache_folder(work_dir, crop, crop_margin, background, image_size)
    if not (folder / "pixels.npy").exists():
        raise ArtefactError(
            f"no crops in {folder}: run notebook 02 with crop={crop!r}, "
            f"crop_margin={crop_margin!r}, background={background!r}, "
            f"image_size={list(image_size)!r}"
        )
    table = read_parquet(folder / "crops.parquet", "run notebook 02 again")
    boxes = table[BOX].to_numpy(np.float32)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return Crops(table.index, pixels, boxes, tuple(image_size), folder)


def _wanted(
    images: pd.DataFrame, faces: pd.DataFrame, crop: str, margin: float, image_size
) -> pd.DataFrame:
    """Return a row per crop: the face's box in it, its box in the photo, and its source."""
    if crop not in possible(faces):
        raise ParameterError(
            "crop='face' needs faces, and the stage 'crop' was run with detector='none': choose "
            "crop='whole' or crop='center', or run it with detector='mtcnn'"
        )
    height, width = stored_size(image_size)
    usable = faces.join(images[["width", "height"]], how="inner")
    usable = usable[usable.status != "unreadable"]
    photos = usable[[*BOX, "width", "height"]].to_numpy(float)
    cuts = np.array(
        [crop_box(crop, p[:4], p[4], p[5], margin, width / height) for p in photos]
    ).reshape(-1, 4)
    scale = np.array([width, height]) / (cuts[:, 2:] - cuts[:, :2])
    boxes = (photos[:, :4] - np.tile(cuts[:, :2], 2)) * np.tile(scale, 2)
    table = pd.DataFrame(np.c_[boxes, cuts], usable.index, [*BOX, *CUT], dtype=np.float32)
    places = usable[PLACES].round(2).to_numpy().tolist()
    return table.assign(source=list(map(fingerprint, usable.source, places)))


def made_from(
    table: pd.DataFrame, images: pd.DataFrame, faces: pd.DataFrame, data_dir: str | Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return file, face (14: ``PLACES``) and box of each crop, both in the photo's pixels."""
    files = resolve(data_dir) / images.file.reindex(table.index)
    places = faces[PLACES].reindex(table.index).to_numpy(float)
    return files.to_numpy(), places, table[CUT].to_numpy()


def _same(folder: Path, table: pd.DataFrame) -> bool:
    made = read_cache(folder / "crops.parquet")
    return made is not None and made.equals(table)


def _build(folder: Path, table: pd.DataFrame, size, make: Make, workers: int) -> None:
    """Make the crops of ``table`` in a hidden folder, then put it in the place of ``folder``."""
    if _same(folder, table):
        return  # another process made it while this one waited
    with artefacts.full_disk_told(folder):
        building = _prepare(folder, table, size)
        _fill(building, make, workers)
        artefacts.write_json(_digests(building), building / DIGESTS)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)


def _digests(folder: Path) -> dict[str, str]:
    """Return a hash of each file of a cache."""
    return {name: _digest(folder / name) for name in FILES if (folder / name).exists()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _damaged(folder: Path) -> bool:
    """Tell whether a cache's files are no longer those that were made."""
    kept = folder / DIGESTS
    return kept.exists() and json.loads(kept.read_text()) != _digests(folder)


def _prepare(folder: Path, table: pd.DataFrame, size: tuple[int, int]) -> Path:
    """Return the hidden folder: a killed build's, or a new one with the crops still valid."""
    building = artefacts.temporary_name(folder).with_suffix(".building")
    for left in artefacts.leftovers(folder.parent, folder.name, "building"):
        shutil.rmtree(left) if _same(building, table) else _take_over(left, building)
    if _same(building, table):
        return building
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    pixels = open_memmap(building / "pixels.npy", "w+", np.uint8, (len(table), *size, 3))
    _reserve(building)
    done = open_memmap(building / "done.npy", "w+", bool, (len(table),))
    if (old := read_cache(folder / "crops.parquet")) is not None:
        rows = old.index.get_indexer(table.index)
        done[:] = (rows >= 0) & (old.source.reindex(table.index) == table.source).to_numpy()
        made = np.load(folder / "pixels.npy", mmap_mode="r")
        np.copyto(pixels, made[rows], where=np.asarray(done)[:, None, None, None])
    write_table(table, building / "crops.parquet")
    return building


def _take_over(left: Path, building: Path) -> None:
    """Go on with what a process that has died was building."""
    shutil.rmtree(building, ignore_errors=True)
    left.rename(building)


def _reserve(building: Path) -> None:
    """Take the space of the pixels: a disk that fills up under a memory map kills the process."""
    if not hasattr(os, "posix_fallocate"):  # Windows and macOS
        return
    try:
        with (building / "pixels.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError:
        shutil.rmtree(building)
        raise


def _fill(building: Path, make: Make, workers: int) -> None:
    """Make every crop that is not done yet, marking progress chunk by chunk."""
    done = open_memmap(building / "done.npy", "r+")
    todo = np.flatnonzero(~done)
    with thread_pool(workers) as pool, progress(total=len(todo), desc="crops", unit="photo") as bar:
        for start in range(0, len(todo), CHUNK):
            rows = todo[start : start + CHUNK]
            # Opened again for each chunk: a map keeps its pages in memory.
            pixels = open_memmap(building / "pixels.npy", "r+")
            for row, crop in zip(rows, pool.map(make, rows), strict=True):
                pixels[row] = crop
                bar.update()
            pixels.flush()
            done[rows] = True


def preview(
    images: pd.DataFrame,
    faces: pd.DataFrame,
    data_dir: str | Path,
    crop: str,
    crop_margin: float,
    background: str,
    image_size,
) -> list[np.ndarray]:
    """Return the crops of ``images`` as a cache would hold them, without making one."""
    table = _wanted(images, faces, crop, crop_margin, image_size)
    sources = zip(*made_from(table, images, faces, data_dir), strict=True)
    return [make_crop(*source, stored_size(image_size), background) for source in sources]


def make_crop(
    file: Path, face: np.ndarray, box, size: tuple[int, int], background: str
) -> np.ndarray:
    """Return the crop ``box`` of a file as (height, width, 3) RGB; DataError if unreadable."""
    photo, reduce = read_reduced(file, reduction(box, size))
    if photo is None:
        raise DataError(
            f"{file} could be read when faces were detected and cannot be read now: run notebooks "
            "01 and 02 again"
        )
    return cut(remove_background(photo, face / reduce, background), box / reduce, size)
