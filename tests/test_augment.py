import albumentations as A
import numpy as np
import pytest

from lib.errors import ParameterError
from lib.learn import augment

SIZE = (64, 48)  # height, width
BOX = (14.0, 20.0, 38.0, 50.0)


def photo():
    """Return a stored photo, 9/8 of SIZE: dark, with a bright face in BOX."""
    image = np.full((72, 54, 3), 40, dtype=np.uint8)
    image[20:50, 14:38] = 220
    return image


def draws(names, n, image=None, seed=0):
    transform, image = augment.pipeline(names, SIZE, seed), photo() if image is None else image
    return [augment.apply(transform, image, BOX) for _ in range(n)]


@pytest.mark.parametrize("name", augment.PIPELINES)
def test_every_pipeline_keeps_size_and_type_and_follows_its_seed(name):
    first, again, other = draws([name], 12), draws([name], 12), draws([name], 12, seed=1)
    for image, box in first:
        assert image.shape == (*SIZE, 3)
        assert image.dtype == np.uint8
        assert box.dtype == np.float32
        assert (box >= 0).all()
        assert (box <= [48, 64, 48, 64]).all()
    assert all(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
        for a, b in zip(first, again, strict=True)
    )
    assert name == "none" or any(
        not np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True)
    )


@pytest.mark.parametrize("name", augment.PIPELINES)
def test_the_photo_given_is_not_changed(name):
    image = photo()
    draws([name], 10, image)
    np.testing.assert_array_equal(image, photo())


@pytest.mark.parametrize("name", augment.PIPELINES)
def test_nothing_is_ever_upside_down(name):
    image = np.full((72, 54, 3), 60, dtype=np.uint8)
    image[:36] = 180
    upright = [out[:24].mean() > out[-24:].mean() for out, _ in draws([name], 60, image)]
    assert np.mean(upright) > 0.9  # erasing and solarizing may darken the top now and then


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("none", 0), ("flip", 0), ("face", 0), ("light", 4), ("rotate", 7), ("grid", 5)],
)
def test_the_box_follows_the_face(name, tolerance):
    for image, box in draws([name], 40):
        rows, columns = np.nonzero(image[..., 0] > 110)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, seen, atol=tolerance + 1e-4)


@pytest.mark.parametrize("name", ["cutout", "erase", "noise", "gray"])
def test_covered_corners_still_count(name):
    for _, (x0, y0, x1, y1) in draws([name], 100):
        assert (x1 - x0, y1 - y0) == (24, 30)


def test_a_face_outside_the_crop_leaves_a_box_without_area():
    _, (x0, y0, x1, y1) = augment.apply(augment.pipeline(["none"], SIZE), photo(), (0, 0, 2, 2))
    assert (x1 - x0) * (y1 - y0) == 0


def test_evaluation_is_the_central_crop():
    image = np.random.default_rng(0).integers(0, 256, (72, 54, 3), dtype=np.uint8)
    for transform in (
        augment.pipeline(["none"], SIZE),
        augment.pipeline([], SIZE),
        augment.pipeline(["none"], SIZE),
    ):
        np.testing.assert_array_equal(augment.apply(transform, image, BOX)[0], image[4:68, 3:51])


def test_flipping_twice_is_the_identity():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (flip,) = augment.flip()
    always = augment.reseed(A.Compose([flip], keypoint_params=A.KeypointParams("xy")), 0)
    flip.p = 1.0
    once, box = augment.apply(always, image, BOX)
    np.testing.assert_array_equal(once, image[:, ::-1])
    twice, box = augment.apply(always, once, box)
    np.testing.assert_array_equal(twice, image)
    np.testing.assert_array_equal(box, np.float32(BOX))


def test_face_crop_centres_the_face_as_far_as_the_photo_reaches():
    image = np.zeros((200, 150, 3), dtype=np.uint8)
    transform = augment.pipeline(["face"], SIZE)
    centres = np.array(
        [
            augment.apply(transform, image, (60, 100, 84, 130))[1].reshape(2, 2).mean(axis=0)
            for _ in range(50)
        ]
    )
    assert (
        np.abs(centres - [24, 32]) <= [3.5, 4.5]
    ).all()  # a sixteenth of 48 and 64, and rounding
    assert centres.std(axis=0).min() > 0.5
    np.testing.assert_array_equal(
        augment.apply(transform, image, (0, 0, 10, 12))[1], [0, 0, 10, 12]
    )


def test_steps_are_drawn_independently():
    image = np.tile(np.arange(54, dtype=np.uint8)[None, :, None] + 80, (72, 1, 3))
    steps = [A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast((0.2, 0.3), 0, p=0.5)]
    transform = augment.reseed(A.Compose(steps), 0)
    drawn = [transform(image=image)["image"] for _ in range(300)]
    flipped, brighter = zip(
        *[(out[0, 0, 0] > out[0, -1, 0], out.mean() > image.mean() + 10) for out in drawn],
        strict=True,
    )
    assert abs(np.corrcoef(flipped, brighter)[0, 1]) < 0.2


def test_draws_of_a_photo_do_not_depend_on_those_before():
    transform = augment.pipeline(["aug_0", "erase"], SIZE)
    expected = augment.apply(augment.reseed(transform, 0, 3, 17), photo(), BOX)[0]
    others = [
        augment.apply(augment.reseed(transform, 0, epoch, 17), photo(), BOX)[0]
        for epoch in (0, 1, 2)
    ]
    np.testing.assert_array_equal(
        augment.apply(augment.reseed(transform, 0, 3, 17), photo(), BOX)[0], expected
    )
    assert not any(np.array_equal(other, expected) for other in others)


@pytest.mark.parametrize(
    "make", [lambda: A.GaussNoise(var_limit=(10, 50)), lambda: A.CoarseDropout(max_holes=8)]
)
def test_an_argument_that_albumentations_would_drop_is_an_error(make, monkeypatch):
    monkeypatch.setitem(augment.PIPELINES, "old", lambda: [make()])
    with pytest.raises(ParameterError, match="not valid"):
        augment.pipeline(["old"], SIZE)


def test_wrong_names_are_refused():
    with pytest.raises(ParameterError, match="did you mean 'light'"):
        augment.pipeline(["ligth"], SIZE)
    with pytest.raises(ParameterError, match="crops more than once"):
        augment.pipeline(["none", "face"], SIZE)


@pytest.mark.parametrize(
    "names",
    [
        ["flip", "cutout", "noise", "grid"],
        ["aug_1", "cutout"],
        ["flip", "erase"],
        ["face", "aug_0"],
    ],
)
def test_names_compose_with_one_crop(names):
    transform = augment.pipeline(names, SIZE)
    assert sum("Crop" in type(step).__name__ for step in transform.transforms) == 1
    assert augment.apply(transform, photo(), BOX)[0].shape == (*SIZE, 3)
