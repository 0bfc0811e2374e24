"""Crops of the photos, stored once, uint8 and memory-mapped, a little larger than the size trained at.

A crop is a box in the photo's pixels that has the target's aspect, so nothing is squashed; what lies outside the photo
repeats its border. Training takes random crops of ``image_size`` out of the stored ones, evaluation their centre.
A cache is a folder: ``pixels.npy`` (n, H, W, 3) RGB and ``crops.parquet`` (key, face box in the stored crop, source).
"""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.artefacts import fingerprint, resolve, write_table
from lib.data.photos import read
from lib.errors import ArtefactError, DataError, ParameterError, pick
from lib.face.faces import BOX, PLACES
from lib.workers import thread_pool

ROOM = 9 / 8  # stored size over training size: room for random crops without storing the photo
CENTER_SHARE = 350 / 384  # the 2021 winner cut 350 px out of photos 384 px wide
GREY = 127  # stands where background was removed: near the data's mean, so that normalised it is about 0
CHUNK = 256  # crops between two marks of progress: what a killed run loses at most

GRABCUT_WIDTH = 96  # px of the copy that GrabCut works on: its cost grows with the pixels, the outline is blurred anyway
GRABCUT_ROUNDS = 2
SEGMENT_WIDTH = 256  # px of the copy that the segmentation network sees
PERSON = 15  # of the 21 Pascal VOC classes


@dataclass(frozen=True)
class Crops:
    """An open cache: row i of ``pixels`` (n, H, W, 3) and of ``boxes`` (n, 4: x0 y0 x1 y1 of the face) is ``keys[i]``."""

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
                f"{len(missing)} of {len(rows)} photos have no crop in {self.folder}, such as {list(missing[:3])}: leave out "
                "those that faces.parquet lists as unreadable, and run notebook 02 again if photos were added"
            )
        return rows


# Geometry: boxes are x0, y0, x1, y1 in pixels, aspect is width over height.


def grow(box, aspect: float) -> np.ndarray:
    """Return the smallest box of ``aspect`` with the same centre that contains ``box``."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, (y1 - y0) * aspect), max(y1 - y0, (x1 - x0) / aspect)
    return _centred((x0 + x1) / 2, (y0 + y1) / 2, width, height)


def _centred(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def _whole(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    return grow((0, 0, width, height), aspect)


def _center(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    wide = CENTER_SHARE * min(width, height * aspect)
    return _centred(width / 2, height / 2, wide, wide / aspect)


def _face(face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    x0, y0, x1, y1 = face
    side, top = margin * (x1 - x0), margin * (y1 - y0)
    return grow((x0 - side, y0 - top, x1 + side, y1 + top), aspect)


CROPS: dict[str, Callable] = {"whole": _whole, "center": _center, "face": _face}


def crop_box(crop: str, face, width: int, height: int, margin: float, aspect: float) -> np.ndarray:
    """Return the box (4,) of ``aspect`` that ``crop`` cuts out of a photo; it may reach beyond the photo's edges.

    ``margin`` is the share of the face box added on each side; only ``crop="face"`` uses it.
    """
    return pick(CROPS, crop, "crop")(face, width, height, margin, aspect)


def stored_size(image_size) -> tuple[int, int]:
    """Return the (height, width) stored for ``image_size``: 9/8 of it, rounded up to even, so 8/9 of it is never less."""
    height, width = (2 * math.ceil(side * ROOM / 2) for side in image_size)
    return height, width


def cut(photo: np.ndarray, box, size: tuple[int, int]) -> np.ndarray:
    """Return ``box`` of ``photo`` (h, w, 3) resized to ``size`` (height, width), the photo's border repeated outside it."""
    height, width = size
    sx, sy = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    # Pixel centres: output pixel i covers [i, i + 1) and is centred on i + 1/2, as is the photo's.
    to_photo = np.array([[sx, 0, box[0] + sx / 2 - 0.5], [0, sy, box[1] + sy / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(photo, to_photo, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def reduction(box, size: tuple[int, int]) -> int:
    """Return 1, 2 or 4: how much smaller a JPEG may be decoded with no less detail than the stored crop shows."""
    spare = min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0])
    return max(r for r in (1, 2, 4) if r == 1 or r <= spare)


# Background: a function of (photo, face) that returns the share of person by pixel, (h, w) 0..1. A face is PLACES in that
# photo's pixels, an array: a table's row would take longer to pick out than the crop to make.


def _grabcut(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    height, width = photo.shape[:2]
    scale = GRABCUT_WIDTH / width
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seeds = grabcut_seeds(face * scale, *small.shape[:2])
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same photo must give the same outline
    cv2.grabCut(small, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = (seeds & 1).astype(np.float32)  # odd values are foreground, sure or probable
    return cv2.resize(cv2.GaussianBlur(person, (3, 3), 0), (width, height))


def grabcut_seeds(face: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return GrabCut's mask (height, width) uint8 for a face (14: ``PLACES``) in the same pixels.

    Sure: the hull of the landmarks, or without them the middle of the box, is person; the photo's upper corners beside
    the head are not. Probable: head with hair, and the shoulders that widen below it, are person; the rest is not.
    """
    x0, y0, x1, y1 = face[:4]
    wide, tall, middle = x1 - x0, y1 - y0, int((x0 + x1) / 2)
    seeds = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    shoulders = np.array([(x0, y1), (x1, y1), (x1 + 0.7 * wide, y1 + 0.6 * tall), (x1 + 0.7 * wide, height)])
    mirrored = np.c_[x0 + x1 - shoulders[::-1, 0], shoulders[::-1, 1]]
    cv2.fillPoly(seeds, [np.int32(np.r_[shoulders, mirrored])], cv2.GC_PR_FGD)
    axes = (int(0.75 * wide), int(0.75 * tall))
    cv2.ellipse(seeds, (middle, int((y0 + y1) / 2)), axes, 0, 0, 360, cv2.GC_PR_FGD, -1)
    head = int(max(y1, 1))
    seeds[:head, : max(int(x0 - 0.6 * wide), 1)] = seeds[:head, min(int(x1 + 0.6 * wide), width - 1) :] = cv2.GC_BGD
    seeds[: max(int(y0 - 0.45 * tall), 1)] = cv2.GC_BGD
    cv2.fillConvexPoly(seeds, cv2.convexHull(_sure_points(face)), cv2.GC_FGD)
    return seeds


def _sure_points(face: np.ndarray) -> np.ndarray:
    (x0, y0, x1, y1), points = face[:4], face[4:]
    if np.isnan(points).any():
        across, down = (x1 - x0) / 4, (y1 - y0) / 4
        points = np.array([x0 + across, y0 + down, x1 - across, y0 + down, x1 - across, y1 - down, x0 + across, y1 - down])
    return np.int32(points.reshape(-1, 2))


def segmentation_weights() -> Path:
    """Return the file that torchvision's DeepLabV3 (MobileNetV3) weights must be in; it is never fetched from here."""
    import torch
    from torchvision.models.segmentation import DeepLabV3_MobileNet_V3_Large_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url).name


@lru_cache(maxsize=1)
def _segmenter():
    import torch
    from torchvision.models.segmentation import DeepLabV3_MobileNet_V3_Large_Weights, deeplabv3_mobilenet_v3_large

    path = segmentation_weights()
    if not path.exists():
        raise ArtefactError(
            f"background='segment' needs torchvision's weights in {path}: fetch "
            f"{DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url} to that place, or take background='grabcut', which needs none"
        )
    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def _segment(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    import torch
    from torchvision.transforms.functional import normalize

    height, width = photo.shape[:2]
    small = cv2.resize(photo, (SEGMENT_WIDTH, round(height * SEGMENT_WIDTH / width)), interpolation=cv2.INTER_AREA)
    batch = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    batch = normalize(batch, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # the weights' own statistics
    with torch.inference_mode():
        person = _segmenter()(batch)["out"].softmax(1)[0, PERSON]
    return cv2.resize(person.numpy(), (width, height))


BACKGROUNDS: dict[str, Callable | None] = {"keep": None, "grabcut": _grabcut, "segment": _segment}


def remove_background(photo: np.ndarray, face: np.ndarray, background: str) -> np.ndarray:
    """Return ``photo`` (h, w, 3) with all but the person in neutral grey; ``keep`` returns it as it is.

    ``face`` (14: ``PLACES``) is in this photo's pixels. ``grabcut`` (Rother et al. 2004) needs no weights,
    ``segment`` needs torchvision's: ArtefactError says where.
    """
    person_of = pick(BACKGROUNDS, background, "background")
    if person_of is None:
        return photo
    person = person_of(photo, face)[..., None]
    return (photo * person + GREY * (1 - person)).round().astype(np.uint8)


# The cache.


def cache_folder(work_dir: str | Path, crop: str, crop_margin: float, background: str, image_size) -> Path:
    """Return the folder of one geometry, such as ``crops/face_m0.25_keep_128x128``; ParameterError if it means nothing."""
    pick(CROPS, crop, "crop")
    pick(BACKGROUNDS, background, "background")
    if not 0 <= crop_margin <= 2:
        raise ParameterError(f"crop_margin={crop_margin!r} must be from 0 to 2: the share of the face box added on each side")
    if len(image_size) != 2 or min(image_size) < 16:
        raise ParameterError(f"image_size={image_size!r} must be [height, width], each at least 16 px")
    name = f"face_m{crop_margin:g}" if crop == "face" else crop
    return resolve(work_dir) / "crops" / f"{name}_{background}_{image_size[0]}x{image_size[1]}"


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

    Crops whose photo and face box are unchanged are kept, a killed run continues; ``workers`` threads (0: one a core)
    decode, since OpenCV works outside Python's lock.
    """
    folder = cache_folder(work_dir, crop, crop_margin, background, image_size)
    table = _wanted(images, faces, crop, crop_margin, image_size)
    if not _same(folder, table):
        if background == "segment":
            _segmenter()  # fails at once, not in a thread
        building = _prepare(folder, table, stored_size(image_size))
        _fill(building, *made_from(table, images, faces, data_dir), background, workers or os.cpu_count())
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    return open_crops(work_dir, crop, crop_margin, background, image_size)


def open_crops(work_dir: str | Path, crop: str, crop_margin: float, background: str, image_size) -> Crops:
    """Open a cache that ``build_crops`` left; ArtefactError says how to make it."""
    folder = cache_folder(work_dir, crop, crop_margin, background, image_size)
    if not (folder / "pixels.npy").exists():
        raise ArtefactError(
            f"no crops in {folder}: run notebook 02 with crop={crop!r}, crop_margin={crop_margin!r}, "
            f"background={background!r}, image_size={list(image_size)!r}"
        )
    table = pd.read_parquet(folder / "crops.parquet")
    boxes = table[BOX].to_numpy(np.float32)
    return Crops(table.index, np.load(folder / "pixels.npy", mmap_mode="r"), boxes, tuple(image_size), folder)


CUT = ["cut_x0", "cut_y0", "cut_x1", "cut_y1"]  # the crop's box in the photo


def _wanted(images: pd.DataFrame, faces: pd.DataFrame, crop: str, margin: float, image_size) -> pd.DataFrame:
    """One row a crop: its box in the photo, the face's box in the stored crop, and what it was made from."""
    height, width = stored_size(image_size)
    usable = faces.join(images[["width", "height"]], how="inner")
    usable = usable[usable.status != "unreadable"]
    photos = usable[[*BOX, "width", "height"]].to_numpy(float)
    cuts = np.array([crop_box(crop, p[:4], p[4], p[5], margin, width / height) for p in photos]).reshape(-1, 4)
    scale = np.array([width, height]) / (cuts[:, 2:] - cuts[:, :2])
    boxes = (photos[:, :4] - np.tile(cuts[:, :2], 2)) * np.tile(scale, 2)
    table = pd.DataFrame(np.c_[boxes, cuts], usable.index, [*BOX, *CUT], dtype=np.float32)
    marks = usable[PLACES].round(2).to_numpy().tolist()
    table["source"] = [fingerprint(source, mark) for source, mark in zip(usable.source, marks, strict=True)]
    return table


def made_from(
    table: pd.DataFrame, images: pd.DataFrame, faces: pd.DataFrame, data_dir: str | Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return file, face (14: ``PLACES``) and box, in the photo's pixels, of each crop of a cache's ``crops.parquet``."""
    files = resolve(data_dir) / images.file.reindex(table.index)
    return files.to_numpy(), faces[PLACES].reindex(table.index).to_numpy(float), table[CUT].to_numpy()


def _same(folder: Path, table: pd.DataFrame) -> bool:
    made = folder / "crops.parquet"
    return made.exists() and pd.read_parquet(made).equals(table)


def _prepare(folder: Path, table: pd.DataFrame, size: tuple[int, int]) -> Path:
    """Return the folder being built for ``table``: a killed run's, or a new one with what the finished cache can give."""
    building = folder.with_name(f".{folder.name}.building")
    if _same(building, table):
        return building
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    pixels = np.lib.format.open_memmap(building / "pixels.npy", "w+", np.uint8, (len(table), *size, 3))
    done = np.lib.format.open_memmap(building / "done.npy", "w+", bool, (len(table),))
    if (folder / "crops.parquet").exists():
        old = pd.read_parquet(folder / "crops.parquet")
        rows = old.index.get_indexer(table.index)
        done[:] = (rows >= 0) & (old.source.reindex(table.index) == table.source).to_numpy()
        np.copyto(pixels, np.load(folder / "pixels.npy", mmap_mode="r")[rows], where=np.asarray(done)[:, None, None, None])
    write_table(table, building / "crops.parquet")
    return building


def _fill(building: Path, files: np.ndarray, faces: np.ndarray, cuts: np.ndarray, background: str, workers: int) -> None:
    """Make every crop that is not done yet, marking progress chunk by chunk."""
    done = np.lib.format.open_memmap(building / "done.npy", "r+")
    size = np.load(building / "pixels.npy", mmap_mode="r").shape[1:3]

    def make(row: int) -> np.ndarray:
        return make_crop(files[row], faces[row], cuts[row], size, background)

    todo = np.flatnonzero(~done)
    with thread_pool(workers) as pool, tqdm(total=len(todo), desc="crops", unit="photo") as bar:
        for start in range(0, len(todo), CHUNK):
            rows = todo[start : start + CHUNK]
            pixels = np.lib.format.open_memmap(building / "pixels.npy", "r+")  # anew: pages written stay resident while mapped
            for row, crop in zip(rows, pool.map(make, rows), strict=True):
                pixels[row] = crop
                bar.update()
            pixels.flush()
            done[rows] = True


def preview(
    images: pd.DataFrame, faces: pd.DataFrame, data_dir: str | Path, crop: str, crop_margin: float, background: str, image_size
) -> list[np.ndarray]:
    """Return the crops of the photos in ``images`` as the cache would hold them, without making one."""
    table = _wanted(images, faces, crop, crop_margin, image_size)
    size = stored_size(image_size)
    return [make_crop(*crop, size, background) for crop in zip(*made_from(table, images, faces, data_dir), strict=True)]


def make_crop(file: Path, face: np.ndarray, box, size: tuple[int, int], background: str) -> np.ndarray:
    """Return the crop ``box`` of a photo file as (height, width, 3) RGB; DataError if it cannot be read (any more)."""
    reduce = reduction(box, size)
    photo = read(file, reduce)
    if photo is None:
        raise DataError(f"{file} could be read when faces were detected and cannot now: run notebooks 01 and 02 again")
    return cut(remove_background(photo, face / reduce, background), box / reduce, size)
