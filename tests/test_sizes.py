"""Progressive image size: which sizes, and what a smaller picture shows."""

import numpy as np
import pytest
import torch
from conftest import PARAMS, TASK
from PIL import Image

from lib.errors import ParameterError
from lib.learn import recipe, sizes


def test_sides_grow_evenly_in_multiples_of_16_to_the_whole_size():
    assert sizes.by_epoch([160, 128], 0.5, 6) == [
        (80, 64), (96, 80), (112, 96), (128, 112), (144, 128), (160, 128),
    ]  # fmt: skip


@pytest.mark.parametrize(("size_from", "epochs"), [(1.0, 4), (0.3, 1)])
def test_a_whole_start_and_a_single_epoch_are_whole(size_from, epochs):
    assert sizes.by_epoch([100, 90], size_from, epochs) == [(100, 90)] * epochs


def test_no_side_is_below_16_or_above_the_whole():
    assert sizes.by_epoch([100, 20], 0.01, 3) == [(16, 16), (64, 16), (100, 20)]


def test_smaller_pictures_are_those_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (112, 96, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    small = sizes.shrink(images, (64, 80))
    expected = Image.fromarray(pixels).resize((80, 64), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(small[0].permute(1, 2, 0), np.asarray(expected), atol=1.01)
    assert sizes.shrink(images, (112, 96)) is images


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_backbone_of_one_size_is_refused_before_training(backbone):
    params = PARAMS | {"backbone": [backbone], "pretrained": False, "image_size": [64, 64]}
    recipe.model(params, TASK)
    with pytest.raises(ParameterError, match=r"size_from: .*\[32, 32\] px.*set size_from to 1"):
        recipe.model(params | {"size_from": 0.5}, TASK)
