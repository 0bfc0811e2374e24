"""Where models look: maps of every kind of backbone and head, and the alarm for shortcuts."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PARAMS, TASK

from lib.errors import ParameterError
from lib.explain import cams
from lib.face import crops
from lib.face.faces import LANDMARKS
from lib.learn import recipe
from lib.learn.heads import ORDERED_CHOICES
from lib.task.tables import probabilities

BACKBONES = ("resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")


def small_model(*backbones, **params):
    torch.manual_seed(0)
    size = [64, 64]
    params = {
        **PARAMS,
        "backbone": list(backbones),
        "image_size": size,
        "pretrained": False,
        **params,
    }
    return recipe.model(params, TASK).eval()


@pytest.fixture(scope="module")
def images():
    return 255 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backbone", [*BACKBONES, "tf_efficientnet_lite0"])
def test_maps_of_every_kind_of_backbone(backbone, images):
    model = small_model(backbone)
    maps, classes = cams.cams(model, images, "age")
    assert maps.shape == (3, 64, 64)
    assert maps.min() >= 0
    assert maps.max() == pytest.approx(1, abs=1e-3)
    table = pd.DataFrame(model.probabilities(images).detach().numpy(), columns=TASK.columns())
    assert list(classes) == list(probabilities(table, TASK, "age").to_numpy().argmax(axis=1))


def test_maps_of_two_backbones_are_averaged(images):
    both = small_model("resnet10t", "vit_tiny_patch16_224")
    maps, _ = cams.cams(both, images, "gender")
    assert maps.shape == (3, 64, 64)
    assert 0 <= maps.min() < maps.max() <= 1


HEADS = [("separate", ordered) for ordered in ORDERED_CHOICES]
HEADS += [("shared", "groups"), ("joint", "groups")]


@pytest.mark.parametrize(("head", "ordered_head"), HEADS)
def test_log_odds_are_those_of_the_table_for_every_head(head, ordered_head, images):
    model = small_model("resnet10t", head=head, ordered_head=ordered_head)
    table = pd.DataFrame(model.probabilities(images).detach().numpy(), columns=TASK.columns())
    for name in TASK.names:
        odds = cams.LogOdds(model, name)(images)
        chances = probabilities(table, TASK, name).to_numpy()
        assert odds.sigmoid().detach().numpy() == pytest.approx(chances, abs=1e-4)
        assert cams.cams(model, images, name)[0].max() > 0


def test_a_sure_answer_still_has_a_map(images):
    """The gradient of a probability would vanish: here the model is sure beyond float32."""
    model = small_model("resnet10t", head="shared")
    with torch.no_grad():
        model.classifiers["gender"].bias[0] += 40
    assert cams.LogOdds(model, "gender")(images).min() < -30
    assert cams.cams(model, images, "gender")[0].max() == pytest.approx(1, abs=1e-3)


def planted(backbone):
    """Return a model whose answer depends on the features of one corner alone."""
    model = small_model(backbone)
    (inner,) = model.backbone.models
    if backbone.startswith("resnet"):
        inner.layer4 = torch.nn.Identity()  # it would mix the corner with what surrounds it
        inner.forward_head = lambda x, **_: x[:, :, :2, :2].mean((2, 3)).repeat(1, 2)
    elif backbone.startswith("swin"):
        inner.layers[3] = torch.nn.Identity()
        inner.norm = torch.nn.Identity()
        inner.forward_head = lambda x, **_: x[:, :2, :2].mean((1, 2)).repeat(1, 2)
    else:  # tokens outside the corner have no query, key or value in the last attention
        corner = torch.zeros(1, 17, 1)
        corner[:, [1, 2, 5, 6]] = 1
        inner.blocks[-1].attn.qkv.register_forward_hook(lambda _m, _i, out: out * corner)
    return model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_model_that_looks_at_one_corner_has_its_map_there(backbone, images):
    maps, _ = cams.cams(planted(backbone), images, "gender")
    box = np.tile([0, 0, 40, 40], (3, 1))  # a cell of 16 px spreads by half of it when enlarged
    share, area = cams.inside(maps, box)
    assert area == pytest.approx(np.full(3, (40 / 64) ** 2))
    assert share.min() > 0.99
    other, _ = cams.inside(maps, np.tile([40, 40, 64, 64], (3, 1)))
    assert other.max() < 0.01


def test_a_model_without_feature_maps_is_refused_with_the_way_out():
    with pytest.raises(ParameterError, match="cam_photos: 0"):
        cams.features(torch.nn.Linear(2, 2))


def test_the_share_inside_a_box_counts_parts_of_pixels():
    maps = np.random.default_rng(0).random((2, 10, 12))
    boxes = np.array([[1.5, 2.25, 7.75, 9.0], [-3.0, 4.0, 30.0, 40.0]])
    share, area = cams.inside(maps, boxes)
    for k, (x0, y0, x1, y1) in enumerate((boxes * 4).astype(int)):
        fine = np.kron(maps[k], np.ones((4, 4)))[max(y0, 0) : y1, max(x0, 0) : x1]
        assert share[k] == pytest.approx(fine.sum() / 16 / maps[k].sum())
        assert area[k] == pytest.approx(fine.size / 16 / 120)
    assert np.isnan(cams.inside(np.zeros((1, 4, 4)), np.array([[0, 0, 2, 2]]))[0]).all()


@pytest.mark.parametrize(("crop", "margin"), [("whole", 0.0), ("center", 0.0), ("face", 0.5)])
@pytest.mark.parametrize("image_size", [(64, 64), (96, 64)])
def test_the_face_box_is_in_its_place_in_every_crop(crop, margin, image_size, tmp_path):
    """A white face on black: nearly all light of the crop is in the box, which is all light."""
    photo = np.zeros((400, 300, 3), np.uint8)
    photo[120:300, 90:210] = 255
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    images = pd.DataFrame({"file": "a.png", "width": 300, "height": 400}, index=["a"])
    box = dict(zip(crops.BOX, (90.0, 120.0, 210.0, 300.0), strict=True))
    facts = {**box, **dict.fromkeys(LANDMARKS, np.nan), "status": "detected", "source": "a"}
    face = pd.DataFrame(facts, index=["a"])
    made = crops.build_crops(images, face, tmp_path, tmp_path, crop, margin, "keep", image_size)
    pictures, boxes = cams.central(made, ["a"])
    light = pictures.mean(1).numpy() / 255
    share, area = cams.inside(light, boxes)
    assert light.shape == (1, *image_size)
    assert share[0] > 0.95
    assert area[0] == pytest.approx(light.mean(), rel=0.05)


def looked(inside, area=0.15, people=20):
    rng = np.random.default_rng(0)
    rows = [
        (f"{k}", name, np.clip(share + rng.normal(0, 0.05), 0, 1), area)
        for k in range(people)
        for name, share in inside.items()
    ]
    return pd.DataFrame(rows, columns=["person", "attribute", "inside", "area"])


def test_density_is_one_for_a_map_without_preference():
    assert cams.density(0.15, 0.15) == pytest.approx(1)
    assert cams.density(0.5, 0.2) == pytest.approx(4)


def test_the_number_of_an_attribute_has_the_interval_of_people():
    table = looked({"a": 0.4}, people=200)
    table.loc[0, "inside"] = np.nan  # an empty map
    row = cams.in_face(table).loc["a"]
    assert row["photos"] == 199
    assert row["inside"] == pytest.approx(table["inside"].mean())
    width = 2 * 1.96 * table["inside"].std() / np.sqrt(199)
    assert row["inside_high"] - row["inside_low"] == pytest.approx(width, rel=0.15)
    assert row["low"] < row["density"] < row["high"]


def test_the_verdict_names_who_is_suspected():
    alarm = cams.verdict(cams.in_face(looked({"good": 0.6, "bad": 0.16})))
    assert "ALARM" in alarm
    assert "bad" in alarm
    assert "good" not in alarm
    assert "No alarm" in cams.verdict(cams.in_face(looked({"good": 0.6})))
    assert "No verdict" in cams.verdict(cams.in_face(looked({"bad": 0.4}, area=0.45)))
