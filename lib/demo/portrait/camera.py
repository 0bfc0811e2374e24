"""One shot of a person: pose, light, framing, and what the camera makes of them."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from lib.demo.portrait.canvas import ORIGIN, SIZE, UNIT, Region, grid

WIDTH, HEIGHT = 384, 512  # px of a photo, as in the competition


@dataclass(frozen=True)
class Shot:
    """What changes from photo to photo. Angles in radians."""

    mask: str  # a key of clothes.MASK_PLACES, or "" for none
    style: str  # of the mask
    centre: tuple[float, float]  # px of the face's origin
    scale: float  # px per face unit
    roll: float
    yaw: float
    pitch: float
    light: float  # direction, 0 from above
    warmth: float
    gain: float
    smile: float
    gaze: float
    noise_seed: int
    blur: float = 0.0  # standard deviation, px
    quality: int = 100  # of a JPEG that the photo once was, 100 for none


@dataclass(frozen=True)
class Session:
    """What is alike in all photos of a person, since they were taken in one place and hour."""

    light: float
    warmth: float
    gain: float
    blur: float
    quality: int


def random_session(rng: np.random.Generator) -> Session:
    """Choose light, colour, sharpness and compression of one person's photos."""
    return Session(
        light=rng.normal(0, 1.0),
        warmth=rng.normal(0, 0.09),
        gain=rng.uniform(0.6, 1.15),
        blur=rng.uniform(0, 2.2),
        quality=int(rng.integers(30, 90)),
    )


def session_shot(
    rng: np.random.Generator, mask: str = "", style: str = "surgical", *, session: Session
) -> Shot:
    """Choose one photo of a session: its light and colour change little from photo to photo."""
    return replace(
        random_shot(rng, mask, style),
        light=session.light + rng.normal(0, 0.2),
        warmth=session.warmth + rng.normal(0, 0.015),
        gain=session.gain * rng.uniform(0.95, 1.05),
        blur=session.blur * rng.uniform(0.7, 1.3),
        quality=session.quality,
    )


def random_shot(rng: np.random.Generator, mask: str = "", style: str = "surgical") -> Shot:
    """Choose pose, light and framing of one photo, with a mask where ``mask`` says."""
    return Shot(
        mask=mask,
        style=style,
        centre=(WIDTH / 2 + rng.normal(0, 14), HEIGHT * 0.47 + rng.normal(0, 16)),
        scale=rng.uniform(88, 122),
        roll=rng.normal(0, 0.06),
        yaw=float(np.clip(rng.normal(0, 0.16), -0.35, 0.35)),
        pitch=float(np.clip(rng.normal(0, 0.07), -0.16, 0.16)),
        light=rng.normal(0, 0.7),
        warmth=rng.normal(0, 0.035),
        gain=rng.uniform(0.86, 1.08),
        smile=rng.normal(0.25, 0.45),
        gaze=rng.normal(0, 0.25),
        noise_seed=int(rng.integers(2**32)),
    )


@lru_cache
def normals() -> np.ndarray:
    """Return the surface normals (3, H, W) of an egg that stands for the head."""
    x, y = grid()
    nx, ny = x / 0.86, (y + 0.1) / 1.3
    normal = np.stack([nx, ny, np.sqrt(np.clip(1 - nx**2 - ny**2, 0.03, 1))])
    return normal / np.linalg.norm(normal, axis=0)


def head_light(angle: float) -> np.ndarray:
    """Return the brightness (H, W) of the head under a light from above, tilted by ``angle``."""
    light = np.float32([np.sin(angle) * 0.6, -0.45, 0.75])
    shares = zip(light / np.linalg.norm(light), normals(), strict=True)
    return 0.66 + 0.42 * np.clip(sum(share * normal for share, normal in shares), 0, 1)


def wall_light(angle: float) -> np.ndarray:
    """Return the brightness (512, 384) of the wall: less below and away from the light."""
    across = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    down = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    return 0.95 + np.float32(0.12 * math.sin(angle)) * across - np.float32(0.1) * down


class Pose(NamedTuple):
    """Rows and columns of the photo that the canvas covers, and the canvas's px at each pixel."""

    region: Region
    x: np.ndarray
    y: np.ndarray


def pose(shot: Shot) -> Pose:
    """Return where the canvas lies in the photo when the head is turned as in the shot.

    Yaw and pitch shift each point by its height above the plane, as turning a flat egg does.
    """
    left, top, right, bottom = _turned_box(shot)
    cos, sin = np.float32([math.cos(shot.roll), math.sin(shot.roll)])
    columns, rows = (np.arange(*ends, dtype=np.float32) for ends in ((left, right), (top, bottom)))
    u = (columns - np.float32(shot.centre[0])) / np.float32(shot.scale)
    v = (rows[:, None] - np.float32(shot.centre[1])) / np.float32(shot.scale)
    x, y = u * cos + v * sin, v * cos - u * sin
    depth = 0.75 * np.maximum(1 - (x / 0.85) ** 2 - ((y + 0.05) / 1.2) ** 2, 0)
    x, y = x - depth * math.sin(shot.yaw), y - depth * math.sin(shot.pitch)
    region = slice(top, bottom), slice(left, right)
    return Pose(region, x * UNIT + ORIGIN[0], y * UNIT + ORIGIN[1])


def _turned_box(shot: Shot) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom (px of the photo) of the canvas, turned by the roll."""
    ends = np.stack([-np.float64(ORIGIN), np.subtract(SIZE, ORIGIN)]) / UNIT * shot.scale
    x, y = np.meshgrid(*ends.T)
    cos, sin = math.cos(shot.roll), math.sin(shot.roll)
    corners = np.stack([x * cos - y * sin, x * sin + y * cos], -1).reshape(-1, 2) + shot.centre
    low, high = np.clip(corners.min(0), 0, None), np.clip(corners.max(0) + 1, None, (WIDTH, HEIGHT))
    return *low.astype(int).tolist(), *high.astype(int).tolist()


def develop(planes: np.ndarray, shot: Shot) -> np.ndarray:
    """Return a photo (H, W, 3), uint8, of RGB (3, H, W): balance, exposure, blur, noise, coding.

    ``planes`` are changed in place.
    """
    rng = np.random.default_rng(shot.noise_seed + 1)
    grain = 3 * rng.standard_normal(planes.shape[1:], np.float32)
    balance = np.float32([1 + shot.warmth, 1, 1 - shot.warmth])[:, None, None]
    planes *= balance * np.float32(shot.gain)
    if shot.blur:
        planes[:] = [cv2.GaussianBlur(plane, (0, 0), shot.blur) for plane in planes]
    planes += grain
    photo = cv2.merge(list(np.clip(planes, 0, 255).astype(np.uint8)))
    if shot.quality == 100:
        return photo
    _, coded = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, shot.quality])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)
