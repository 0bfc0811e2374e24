"""The background removed: all but the person becomes grey, by GrabCut or by a segmentation network.

A background is a function of photo and face (14: ``PLACES``) that returns the share of person in
each pixel, (h, w) from 0 to 1; a new one is an entry of BACKGROUNDS.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from lib.errors import ArtefactError, pick

GREY = 127  # near the data's mean, so that it is about 0 when normalised
GRABCUT_WIDTH = 96  # px of the copy that GrabCut works on: its cost grows with the number of pixels
GRABCUT_ROUNDS = 2
SEGMENT_WIDTH = 256  # px of the copy that the segmentation network sees
TALLEST = 2  # height over width of those copies at most
PERSON = 15  # of the 21 Pascal VOC classes
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the network was trained with


def grabcut(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the person's share by GrabCut (Rother et al. 2004, ACM TOG 23): no weights."""
    height, width = photo.shape[:2]
    scale = min(GRABCUT_WIDTH / width, TALLEST * GRABCUT_WIDTH / height)
    scale = max(scale, 1 / min(height, width))  # a side of at least 1 px is left
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seeds = grabcut_seeds(face * scale, *small.shape[:2])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same photo must give the same outline
    cv2.grabCut(small, seeds, None, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = (seeds & 1).astype(np.float32)  # odd values are foreground, sure or probable
    return cv2.resize(cv2.GaussianBlur(person, (3, 3), 0), (width, height))


def grabcut_seeds(face: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return GrabCut's seeds (height, width) uint8 for a face (14: ``PLACES``) in the same pixels.

    Sure: the landmarks, or the middle of the box, are person; the upper corners are background.
    Probable: head and shoulders are person; the rest is background.
    """
    seeds = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    _add_probable_person(seeds, face[:4])
    _add_sure_background(seeds, face[:4])
    cv2.fillConvexPoly(seeds, cv2.convexHull(_sure_points(face)), cv2.GC_FGD)
    return seeds


def _add_probable_person(seeds: np.ndarray, box: np.ndarray) -> None:
    x0, y0, x1, y1 = box
    wide, tall, height = x1 - x0, y1 - y0, len(seeds)
    shoulders = np.array(
        [(x0, y1), (x1, y1), (x1 + 0.7 * wide, y1 + 0.6 * tall), (x1 + 0.7 * wide, height)]
    )
    mirrored = np.c_[x0 + x1 - shoulders[::-1, 0], shoulders[::-1, 1]]
    cv2.fillPoly(seeds, [np.int32(np.r_[shoulders, mirrored])], cv2.GC_PR_FGD)
    centre, axes = (int((x0 + x1) / 2), int((y0 + y1) / 2)), (int(0.75 * wide), int(0.75 * tall))
    cv2.ellipse(seeds, centre, axes, 0, 0, 360, cv2.GC_PR_FGD, -1)


def _add_sure_background(seeds: np.ndarray, box: np.ndarray) -> None:
    x0, y0, x1, y1 = box
    wide, head = x1 - x0, int(max(y1, 1))
    seeds[:head, : max(int(x0 - 0.6 * wide), 1)] = cv2.GC_BGD
    seeds[:head, min(int(x1 + 0.6 * wide), seeds.shape[1] - 1) :] = cv2.GC_BGD
    seeds[: max(int(y0 - 0.45 * (y1 - y0)), 1)] = cv2.GC_BGD


def _sure_points(face: np.ndarray) -> np.ndarray:
    """Return the landmarks (5, 2) as integers, or without them the corners of the box's middle."""
    points = face[4:]
    if np.isnan(points).any():
        x0, y0, x1, y1 = face[:4] + np.array([1, 1, -1, -1]) * np.tile(face[2:4] - face[:2], 2) / 4
        points = np.array([x0, y0, x1, y0, x1, y1, x0, y1])
    return np.int32(points.reshape(-1, 2))


def segmentation_weights() -> tuple[Path, str]:
    """Return where the weights of the segmentation network are read from, and their address."""
    import torch
    from torchvision.models.segmentation import DeepLabV3_MobileNet_V3_Large_Weights

    url = DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name, url


@lru_cache(maxsize=1)
def segmenter():
    """Return torchvision's DeepLabV3 on MobileNetV3; ArtefactError if its weights are missing."""
    import torch
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    path, url = segmentation_weights()
    if not path.exists():
        raise ArtefactError(
            f"background='segment' needs torchvision's weights in {path}: download "
            f"{url} to that place, or take background='grabcut', which needs none"
        )
    model = deeplabv3_mobilenet_v3_large(weights_backbone=None, num_classes=21, aux_loss=True)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def segment(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the person's share by DeepLabV3 (Chen et al. 2017, arXiv 1706.05587)."""
    import torch
    from torchvision.transforms.functional import normalize

    height, width = photo.shape[:2]
    tall = round(min(height / width, TALLEST) * SEGMENT_WIDTH)
    small = cv2.resize(photo, (SEGMENT_WIDTH, max(tall, 1)), interpolation=cv2.INTER_AREA)
    batch = normalize(torch.from_numpy(small).permute(2, 0, 1)[None] / 255, MEAN, DEVIATION)
    with torch.inference_mode():
        person = segmenter()(batch)["out"].softmax(1)[0, PERSON]
    return cv2.resize(person.numpy(), (width, height))


BACKGROUNDS: dict[str, Callable | None] = {"keep": None, "grabcut": grabcut, "segment": segment}


def available() -> list[str]:
    """Return the names of BACKGROUNDS that work here: ``segment`` only where its weights are."""
    return [name for name in BACKGROUNDS if name != "segment" or segmentation_weights()[0].exists()]


def remove_background(photo: np.ndarray, face: np.ndarray, background: str) -> np.ndarray:
    """Return ``photo`` (h, w, 3) with all but the person in grey; ``keep`` returns it as it is."""
    person_of = pick(BACKGROUNDS, background, "background")
    if person_of is None:
        return photo
    person = person_of(photo, face)[..., None]
    return (photo * person + GREY * (1 - person)).round().astype(np.uint8)
