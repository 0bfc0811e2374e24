"""What a photo looks like apart from the lower face: numbers, alike in photos of one session.

Photos of one person are often taken in one session, with the same clothes, hair, room and light.
Inner layers of a network trained on ImageNet tell texture and colour of the whole small photo, in
which the lower part of the face is grey; Lab colours tell those around the face.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from lib.artefacts import fingerprint, resolve, write_table
from lib.errors import DataError
from lib.face.background import GREY
from lib.face.faces import BOX, read_reduced
from lib.face.geometry import crop_box, cut
from lib.learn import weights
from lib.progress import progress
from lib.workers import even_shares, one_process, thread_pool

FILE = "appearance.parquet"  # in the work folder
SIZE = (128, 96)  # of the small photo: height, width
BACKBONE = "tf_efficientnet_lite0"  # its weights are in a package
LAYERS = (
    2,
    3,
)  # of its five stages, of 1/8 and 1/16 of the size; later ones tell objects, not looks
BELOW_EYES = 0.45  # of the face box: from here down a face may be covered
REGIONS = {  # x0, y0, x1, y1 in widths and heights of the face box, from its upper left corner
    "hair and above": (-0.6, -0.75, 1.6, 0.05),
    "left": (-1.1, -0.6, -0.25, 0.7),
    "right": (1.25, -0.6, 2.1, 0.7),
    "clothes": (-0.8, 1.35, 1.8, 2.2),
}
CELLS = 3  # a region has 3 x 3 colours
BATCH = 32  # photos per pass
SETTINGS = fingerprint(SIZE, BACKBONE, LAYERS, BELOW_EYES, REGIONS, CELLS)


def load(
    images: pd.DataFrame,
    faces: pd.DataFrame,
    data_dir: str | Path,
    work_dir: str | Path,
    workers: int = 0,
) -> pd.DataFrame:
    """Return the appearance (float32, one row per readable photo) of ``images``, by key.

    What ``appearance.parquet`` of the work folder has of unchanged photos is not computed again.
    ``workers`` threads; 0: one per core.
    """
    usable = faces.reindex(images.index)
    usable = usable[usable["status"].notna() & (usable["status"] != "unreadable")]
    places = usable[BOX].round(2).to_numpy().tolist()
    sources = pd.Series(map(fingerprint, usable["source"], places), usable.index, dtype=str)
    path = resolve(work_dir) / FILE
    with one_process(path):
        known = _known(path, sources + SETTINGS)
        todo = usable[~usable.index.isin(known.index)]
        if len(todo):
            made = _described(todo, resolve(data_dir) / images["file"], workers)
            known = pd.concat([known, made.assign(source=sources + SETTINGS)])
            write_table(known, path)
    return known.drop(columns="source").loc[usable.index].astype(np.float32)


def _known(path: Path, sources: pd.Series) -> pd.DataFrame:
    """Return the rows of an earlier file whose photos, boxes and settings have not changed."""
    if not path.exists():
        return pd.DataFrame({"source": []})
    known = pd.read_parquet(path)
    return known[known["source"] == sources.reindex(known.index)]


def _described(faces: pd.DataFrame, files: Mapping, workers: int) -> pd.DataFrame:
    network, count = make_network(pretrained=True), workers or os.cpu_count() or 1
    shares = even_shares(np.arange(len(faces)), BATCH, count)

    def describe(rows: np.ndarray) -> np.ndarray:
        return described([files[key] for key in faces.index[rows]], faces.iloc[rows], network)

    with thread_pool(count) as pool:
        bar = progress(pool.map(describe, shares), "appearance", len(shares), "batch")
        return table(np.concatenate(list(bar)), faces.index)


def make_network(pretrained: bool) -> nn.Module:
    """Return the network whose inner layers tell textures, with its weights or random ones."""
    network = weights.create(BACKBONE, pretrained, SIZE)
    return network.eval().to(memory_format=torch.channels_last)


def table(values: np.ndarray, keys: pd.Index) -> pd.DataFrame:
    """Return appearances (N, F) as a table."""
    return pd.DataFrame(values, keys, [f"a{k:03d}" for k in range(values.shape[1])])


def described(files: Sequence[Path], faces: pd.DataFrame, network: nn.Module) -> np.ndarray:
    """Return the appearance (N, F) of photo files with a row of ``faces`` each, in one pass."""
    small = [
        small_photo(file, box) for file, box in zip(files, faces[BOX].to_numpy(float), strict=True)
    ]
    colours = np.stack([region_colours(photo, box) for photo, box in small])
    searched = (faces["status"] != "whole").to_numpy()
    hidden = [
        _without_lower_face(*both) if face else both[0]
        for both, face in zip(small, searched, strict=True)
    ]
    return np.hstack([textures(np.stack(hidden), network), colours])


def small_photo(file: Path, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo cut to SIZE without squashing it, and the face box (4,) in its pixels."""
    photo, reduce = read_reduced(file, 4)
    if photo is None:
        raise DataError(
            f"{file} could be read when faces were detected and cannot be read now: run notebooks "
            "01 and 02 again"
        )
    height, width = photo.shape[:2]
    whole = crop_box("whole", None, width, height, 0, SIZE[1] / SIZE[0])
    scale = SIZE[1] / (whole[2] - whole[0])
    return cut(photo, whole, SIZE), (box / reduce - np.tile(whole[:2], 2)) * scale


def _without_lower_face(photo: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the photo with grey below the eyes of the face."""
    x0, y0, x1, y1 = box
    corners = np.clip([x0, y0 + BELOW_EYES * (y1 - y0), x1, y1], 0, max(SIZE)).round().astype(int)
    photo = photo.copy()
    photo[corners[1] : corners[3], corners[0] : corners[2]] = GREY
    return photo


def region_colours(photo: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the Lab colours (F,) of the REGIONS around a face box, CELLS x CELLS each."""
    side = np.tile(box[2:] - box[:2], 2)
    places = [np.tile(box[:2], 2) + np.array(region) * side for region in REGIONS.values()]
    cells = [cut(photo, place, (4 * CELLS, 4 * CELLS)) for place in places]
    means = [cv2.resize(cell, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for cell in cells]
    return cv2.cvtColor(np.float32(np.vstack(means)) / 255, cv2.COLOR_RGB2LAB).ravel()


@torch.inference_mode()
def textures(photos: np.ndarray, network: nn.Module) -> np.ndarray:
    """Return mean and deviation (N, F) of each channel of the network's LAYERS."""
    images = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
    images = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    how = {"indices": list(LAYERS), "intermediates_only": True, "stop_early": True}
    maps = network.forward_intermediates(images, **how)
    return (
        torch.cat([part for m in maps for part in (m.mean((2, 3)), m.std((2, 3)))], 1)
        .float()
        .numpy()
    )
