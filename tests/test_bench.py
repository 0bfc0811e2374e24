"""The benchmark's functions at tiny size: what they compare and count, never how fast it is."""

import json
import math
import subprocess
from pathlib import Path

import cv2
import matplotlib
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TASK

from lib import artefacts
from lib.bench import detection, inference, processes, quality, sets, training, turns
from lib.data.index import build_images, load_images, people
from lib.errors import DataError
from lib.face import crops, faces
from lib.learn import recipe
from lib.plots import bench as figures

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"  # a real face
SIZE = [32, 32]
KINDS = ["wear"] * 3 + ["incorrect"] * 2 + ["normal"] * 2


def index(data, work):
    """Return the index of a set of the layout "table"."""
    return build_images(data, work, TASK, "table", sets.LAYOUT, 1)[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a set as a table: two people of seven photos and three test photos, one real face."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        (f"{person}{number}.jpg", person, kind, gender, age)
        for person, gender, age in (("a", "female", 60), ("b", "male", 25))
        for number, kind in enumerate(KINDS)
    ]
    train = pd.DataFrame(rows, columns=["path", "person", *TASK.names])
    test = pd.DataFrame({"path": [f"test{k}.jpg" for k in range(3)]})
    (folder / "images").mkdir()
    photo = cv2.resize(cv2.imread(str(PORTRAIT)), (384, 512))
    for number, path in enumerate([*train["path"], *test["path"]]):
        cv2.imwrite(str(folder / "images" / path), np.roll(photo, number, axis=1))
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def work(data, tmp_path_factory):
    """Return the work folder of ``data`` and its tables: images, faces, crops."""
    folder = tmp_path_factory.mktemp("work")
    images = index(data, folder)
    found = faces.build_faces(images, data, folder, workers=1)
    stored = crops.build_crops(images, found, data, folder, "face", 0.25, "keep", SIZE, 1)
    return folder, images, found, stored


@pytest.fixture(scope="module")
def prepared(work, tmp_path_factory):
    """Return the recipe at tiny size with its learner, epochs of two batches and probe."""
    folder, images, _, stored = work
    small = {"backbone": ["resnet10t"], "pretrained": False, "batch_size": 4, "max_batches": 2}
    small |= {"work_dir": str(folder), "image_size": SIZE, "precision": "fp32"}
    params = training.parameters(**small)
    path = tmp_path_factory.mktemp("probe") / "precision.csv"
    return params, *training.prepare(params, TASK, images, stored, path)


def test_turns_alternate_and_the_first_is_not_counted():
    called = []
    seconds = turns.take_turns({name: lambda name=name: called.append(name) for name in "ab"}, 3)
    assert called == list("abba" * 2)
    assert list(seconds.columns) == ["a", "b"]
    assert len(seconds) == 3
    assert (seconds > 0).all(axis=None)


@pytest.mark.parametrize(
    ("bar", "ours", "ratio", "reached"),
    [
        ("≥ 2", 1.0, 2.0, True),
        ("≥ 2", 9.0, 1.9, False),
        ("≤ 3", 2.9, math.nan, True),
        ("≤ 3", 3.1, math.nan, False),
    ],
)
def test_a_bar_judges_the_ratio_or_what_is_not_compared(bar, ours, ratio, reached):
    row = turns.result("m", bar, ours, "c", ratio=ratio)
    assert list(row) == turns.COLUMNS
    assert row["reached"] is reached


def test_a_ratio_is_the_median_over_turns():
    seconds = pd.DataFrame({"ours": [1.0, 2.0, 4.0], "peer": [3.0, 4.0, 4.0]})
    row = turns.compared("m", "≥ 2", seconds, 8, "peer", "c")
    assert (row["ours"], row["peer"], row["ratio"], row["reached"]) == (4.0, 2.0, 2.0, True)
    assert math.isnan(row["limit"])


def test_face_boxes_of_both_detectors(data, work, tmp_path):
    images = work[1]
    sample = detection.jpegs(images, TASK, 6)
    assert sample.groupby("mask").size().tolist() == [2, 2, 2]
    seconds, boxes = detection.face_boxes(sample, data, tmp_path, turns=2)
    assert seconds.shape == (2, 2)
    assert sorted(boxes["ours"].index) == sorted(boxes["peer"].index) == sorted(sample.index)
    rates = detection.detection_rates(boxes, faces.kinds(sample, TASK))
    assert (rates == 1).all(axis=None)
    assert detection.points_behind(rates) == 0
    assert 0.7 < detection.mean_iou(boxes) <= 1


def test_points_behind_is_the_worst_kind():
    columns = ["ours, any", "MTCNN, any", "ours, sure", "MTCNN, sure"]
    rates = pd.DataFrame([[1.0, 0.9, 0.8, 0.8], [0.9, 0.9, 0.7, 0.75]], columns=columns)
    assert detection.points_behind(rates) == pytest.approx(5)


def test_the_limit_takes_as_many_steps_as_an_epoch(prepared):
    _, learner, data, _ = prepared
    before = learner.updates
    assert math.isfinite(training.our_epoch(learner, data)())
    assert learner.updates - before == len(data(0)) == 2
    state = learner.optimizer.optimizer.state
    taken = next(iter(state.values()))["step"].item()
    training.pure_epoch(learner, data)()
    assert next(iter(state.values()))["step"].item() - taken == 2


def test_pictures_are_the_same_wherever_they_are_kept(data, work, prepared):
    _, images, found, stored = work
    epochs = prepared[2]
    decoded = training.Decoded(stored, images, found, data)
    np.testing.assert_array_equal(decoded[3], stored.pixels[3])
    elsewhere = training.with_pixels(epochs, np.array(stored.pixels))
    assert isinstance(epochs.photos.crops[0].pixels, np.memmap)
    torch.testing.assert_close(next(iter(elsewhere(0))), next(iter(epochs(0))))
    assert training.load_epoch(elsewhere)() == training.load_epoch(epochs)() == 8


def test_parts_of_a_step(prepared):
    params, learner, data, probe = prepared
    parts = training.step_parts(learner, data)
    assert parts.index[0] == "load, augment, collate"
    assert (parts > 0).all()
    assert training.setting(params, probe).startswith("resnet10t, fp32, 32x32 px, batches of 4, ")


def test_a_plain_loop(data, work, tmp_path):
    images = work[1]
    folder = training.link_classes(detection.jpegs(images, TASK, 100), data, tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        f"{label:03d}" for label in images["label"].dropna()
    }
    model = training.plain_model(folder, "resnet10t")
    assert training.plain_epoch(folder, model, SIZE, 2, 1)() is None


def test_time_to_quality_counts_to_the_score_that_the_loop_ends_with():
    ours = pd.DataFrame({"minutes": [1.0, 2.0, 3.0], "score": [0.2, 0.5, 0.6]})
    loop = pd.DataFrame({"minutes": [4.0, 8.0], "score": [0.55, 0.5]})
    assert quality.reached(ours, loop) == 2
    assert math.isnan(quality.reached(ours, loop.assign(score=0.7)))


def test_the_recipe_and_a_plain_loop_learn_the_same_people(tmp_path):
    recipe_file = tmp_path / "tiny.yaml"
    tiny = {"backbone": ["resnet10t"], "pretrained": False, "image_size": SIZE, "epochs": 2}
    tiny |= {"precision": "fp32", "batch_size": 16, "runs": ["a parameter of another notebook"]}
    recipe_file.write_text(json.dumps(tiny))
    race = quality.race(str(recipe_file), TASK, 20, tmp_path)
    for curve in race.values():
        assert len(curve) == 2
        assert curve["minutes"].is_monotonic_increasing
        assert curve["score"].between(0, 1).all()
    assert isinstance(figures.time_to_quality(race, TASK.metric), matplotlib.figure.Figure)


def test_views_of_all_folds(work, prepared, tmp_path):
    params, *_, probe = prepared
    here = params | {"runs_dir": str(tmp_path)}
    run = inference.make_run(here, TASK, work[3].keys[:5], probe, 2)
    table = inference.our_views(run, "hflip")()
    assert len(table) == 2 * 5
    np.testing.assert_allclose(table[recipe.columns(params, TASK)].sum(axis=1), 1)
    assert inference.pure_views(run, 5, 2)() is None


def test_a_linked_set_has_the_size_asked_for(data, work, tmp_path):
    folder = sets.link_set(work[1], TASK, data, tmp_path / "set", 70)
    images = index(folder, tmp_path / "work")
    assert images["split"].value_counts().to_dict() == {"train": 42, "eval": 28}
    assert (images["status"] == "ok").all()
    assert people(images, TASK)["photos"].tolist() == [7] * 6
    originals = work[1].set_index("sha256")
    originals = originals[~originals.index.duplicated()].loc[images["sha256"]]
    for name in [*TASK.names, "label"]:
        assert images[name].tolist() == originals[name].tolist()


def test_nothing_to_link_is_an_error(data, work, tmp_path):
    with pytest.raises(DataError, match="a training and a test photo"):
        sets.link_set(work[1].query("split == 'train'"), TASK, data, tmp_path, 70)


def test_costs_of_every_stage_in_its_own_process(data, work, tmp_path):
    folder, images, found, _ = work
    costs = sets.stage_costs(TASK, data, folder, tmp_path, 35, 5)
    assert costs["stage"].tolist() == list(sets.STATEMENTS)
    assert (costs["photos"] == 35).all()
    assert (costs["seconds"] > 0).all()
    assert (costs["megabytes"] > costs["own"]).all()
    assert (costs["own"] > 10).all()
    linked = faces.load_faces(tmp_path / "work35")
    originals = images.reset_index().set_index("sha256")["key"]
    originals = originals[~originals.index.duplicated()]
    known = originals.reindex(load_images(tmp_path / "work35")["sha256"])
    np.testing.assert_allclose(linked[faces.BOX], found.loc[known, faces.BOX], atol=1e-3)


def test_known_faces_are_not_detected_again(data, work, tmp_path, monkeypatch):
    folder, images, *_ = work
    linked = sets.link_set(images, TASK, data, tmp_path / "set", 35)
    other = tmp_path / "work"
    table = index(linked, other)
    sets.know_faces(other, folder, 30)
    seen, original = [], faces.detect_files
    monkeypatch.setattr(
        faces, "detect_files", lambda files, *more: seen.extend(files) or original(files, *more)
    )
    faces.build_faces(table, linked, other, workers=1)
    assert [str(file.relative_to(linked)) for file in seen] == table["file"].iloc[30:].tolist()


def test_memory_of_a_process_is_seen():
    small, large = (
        processes.alone("", f"import time; block = bytearray({size} * 2**20); time.sleep(0.3)")
        for size in (1, 200)
    )
    assert 150 < large["megabytes"] - small["megabytes"] < 250


def test_a_failing_stage_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        processes.alone("", "raise SystemExit(3)")


def test_peaks_are_of_the_larger_set_and_growth_of_own_memory():
    rows = [
        ("a", 100, 60.0, 50.0),
        ("b", 100, 70.0, 60.0),
        ("a", 200, 90.0, 70.0),
        ("b", 200, 80.0, 50.0),
    ]
    table = sets.peaks(pd.DataFrame(rows, columns=["stage", "photos", *processes.MEMORY]))
    assert table["megabytes"].to_dict() == {"a": 90, "b": 80}
    assert table["growth"].to_dict() == pytest.approx({"a": 200, "b": -100})


def test_fixed_costs(tmp_path):
    cells = [
        {"cell_type": "code", "source": [source]}
        for source in ("a = 1", "assert a == 1", "raise ValueError")
    ]
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert processes.kernel_seconds(path) > 0
    path.write_text(json.dumps({"cells": cells[1:]}))
    with pytest.raises(RuntimeError, match="NameError"):
        processes.kernel_seconds(path)
    seconds, torch_imported = processes.check_seconds("params/demo.yaml")
    assert seconds > 0
    assert not torch_imported


def test_figures_and_csv(tmp_path):
    rows = [
        turns.result("slow", "≥ 2", 1.0, "c", ratio=1.0),
        turns.result("small", "≤ 3", 1.0, "c"),
    ]
    artefacts.write_table(pd.DataFrame(rows), tmp_path / "benchmark.csv")
    table = pd.read_csv(tmp_path / "benchmark.csv")
    assert table.columns.tolist() == turns.COLUMNS
    assert figures.bars(table).axes[0].collections[1].get_offsets()[:, 0].tolist() == pytest.approx(
        [3, 0.5]
    )
    parts = pd.DataFrame({"forward": [1.0, 2.0], "backward": [2.0, 3.0]}, ["small", "large"])
    assert [text.get_text() for text in figures.step_parts(parts).axes[0].get_yticklabels()] == [
        "large\n5000 ms",
        "small\n3000 ms",
    ]
