import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PARAMS as DEFAULTS
from conftest import TASK
from sklearn.metrics import f1_score, log_loss

from lib import artefacts
from lib.errors import DataError, ParameterError
from lib.face import crops
from lib.learn import precision, recipe
from lib.score import predict, runs

FP32 = precision.PRECISIONS["fp32"]
COLUMNS = TASK.columns()
GEOMETRY = {"crop": "face", "crop_margin": 0.25, "background": "keep", "image_size": [32, 32]}
PARAMS = {**DEFAULTS, **GEOMETRY, "backbone": ["test_efficientnet"], "pretrained": False}


@pytest.fixture
def cache(tiny_work):
    """Return the tiny crops with random pixels: flat colours would look alike in every view."""
    cache = crops.open_crops(tiny_work, **GEOMETRY)
    noise = np.random.default_rng(0).integers(0, 256, cache.pixels.shape, dtype=np.uint8)
    return crops.Crops(cache.keys, noise, cache.boxes, cache.image_size, cache.folder)


@pytest.fixture
def model():
    return recipe.model(PARAMS, TASK).eval()


@pytest.fixture
def photos(tiny_work):
    images = pd.read_parquet(tiny_work / "images.parquet")
    return images[images["split"] == "train"]


@pytest.fixture
def stored(cache):
    return torch.from_numpy(cache.pixels[:5]).permute(0, 3, 1, 2).float()


def values(model, cache, tta):
    return torch.tensor(
        predict.predict(model, cache, cache.keys[:5], COLUMNS, FP32, tta).to_numpy()
    ).float()


@torch.no_grad()
def probabilities(model, images):
    assert images.shape[2:] == (32, 32)
    return model.probabilities(images)


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_views_the_centre_is_predicted(model, cache, stored):
    assert stored.shape[2:] == (36, 36)
    close(values(model, cache, "none"), probabilities(model, stored[:, :, 2:34, 2:34]))


def test_hflip_is_the_mean_of_two_passes(model, cache, stored):
    centre = stored[:, :, 2:34, 2:34]
    close(
        values(model, cache, "hflip"),
        (probabilities(model, centre) + probabilities(model, centre.flip(3))) / 2,
    )


def test_five_crop_is_the_mean_of_corners_and_centre(model, cache, stored):
    starts = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    five = [
        probabilities(model, stored[:, :, top : top + 32, left : left + 32]) for top, left in starts
    ]
    close(values(model, cache, "five_crop"), torch.stack(five).mean(0))


def test_multi_scale_is_the_mean_of_centres_at_three_sizes(model, cache, stored):
    def centre(size):
        scaled = torch.nn.functional.interpolate(
            stored, size=(size, size), mode="bilinear", align_corners=False
        )
        start = (size - 32) // 2
        return scaled[:, :, start : start + 32, start : start + 32]

    scales = [probabilities(model, centre(size)) for size in (32, 36, 40)]
    close(values(model, cache, "multi_scale"), torch.stack(scales).mean(0))


@pytest.mark.parametrize("tta", predict.VIEWS)
def test_views_differ_and_rows_are_probabilities(model, cache, tta):
    table = predict.predict(model, cache, cache.keys[:5], COLUMNS, FP32, tta)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (table.to_numpy() >= 0).all()
    assert (tta == "none") == np.allclose(
        table, predict.predict(model, cache, cache.keys[:5], COLUMNS, FP32), atol=1e-7
    )


def test_rows_follow_the_keys_in_any_order_and_number(model, cache, monkeypatch):
    monkeypatch.setattr(predict, "BATCH_SIZE", 4)
    table = predict.predict(model, cache, cache.keys[:11], COLUMNS, FP32)
    backwards = predict.predict(model, cache, cache.keys[10::-1], COLUMNS, FP32)
    assert list(backwards.index) == list(cache.keys[10::-1])
    pd.testing.assert_frame_equal(backwards.loc[table.index], table, atol=1e-6)
    assert predict.predict(model, cache, [], COLUMNS, FP32).shape == (0, 18)
    with pytest.raises(DataError, match="have no crop"):
        predict.predict(model, cache, ["nobody"], COLUMNS, FP32)


def test_a_wrong_view_lists_the_choices(model, cache):
    with pytest.raises(ParameterError, match="none, hflip, multi_scale, five_crop"):
        values(model, cache, "flip")


def test_the_score_is_scikit_learns(model, cache, photos):
    found = predict.scorer(cache, photos, TASK, COLUMNS, FP32)(model)
    table = predict.predict(model, cache, photos.index, COLUMNS, FP32)
    truth, guess = photos["label"].to_numpy(int), table.to_numpy().argmax(1)
    assert found["score"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found["valid_log_loss"] == pytest.approx(log_loss(truth, table, labels=range(18)))
    nobody = predict.scorer(cache, photos[:0], TASK, COLUMNS, FP32)(model)
    assert np.isnan(list(nobody.values())).all()


def test_parts_sum_to_one_each_and_their_log_losses_are_averaged(cache, photos):
    """A run that learned two attributes has a table of two parts."""
    params = {**PARAMS, "learn": ["gender", "mask"]}
    columns = recipe.columns(params, TASK)
    assert columns == [*TASK.columns("mask"), *TASK.columns("gender")]
    model = recipe.model(params, TASK).eval()
    table = predict.predict(model, cache, photos.index, columns, FP32)
    found = predict.scorer(cache, photos, TASK, columns, FP32)(model)
    losses, scores = [], []
    for name in ("mask", "gender"):
        own, true = table[TASK.columns(name)], photos[name].to_numpy(int)
        np.testing.assert_allclose(own.sum(axis=1), 1)
        losses.append(log_loss(true, own))
        scores.append(f1_score(true, own.to_numpy().argmax(axis=1), average="macro"))
    assert found["valid_log_loss"] == pytest.approx(np.mean(losses))
    assert found["score"] == pytest.approx(np.mean(scores))


def test_a_runs_views_are_predicted_by_its_checkpoints_once(model, cache, photos, tmp_path, capsys):
    cache = crops.open_crops(tmp_path / "work", **GEOMETRY)
    params = {**PARAMS, "experiment": "x", "work_dir": str(tmp_path / "work")}
    run = runs.start(str(tmp_path), params, TASK)
    precision.choose("fp32", model, [32, 32], 2, run.folder / "precision.csv")
    run.fold(1).mkdir()
    torch.save(model.state_dict(), run.fold(1) / "best.pt")
    oof, test = (
        predict.predict(model, cache, photos.index[part], COLUMNS, FP32)
        for part in (slice(0, 6), slice(-4, None))
    )
    run.write_fold(1, runs.oof_table(oof, photos[:6], 1), test)
    artefacts.write_table(test.assign(fold=1), run.folder / "test.parquet")

    flipped = predict.viewed(run, "oof", "hflip")
    again = predict.predict(model, cache, oof.index, COLUMNS, FP32, "hflip")
    pd.testing.assert_frame_equal(flipped[COLUMNS], again)
    assert flipped["label"].to_dict() == photos["label"][:6].to_dict()
    (run.fold(1) / "oof_hflip.parquet").write_text("cut short")
    pd.testing.assert_frame_equal(predict.viewed(run, "oof", "hflip"), flipped)
    assert "oof_hflip.parquet cannot be read" in capsys.readouterr().out
    (run.fold(1) / "best.pt").unlink()
    pd.testing.assert_frame_equal(predict.viewed(run, "oof", "hflip"), flipped)
    pd.testing.assert_frame_equal(predict.viewed(run, "test", "none")[COLUMNS], test)
