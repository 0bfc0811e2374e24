"""Named augmentations of albumentations, from the stored size (9/8) to the image size, uint8 HWC.

``pipeline(["light"], (128, 128), seed)`` makes a transform, ``apply(transform, image, box)`` uses
it: the face box moves with the photo. No pipeline flips vertically: people stand upright.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCrop

from lib.errors import ParameterError, pick

# No black edge to learn from; reflecting modes would mirror the corners of the face box too.
BORDER = cv2.BORDER_REPLICATE


def pipeline(names: Sequence[str], image_size: Sequence[int], seed: int = 0) -> A.Compose:
    """Return a crop to ``image_size`` (height, width), then the pipelines ``names`` in their order.

    The crop is random; ``none`` (or an empty list) makes it central, ``face`` centres it on the
    face box. ParameterError: an unknown name or two crops.
    """
    steps = [pick(PIPELINES, name, "augment") for name in names or ["none"]]
    crop = CROPS[_crop_name(names)]
    height, width = image_size
    with strict():
        transforms = [crop(height, width), *(transform for step in steps for transform in step())]
        corners = A.KeypointParams("xy", remove_invisible=False)
        return reseed(A.Compose(transforms, keypoint_params=corners, strict=True), seed)


def apply(
    transform: A.Compose, image: np.ndarray, box: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the transformed photo and its face box (x0, y0, x1, y1) in pixels, clipped, float32.

    A box without area has left the photo. Its corners move along: albumentations' boxes are slow.
    """
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]], dtype=np.float32)
    moved = transform(image=image, keypoints=corners)
    height, width = moved["image"].shape[:2]
    ends = [*moved["keypoints"].min(axis=0), *moved["keypoints"].max(axis=0) + 1]
    return moved["image"], np.clip(ends, 0, [width, height, width, height]).astype(np.float32)


def reseed(transform: A.Compose, *numbers: int) -> A.Compose:
    """Start the transform's draws from ``numbers``, such as (seed, epoch, photo), and return it.

    Done for each photo (0.03 ms), draws depend neither on workers nor on where a run was resumed.
    albumentations' own ``set_random_seed`` gives every step a generator of the same seed.
    """
    generator = np.random.default_rng(numbers)
    transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
    return transform


@contextmanager
def strict() -> Iterator[None]:
    """Make an unknown argument an error: albumentations only warns and runs with its defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            yield
        except UserWarning as warning:
            raise ParameterError(
                f"augmentation: {warning}; use the arguments of albumentations {A.__version__}"
            ) from warning


class FaceCrop(BaseCrop):
    """Crop centred on the face box, moved by up to a sixteenth of the size, inside the photo."""

    JITTER = 1 / 16

    def __init__(self, height: int, width: int):
        super().__init__(p=1.0)
        self.size = np.array([width, height])

    @property
    def targets_as_params(self) -> list[str]:
        """Ask albumentations for the corners of the face box."""
        return ["keypoints"]

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Return ``crop_coords`` (x0, y0, x1, y1)."""
        room = np.array(params["shape"][1::-1]) - self.size
        centre = (
            data["keypoints"][:, :2].mean(axis=0)
            + self.random_generator.uniform(-self.JITTER, self.JITTER, 2) * self.size
        )
        start = np.clip(np.round(centre - self.size / 2), 0, room).astype(int)
        return {"crop_coords": (*start, *start + self.size)}


class GridDistortion(A.GridDistortion):
    """Grid distortion that leaves the face box: moving it by a few pixels costs 80 ms per photo."""

    def apply_to_keypoints(self, keypoints: np.ndarray, **params) -> np.ndarray:
        """Return the corners as they are."""
        return keypoints


CROPS = {"random": A.RandomCrop, "none": A.CenterCrop, "face": FaceCrop}


def _crop_name(names: Sequence[str]) -> str:
    chosen = [name for name in names if name in CROPS] or ["random" if names else "none"]
    if len(chosen) > 1:
        raise ParameterError(
            f"augment={list(names)!r} crops more than once; keep one of {', '.join(chosen)}"
        )
    return chosen[0]


def flip() -> list[A.BasicTransform]:
    """Mirror half of the photos."""
    return [A.HorizontalFlip(p=0.5)]


def light() -> list[A.BasicTransform]:
    """Mirror, brightness and contrast, small moves: the cheapest that is good."""
    return [
        *flip(),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        _move(scale=0.05, shift=0.03, degrees=8, p=0.3),
    ]


def aug_0() -> list[A.BasicTransform]:
    """Return the seed team's list; ShiftScaleRotate is Affine now."""
    return [
        *flip(),
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.5),
        A.Solarize(threshold_range=(0.6, 0.9), p=0.1),
        A.ColorJitter(brightness=0.1, contrast=0.1, saturation=0.2, hue=0.05, p=0.3),
        _move(scale=0.1, shift=0.06, degrees=15, p=0.5),
        A.GaussNoise(std_range=(0.02, 0.1), p=0.3),
    ]


def _move(scale: float, shift: float, degrees: float, p: float) -> A.Affine:
    return A.Affine(
        scale=(1 - scale, 1 + scale),
        translate_percent=(-shift, shift),
        rotate=(-degrees, degrees),
        border_mode=BORDER,
        p=p,
    )


def aug_1() -> list[A.BasicTransform]:
    """Mirror, and two operations of RandAugment (https://arxiv.org/abs/1909.13719)."""
    geometry: list[dict] = [
        {"rotate": (-15, 15)},
        *({"shear": {"x": (0, 0), "y": (0, 0), axis: (-15, 15)}} for axis in "xy"),
        *({"translate_percent": {"x": (0, 0), "y": (0, 0), axis: (-0.15, 0.15)}} for axis in "xy"),
    ]
    operations = [
        A.AutoContrast(p=1),
        A.Equalize(p=1),
        A.Posterize(num_bits=(4, 7), p=1),
        A.Solarize(threshold_range=(0.5, 0.9), p=1),
        A.RandomBrightnessContrast(brightness_limit=0.4, contrast_limit=0, p=1),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.4, p=1),
        A.ColorJitter(brightness=0, contrast=0, saturation=0.5, hue=0, p=1),
        A.Sharpen(alpha=(0.1, 0.5), p=1),
        *(A.Affine(**move, border_mode=BORDER, p=1) for move in geometry),
    ]
    return [*flip(), A.RandomOrder(operations, n=2)]


def cutout() -> list[A.BasicTransform]:
    """Cutout (https://arxiv.org/abs/1708.04552): one to four black rectangles."""
    side = (0.1, 0.25)
    return [A.CoarseDropout((1, 4), hole_height_range=side, hole_width_range=side, fill=0, p=0.5)]


PIPELINES: dict[str, Callable[[], list[A.BasicTransform]]] = {
    "none": list,  # adds nothing to its crop
    "face": list,
    "flip": flip,
    "light": light,
    "aug_0": aug_0,
    "aug_1": aug_1,
    "cutout": cutout,
    # Random erasing (https://arxiv.org/abs/1708.04896): one rectangle of a random colour.
    "erase": lambda: [A.Erasing((0.02, 0.2), ratio=(0.3, 3.3), fill="random_uniform", p=0.5)],
    "grid": lambda: [GridDistortion(5, distort_limit=0.2, border_mode=BORDER, p=0.3)],
    "noise": lambda: [A.GaussNoise(std_range=(0.02, 0.1), p=0.5)],
    "gray": lambda: [A.ToGray(num_output_channels=3, p=0.33)],
    "rotate": lambda: [A.Rotate(limit=(-20, 20), border_mode=BORDER, p=0.7)],
}
