"""A photo of a synthetic person: wall, body and head in layers, lit, turned, on each other."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from lib.demo.portrait import camera, clothes, features, hair, skin
from lib.demo.portrait.camera import HEIGHT, WIDTH, Pose, Shot
from lib.demo.portrait.canvas import Canvas
from lib.demo.portrait.person import Person
from lib.demo.portrait.shapes import points


class Layers(NamedTuple):
    """What stays the same over a person's photos, drawn from the front without light."""

    room: np.ndarray  # (3, 512, 384)
    behind: np.ndarray  # hair behind the neck, (H, W, 4) uint8
    face: np.ndarray  # the head without hair, eyes and mouth, (4, H, W)
    hair: np.ndarray  # hair over the head, (4, H, W)


@lru_cache(maxsize=1)  # photos are made person by person
def layers(person: Person) -> Layers:
    """Draw what stays the same over a person's photos."""
    behind, face, front = Canvas(), Canvas(), Canvas()
    strands = hair.hair_picture(person)
    hair.draw_back_hair(behind, person, strands)
    hair.draw_front_hair(front, person, strands)
    skin.draw_skin(face, person)
    skin.draw_wrinkles(face, person)
    for draw in (features.draw_beard, features.draw_nose, features.draw_brows):
        draw(face, person)
    hair.draw_hair_shadow(face, person)
    if person.earrings:
        clothes.draw_earrings(face, person)
    return Layers(_room(person), _interleave(behind.planes), face.planes, front.planes)


def _interleave(planes: np.ndarray) -> np.ndarray:
    """Return planes (4, H, W) as (H, W, 4) uint8, opacity 0..255."""
    colours = np.clip(planes[:3], 0, 255).astype(np.uint8)
    return cv2.merge([*colours, (255 * planes[3]).astype(np.uint8)])


def _room(person: Person) -> np.ndarray:
    """Return a wall (3, 512, 384) with a few blurred things, drawn small as nothing is sharp."""
    rng = np.random.default_rng(person.texture_seed + 4)
    wall = Canvas((WIDTH // 4, HEIGHT // 4), 25, (WIDTH / 8, HEIGHT / 8))
    wall.planes[:3], wall.planes[3] = person.wall[:, None, None], 1
    for _ in range(rng.integers(2, 6)):
        x, y, w, h = *rng.uniform(-2.2, 2.2, 2), *rng.uniform(0.3, 1.2, 2)
        box = points((x - w, y - 2 * h), (x + w, y - 2 * h), (x + w, y + h), (x - w, y + h))
        colour = person.wall * rng.uniform(0.55, 1.2)
        wall.fill(box, colour, rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.2))
    return np.stack([cv2.resize(plane, (WIDTH, HEIGHT)) for plane in wall.planes[:3]])


def _head(person: Person, shot: Shot, fixed: Layers) -> np.ndarray:
    """Return the head (H, W, 4), uint8, from the front, with the shot's expression and light."""
    canvas = Canvas()
    canvas.planes[:] = fixed.face
    features.draw_mouth(canvas, person, shot.smile)
    features.draw_eyes(canvas, person, shot.gaze)
    if shot.mask != "eyes" and person.glasses:
        clothes.draw_glasses(canvas, person)
    if shot.mask:
        clothes.draw_mask(canvas, person, shot)
    canvas.planes *= 1 - fixed.hair[3]
    canvas.planes += fixed.hair
    canvas.planes[:3] *= camera.head_light(shot.light)
    return _interleave(canvas.planes)


def _lay_over(photo: Canvas, layer: np.ndarray, place: Pose) -> None:
    """Turn a layer (H, W, 4), uint8, into its pose and lay it over the photo, in place."""
    *colours, alpha = cv2.split(cv2.remap(layer, place.x, place.y, cv2.INTER_LINEAR))
    through = 1 - alpha / np.float32(255)
    for plane, colour in zip(photo.planes, colours, strict=False):
        part = plane[place.region]
        part *= through
        part += colour


def render(person: Person, shot: Shot) -> np.ndarray:
    """Return a photo (512, 384, 3), uint8 RGB, of a person as in the shot."""
    fixed, place = layers(person), camera.pose(shot)
    photo = Canvas((WIDTH, HEIGHT), shot.scale, shot.centre)
    photo.planes[:3], photo.planes[3] = fixed.room * camera.wall_light(shot.light), 1
    _lay_over(photo, fixed.behind, place)
    clothes.draw_body(photo, person)
    _lay_over(photo, _head(person, shot, fixed), place)
    return camera.develop(photo.planes[:3], shot)
