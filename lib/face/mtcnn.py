"""MTCNN's three stages over a batch of photos, with the networks and weights of facenet-pytorch.

Zhang et al. 2016, https://arxiv.org/abs/1604.02878. Faster than the package's ``detect``: OpenCV
resizes uint8 pictures, and the second stage sees only the best proposals per photo.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face as package
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.ops import batched_nms

FACTOR = 0.709  # between two levels of the pyramid: the area halves
PROPOSALS = 24  # per photo, best first, that reach the second stage
GROUP = 32  # patches per pass of the later stages, which bounds their memory
# Arguments of two looks at a photo: px of the smallest face and the thresholds of the three stages.
# The first look's last threshold is lower than the package's, so that the policy sees low scores.
# The second, for photos without a sure face, accepts more from the start, at scales in between.
LOOKS = ((40, (0.6, 0.7, 0.3)), (30, (0.4, 0.5, 0.3)))
SETTINGS = (FACTOR, PROPOSALS)
Squares = tuple[Tensor, Tensor]  # of all photos, and the photo of each


@lru_cache(maxsize=1)
def _networks() -> MTCNN:
    return MTCNN().requires_grad_(False)


@torch.inference_mode()
def detect(
    photos: np.ndarray, min_face: int, thresholds: tuple[float, float, float]
) -> list[np.ndarray]:
    """Return the faces in photos (n, h, w, 3) RGB uint8: an array (k, 15: ``faces.RAW``) each."""
    first, second, third = thresholds
    boxes, owner = _propose(photos, min_face, first)
    boxes, owner = _refine(photos, boxes, owner, second)
    faces, owner = _finish(photos, boxes, owner, third)
    return [faces[owner == k].numpy() for k in range(len(photos))]


def detect_one_by_one(files: list[Path]) -> pd.DataFrame:
    """Return x0, y0, x1, y1, score of the best face per file, NaN for none, by the package."""
    mtcnn, rows = MTCNN(select_largest=False), []
    for file in files:
        picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        boxes, scores = mtcnn.detect(picture)
        rows.append([np.nan] * 5 if boxes is None else [*boxes[0], scores[0]])
    return pd.DataFrame(rows, columns=["x0", "y0", "x1", "y1", "score"])


def _scales(height: int, width: int, min_face: int) -> list[float]:
    """Return the pyramid's scales: the smallest face, and then the shorter side, become 12 px."""
    scale, scales = 12 / min_face, []
    while min(height, width) * scale >= 12:
        scales.append(scale)
        scale *= FACTOR
    return scales


def _input(pictures: list[np.ndarray]) -> Tensor:
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return (batch - 127.5) / 128


def _propose(photos: np.ndarray, min_face: int, threshold: float) -> Squares:
    """Return squares (m, 5: box and score) that may hold a face, and the photo of each."""
    height, width = photos.shape[1:3]
    levels = [(torch.empty(0, 9), torch.empty(0, dtype=torch.long))]  # a small photo has no others
    for scale in _scales(height, width, min_face):
        size = (int(width * scale + 1), int(height * scale + 1))
        shifts, scores = _networks().pnet(
            _input([cv2.resize(photo, size, interpolation=cv2.INTER_AREA) for photo in photos])
        )
        boxes, owner = package.generateBoundingBox(shifts, scores[:, 1], scale, threshold)
        kept = batched_nms(boxes[:, :4], boxes[:, 4], owner, 0.5)
        levels.append((boxes[kept], owner[kept]))
    boxes, owner = (torch.cat(parts) for parts in zip(*levels, strict=True))
    kept = batched_nms(boxes[:, :4], boxes[:, 4], owner, 0.7)
    kept = kept[_rank(owner[kept], len(photos)) < PROPOSALS]
    boxes, owner = boxes[kept], owner[kept]
    sides = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
    moved = torch.cat([boxes[:, :4] + boxes[:, 5:] * sides, boxes[:, 4:5]], dim=1)
    return package.rerec(moved), owner


def _rank(owner: Tensor, photos: int) -> Tensor:
    """Return, for rows sorted best first, how many of the same photo come before each."""
    mine = torch.nn.functional.one_hot(owner, photos)
    return (mine.cumsum(0) * mine).sum(1) - 1


def _patches(photos: np.ndarray, boxes: Tensor, owner: Tensor, side: int) -> Tensor:
    """Cut ``boxes`` out of the photos that own them, resized to (m, 3, side, side)."""
    height, width = photos.shape[1:3]
    corners = boxes[:, :4].int().numpy()
    corners[:, :2] = np.clip(corners[:, :2] - 1, 0, (width - 2, height - 2))
    corners[:, 2:] = np.clip(corners[:, 2:], corners[:, :2] + 1, (width, height))
    cuts = (
        photos[k, y0:y1, x0:x1]
        for k, (x0, y0, x1, y1) in zip(owner.tolist(), corners.tolist(), strict=True)
    )
    return _input([cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA) for cut in cuts])


def _in_groups(network: torch.nn.Module, patches: Tensor) -> tuple[Tensor, ...]:
    """Return the network's outputs for patches (m, 3, side, side), m > 0, ``GROUP`` at a time."""
    parts = [network(group) for group in patches.split(GROUP)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _refine(photos: np.ndarray, boxes: Tensor, owner: Tensor, threshold: float) -> Squares:
    """Second stage: drop squares that hold no face, move the others."""
    if not len(boxes):
        return boxes, owner
    shifts, scores = _in_groups(_networks().rnet, _patches(photos, boxes, owner, 24))
    face = scores[:, 1] > threshold
    boxes, owner = torch.cat([boxes[face, :4], scores[face, 1:]], dim=1), owner[face]
    kept = batched_nms(boxes[:, :4], boxes[:, 4], owner, 0.7)
    return package.rerec(package.bbreg(boxes[kept], shifts[face][kept])), owner[kept]


def _finish(photos: np.ndarray, boxes: Tensor, owner: Tensor, threshold: float) -> Squares:
    """Third stage: drop squares that hold no face, move the others, add landmarks (k, 15)."""
    if not len(boxes):
        return torch.empty(0, 15), owner
    shifts, marks, scores = _in_groups(_networks().onet, _patches(photos, boxes, owner, 48))
    face = scores[:, 1] > threshold
    boxes, owner = torch.cat([boxes[face, :4], scores[face, 1:]], dim=1), owner[face]
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    marks = torch.stack([marks[face, :5], marks[face, 5:]], dim=2) * sides[:, None]
    marks = marks + boxes[:, None, :2] - 1
    boxes = package.bbreg(boxes, shifts[face])
    kept = package.batched_nms_numpy(boxes[:, :4], boxes[:, 4], owner, 0.7, "Min")
    return torch.cat([boxes[kept], marks[kept].flatten(1)], dim=1), owner[kept]
