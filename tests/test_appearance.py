"""What a photo looks like: kept in a file, blind to the lower face, sensitive to clothes."""

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.errors import DataError
from lib.face.faces import BOX
from lib.score import appearance

HEIGHT, WIDTH = 128, 96  # the size that a photo is reduced to, so that no pixel is mixed


@pytest.fixture
def photos(tmp_path):
    """Images and faces of four photos: plain, other lower face, other clothes, unreadable."""
    rng = np.random.default_rng(0)
    plain = cv2.GaussianBlur(rng.integers(0, 256, (512, 384, 3), np.uint8), (0, 0), 9)
    face, clothes = plain.copy(), plain.copy()
    face[230:280, 150:230] = 255 - face[230:280, 150:230]
    clothes[340:440] = 255 - clothes[340:440]
    for name, photo in {"plain": plain, "face": face, "clothes": clothes}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), photo)
    keys = pd.Index(["plain", "face", "clothes", "gone"], name="key")
    images = pd.DataFrame({"file": keys + ".png"}, keys)
    boxes = dict(zip(BOX, (140.0, 160.0, 240.0, 290.0), strict=True))
    status = ["detected"] * 3 + ["unreadable"]
    return images, pd.DataFrame({**boxes, "status": status, "source": keys}, keys), tmp_path


def test_looks_are_blind_to_the_lower_face_and_tell_clothes(photos):
    images, faces, folder = photos
    found = appearance.load(images, faces, folder, folder / "work", workers=1)
    assert list(found.index) == ["plain", "face", "clothes"]
    change = (found - found.loc["plain"]).abs().max(axis=1)
    assert change["face"] < 0.02 * change["clothes"]


def test_only_what_is_new_is_computed(photos, monkeypatch):
    images, faces, folder = photos
    first = appearance.load(images, faces, folder, folder / "work", workers=1)
    moved = faces.copy()
    moved.loc["face", "x0"] += 5
    seen, described = [], appearance.described
    monkeypatch.setattr(
        appearance, "described", lambda f, r, n: seen.extend(r.index) or described(f, r, n)
    )
    second = appearance.load(images, moved, folder, folder / "work", workers=1)
    assert seen == ["face"]
    pd.testing.assert_frame_equal(second.drop("face"), first.drop("face"))
    appearance.load(images, moved, folder, folder / "work", workers=1)
    assert seen == ["face"]


def test_a_photo_that_is_gone_is_named(photos):
    images, faces, folder = photos
    (folder / "plain.png").unlink()
    with pytest.raises(DataError, match=r"plain\.png.*run notebooks 01 and 02 again"):
        appearance.load(images, faces, folder, folder / "work", workers=1)


def test_region_colours_are_those_around_the_box():
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    box = np.array([32.0, 32.0, 64.0, 64.0])
    photo[74:104] = (255, 0, 0)  # 1.35 to 2.2 heights below the box's top, and a pixel more
    found = appearance.region_colours(photo, box).reshape(4, -1, 3)
    red = cv2.cvtColor(np.float32([[[1, 0, 0]]]), cv2.COLOR_RGB2LAB).ravel()
    assert found[3] == pytest.approx(np.tile(red, (9, 1)), abs=1)
    assert found[:3] == pytest.approx(0, abs=1)
