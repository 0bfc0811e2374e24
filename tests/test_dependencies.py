"""What is relied on of the packages that nobody maintains any more, and what is installed.

Each of these packages is imported in one module of ``lib/``, where another one can take its place.
The tests state its behaviour without our code: the first to look at when a version is changed.
"""

import ast
import random
import re
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
import ttach
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import bbreg, generateBoundingBox, rerec

from lib import PROJECT


def imported(path):
    """Return the packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ["albumentations", "facenet_pytorch", "ttach"])
def test_one_module_of_lib_and_no_notebook_imports_it(package):
    users = [path for path in (PROJECT / "lib").rglob("*.py") if package in imported(path)]
    assert len(users) == 1
    for notebook in (PROJECT / "notebooks").glob("*.ipynb"):
        assert not re.search(rf"(import|from) {package}", notebook.read_text(encoding="utf-8"))


def test_albumentations_moves_points_with_pixels_draws_what_it_is_given_and_only_warns():
    """Keypoints are centres of pixels; a generator decides the draws; unknown arguments warn."""
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    corners = A.KeypointParams("xy", remove_invisible=False)
    flip = A.Compose([A.HorizontalFlip(p=1)], keypoint_params=corners, strict=True)
    point = np.array([[2.0, 1.0], [9.0, -1.0]], np.float32)  # the second lies outside and stays
    moved = flip(image=image, keypoints=point)
    np.testing.assert_array_equal(moved["image"], image[:, ::-1])
    np.testing.assert_array_equal(moved["keypoints"], [[8 - 1 - 2, 1], [8 - 1 - 9, -1]])

    crop = A.Compose([A.RandomCrop(3, 3), A.RandomBrightnessContrast(p=0.5)])
    draws = []
    for seed in (5, 5, 6):
        crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
        draws.append([crop(image=image)["image"] for _ in range(8)])
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        A.HorizontalFlip(p=1, wrong=3)
    assert [warning.category for warning in caught] == [UserWarning]
    assert "wrong" in str(caught[0].message)


class Weighted(torch.nn.Module):
    """A model that tells views apart: the mean of the picture, weighted by its columns."""

    def forward(self, images):
        """Return (N, 1)."""
        columns = torch.linspace(0, 1, images.shape[3])
        return (images * columns).mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    ("view", "made"),
    [
        (ttach.HorizontalFlip(), lambda x: [x, x.flip(3)]),
        (
            ttach.FiveCrops(4, 6),
            lambda x: [x[..., :4, :6], x[..., :4, -6:], x[..., -4:, :6], x[..., -4:, -6:],
                       x[..., 2:6, 2:8]],
        ),
        (
            ttach.Scale([0.5, 1, 2], interpolation="bilinear", align_corners=False),
            lambda x: [
                torch.nn.functional.interpolate(
                    x, scale_factor=s, mode="bilinear", align_corners=False
                )
                for s in (0.5, 1, 2)
            ],
        ),
    ],
)  # fmt: skip
def test_ttach_averages_the_model_over_the_views_and_nothing_else(view, made):
    images = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    model = Weighted()
    wrapped = ttach.ClassificationTTAWrapper(model, ttach.Compose([view]), merge_mode="mean")
    expected = torch.stack([model(picture) for picture in made(images)]).mean(0)
    torch.testing.assert_close(wrapped(images), expected)


def test_facenet_pytorch_carries_its_weights_and_says_face_in_the_second_column():
    """Three networks of 12, 24 and 48 px give (shifts, [landmarks,] probabilities), offline."""
    networks = MTCNN()
    kinds = {type(module).__name__ for module in networks.modules()}
    assert not {kind for kind in kinds if re.search("Dropout|Norm", kind)}  # no mode to choose
    pictures = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shifts, scores = networks.pnet(pictures)
    assert (shifts.shape, scores.shape) == ((2, 4, 19, 19), (2, 2, 19, 19))  # 12 px, every second
    shifts, scores = networks.rnet(pictures[..., :24, :24])
    assert (shifts.shape, scores.shape) == ((2, 4), (2, 2))
    shifts, marks, scores = networks.onet(pictures)
    assert (shifts.shape, marks.shape, scores.shape) == ((2, 4), (2, 10), (2, 2))
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert (scores[:, 1] < 0.1).all()  # noise is no face


def test_facenet_pytorch_counts_boxes_as_the_detector_does():
    scores, shifts = torch.zeros(1, 5, 5), torch.zeros(1, 4, 5, 5)
    scores[0, 1, 3] = 0.9  # one window of 12 px, two px per step, at half scale
    boxes, owner = generateBoundingBox(shifts, scores, 0.5, 0.6)
    assert owner.tolist() == [0]
    x0, y0, x1, y1, score = boxes[0, :5].tolist()
    assert (x0, y0, x1, y1) == ((2 * 3 + 1) // 0.5, (2 * 1 + 1) // 0.5, (2 * 3 + 12) // 0.5, 28)
    assert score == pytest.approx(0.9)
    square = rerec(torch.tensor([[10.0, 20.0, 20.0, 60.0, 0.5]]))
    assert square[0, :4].tolist() == [-5, 20, 35, 60]  # the longer side, the same centre
    moved = bbreg(torch.tensor([[10.0, 20.0, 19.0, 39.0, 0.5]]), torch.tensor([[0.1, 0, 0, 0.1]]))
    assert moved[0].tolist() == [11, 20, 19, 41, 0.5]  # in shares of a box of 10 by 20 px


def test_the_lock_holds_every_requirement_with_hashes_and_no_address():
    required = re.findall(r"^([\w.-]+==[\w.]+)", text("requirements.txt"), re.MULTILINE)
    lock = text("requirements.lock")
    locked = re.split(r"\n(?=\w)", lock)
    assert {package.split()[0] for package in locked} >= {
        package.replace("_", "-").lower() for package in required
    }
    assert len(required) > 30
    assert all("--hash=sha256:" in package for package in locked)
    assert not re.search("https?://|--index|--extra|--find|--trusted", lock)


def text(name):
    return (PROJECT / name).read_text(encoding="utf-8")
