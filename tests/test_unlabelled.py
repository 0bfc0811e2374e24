"""A folder of photos without labels: prepared as those of a run, then predicted by its models."""

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import PARAMS, TASK

from lib import artefacts
from lib.data.index import load_images
from lib.face import crops
from lib.learn import recipe
from lib.score import predict, runs, unlabelled

SMALL = {
    "backbone": ["resnet10t"], "pretrained": False, "image_size": [32, 32], "crop": "face",
    "experiment": "known", "task": "mask",
}  # fmt: skip


@pytest.fixture
def run(tiny_work, tmp_path):
    """Return a run of two untrained folds, on the tiny set."""
    params = PARAMS | SMALL | {"work_dir": str(tiny_work)}
    run = runs.start(str(tmp_path / "runs"), params, TASK)
    (run.folder / "precision.csv").write_text("precision,chosen\nfp32,True\n")
    return run


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "deep/a.jpg", "b.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (90, 80, 3)).astype(np.uint8))
    (tmp_path / "photos/broken.jpg").write_bytes(b"no photo")
    return tmp_path / "photos"


def test_photos_are_indexed_and_cropped_as_those_of_the_run(run, folder, tmp_path):
    images, made = unlabelled.prepare(folder, run, tmp_path / "more")
    assert images.status.to_dict() == {
        "a.jpg": "ok", "b.png": "ok", "broken.jpg": "unreadable", "deep/a.jpg": "ok",
    }  # fmt: skip
    assert set(images.split) == {"eval"}
    assert images[[*TASK.names, "label"]].isna().all(axis=None)
    known = load_images(run.params["work_dir"])
    assert images.dtypes["label"] == known.dtypes["label"]
    assert set(made.keys) == {"a.jpg", "b.png", "deep/a.jpg"}
    opened = crops.open_crops(tmp_path / "more", **crops.geometry(run.params))
    assert opened.pixels.shape == (3, 36, 36, 3)


def test_every_fold_predicts_the_photos_that_can_be_read(run, folder, tmp_path, monkeypatch):
    unlabelled.prepare(folder, run, tmp_path / "more")
    for fold in (0, 1):
        artefacts.write_table(pd.DataFrame({"fold": [fold]}), run.fold(fold) / "test.parquet")
    monkeypatch.setattr(recipe, "restore", lambda params, task, path: recipe.model(params, task))
    table = predict.unlabelled(run, "none", str(tmp_path / "more"))
    assert table.groupby("fold").size().to_dict() == {0: 3, 1: 3}
    np.testing.assert_allclose(table[TASK.columns()].sum(axis=1), 1, atol=1e-6)


def test_without_another_set_it_is_the_runs_own_table(run):
    own = pd.DataFrame({"fold": [0]}, pd.Index(["x"], name="key"))
    artefacts.write_table(own, run.folder / "test.parquet")
    pd.testing.assert_frame_equal(predict.unlabelled(run, "none", ""), own)


def test_the_command_tells_what_is_wrong(run, folder, tmp_path, capsys):
    command = ["--like", str(run.folder), "--out", str(tmp_path / "more")]
    assert unlabelled.main([str(folder), *command]) == 2
    assert "is not finished" in capsys.readouterr().err
    artefacts.write_json({}, run.folder / "metrics.json")
    (tmp_path / "empty").mkdir()
    assert unlabelled.main([str(tmp_path / "empty"), *command]) == 2
    assert "there are no photos" in capsys.readouterr().err
    assert unlabelled.main([str(folder), *command]) == 0
    assert "4 photos, 1 cannot be read" in capsys.readouterr().out
