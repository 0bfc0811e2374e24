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

    The crop is random; ``none`` makes it central (so does an empty list), ``face`` centres it on
    the face box. ParameterError: an unknown name, two crops, or an argument that albumentations
    would drop.
    """
    steps = [pick(PIPELINES, name, "augment") for name in names or ["none"]]
    crop = CROPS[_crop_name(names)]
    height, width = image_size
    with strict():
        transforms = [crop(height, width), *(transform for step in steps for transform in step())]
        corners = A.KeypointParams("xy", remove_invisible=False)
        return reseed(A.Compose(transforms, keypoint_params=corners, strict=True), seed)


def evaluation(image_size: Sequence[int]) -> A.Compose:
    """Return the transform of validation and test photos: the central crop to ``image_size``."""
    return pipeline(["none"], image_size)


def apply(
    transform: A.Compose, image: np.ndarray, box: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the transformed photo and its face box (x0, y0, x1, y1) in pixels, clipped, float32.

    A box without area says that the face has left the photo. The box goes along as the centres of
    its corner pixels: albumentations' own boxes cost 0.7 ms per photo, these 0.1 ms.
    """
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]], dtype=np.float32)
    moved = transform(image=image, keypoints=corners)
    height, width = moved["image"].shape[:2]
    ends = [*moved["keypoints"].min(axis=0), *moved["keypoints"].max(axis=0) + 1]
    return moved["image"], np.clip(ends, 0, [width, height, width, height]).astype(np.float32)


def reseed(transform: A.Compose, *numbers: int) -> A.Compose:
    """Start the transform's draws from ``numbers``, such as (seed, epoch, photo), and return it.

    Doing so for each photo (0.03 ms) makes the draws independent of workers and of where a run was
    resumed; without it every worker repeats the same ones. albumentations' own ``set_random_seed``
    gives each step a generator with the same seed, so that flips and brightness go together.
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
    """Grid distortion that leaves the face box where it is: its corners would move by a few pixels.

    albumentations inverts the distortion for them in 80 ms per photo, or loses those that lie
    outside the photo.
    """

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
        A.Affine(
            scale=(0.95, 1.05),
            translate_percent=(-0.03, 0.03),
            rotate=(-8, 8),
            border_mode=BORDER,
            p=0.3,
        ),
    ]


def aug_0() -> list[A.BasicTransform]:
    """Return the seed team's list; ShiftScaleRotate is Affine now."""
    return [
        *flip(),
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.5),
        A.Solarize(threshold_range=(0.6, 0.9), p=0.1),
        A.ColorJitter(brightness=0.1, contrast=0.1, saturation=0.2, hue=0.05, p=0.3),
        A.Affine(
            scale=(0.9, 1.1),
            translate_percent=(-0.06, 0.06),
            rotate=(-15, 15),
            border_mode=BORDER,
            p=0.5,
        ),
        A.GaussNoise(std_range=(0.02, 0.1), p=0.3),
    ]


def aug_1() -> list[A.BasicTransform]:
    """Mirror, and two operations of RandAugment (https://arxiv.org/abs/1909.13719)."""
    geometry = (
        {"rotate": (-15, 15)},
        {"shear": {"x": (-15, 15), "y": (0, 0)}},
        {"shear": {"x": (0, 0), "y": (-15, 15)}},
        {"translate_percent": {"x": (-0.15, 0.15), "y": (0, 0)}},
        {"translate_percent": {"x": (0, 0), "y": (-0.15, 0.15)}},
    )
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
    return [
        A.CoarseDropout(
            num_holes_range=(1, 4),
            hole_height_range=(0.1, 0.25),
            hole_width_range=(0.1, 0.25),
            fill=0,
            p=0.5,
        )
    ]


def erase() -> list[A.BasicTransform]:
    """Random erasing (https://arxiv.org/abs/1708.04896): one rectangle of a random colour."""
    return [A.Erasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), fill="random_uniform", p=0.5)]


def grid() -> list[A.BasicTransform]:
    """Grid distortion: the face is bent a little."""
    return [GridDistortion(num_steps=5, distort_limit=0.2, border_mode=BORDER, p=0.3)]


def noise() -> list[A.BasicTransform]:
    """Gaussian noise of 2 to 10 % of the range."""
    return [A.GaussNoise(std_range=(0.02, 0.1), p=0.5)]


def gray() -> list[A.BasicTransform]:
    """Take the colour from a third of the photos."""
    return [A.ToGray(num_output_channels=3, p=0.33)]


def rotate() -> list[A.BasicTransform]:
    """Rotation by up to 20 degrees."""
    return [A.Rotate(limit=(-20, 20), border_mode=BORDER, p=0.7)]


PIPELINES: dict[str, Callable[[], list[A.BasicTransform]]] = {
    "none": list,  # adds nothing to its crop
    "face": list,
    "flip": flip,
    "light": light,
    "aug_0": aug_0,
    "aug_1": aug_1,
    "cutout": cutout,
    "erase": erase,
    "grid": grid,
    "noise": noise,
    "gray": gray,
    "rotate": rotate,
}
