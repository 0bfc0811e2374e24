"""The benchmark's functions at tiny size: what they compare and count, never how fast it is."""

import json
import math
import subprocess
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from lib import artefacts
from lib.bench import bench
from lib.data import dataset
from lib.errors import DataError
from lib.face import crops, faces
from lib.learn import heads, training_set
from lib.plots import bench as figures

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"  # a real face
SIZE = [32, 32]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a data set in the competition's layout: two people and three test photos, one real face."""
    folder, people = tmp_path_factory.mktemp("data"), ["000001_female_Asian_60", "000002_male_Asian_25"]
    photo = cv2.resize(cv2.imread(str(PORTRAIT)), (384, 512))
    names = [f"train/images/{person}/{stem}.jpg" for person in people for stem in dataset.STEMS]
    for number, name in enumerate([*names, *(f"eval/images/{k}.jpg" for k in range(3))]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.roll(photo, number, axis=1))
    rows = [[*person.split("_"), person] for person in people]
    pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"]).to_csv(folder / "train/train.csv", index=False)
    pd.DataFrame({"ImageID": [f"{k}.jpg" for k in range(3)], "ans": 0}).to_csv(folder / "eval/info.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def work(data, tmp_path_factory):
    """Return the work folder of ``data`` with all that training needs, and its tables: images, faces, crops."""
    folder = tmp_path_factory.mktemp("work")
    images, _ = dataset.build_images(data, folder, 1)
    found = faces.build_faces(images, data, folder, 1)
    return folder, images, found, crops.build_crops(images, found, data, folder, "face", 0.25, "keep", SIZE, 1)


@pytest.fixture(scope="module")
def prepared(work, tmp_path_factory):
    """Return the recipe at tiny size with its learner, epochs of two batches and probe."""
    folder, images, _, stored = work
    changes = {"backbone": ["resnet10t"], "pretrained": False, "batch_size": 4, "precision": "fp32"}
    params = bench.recipe(work_dir=str(folder), image_size=SIZE, **changes)
    photos = training_set.with_crops(images, stored, "train")
    return params, *bench.prepare(params, photos, stored, 2, tmp_path_factory.mktemp("probe") / "precision.csv")


def test_turns_go_to_and_fro_and_count_but_for_the_first():
    called = []
    seconds = bench.take_turns({name: lambda name=name: called.append(name) for name in "ab"}, 3)
    assert called == list("abba" * 2)
    assert list(seconds.columns) == ["a", "b"]
    assert len(seconds) == 3
    assert (seconds > 0).all(axis=None)


@pytest.mark.parametrize(
    ("bar", "ours", "ratio", "reached"),
    [("≥ 2", 1.0, 2.0, True), ("≥ 2", 9.0, 1.9, False), ("≤ 3", 2.9, math.nan, True), ("≤ 3", 3.1, math.nan, False)],
)
def test_a_bar_judges_the_ratio_or_what_is_alone(bar, ours, ratio, reached):
    row = bench.result("m", bar, ours, "c", ratio=ratio)
    assert list(row) == bench.COLUMNS
    assert row["reached"] is reached


def test_a_ratio_is_the_median_over_turns():
    seconds = pd.DataFrame({"ours": [1.0, 2.0, 4.0], "peer": [3.0, 4.0, 4.0]})
    row = bench.compared("m", "≥ 2", seconds, 8, "peer", "c")
    assert (row["ours"], row["peer"], row["ratio"], row["reached"]) == (4.0, 2.0, 2.0, True)
    assert math.isnan(row["limit"])


def test_face_boxes_of_both_detectors(data, work, tmp_path):
    images = work[1]
    sample = bench.jpegs(images, 6)
    assert sample.groupby("mask").size().tolist() == [2, 2, 2]
    seconds, boxes = bench.face_boxes(sample, data, tmp_path, turns=2)
    assert seconds.shape == (2, 2)
    assert sorted(boxes["ours"].index) == sorted(boxes["peer"].index) == sorted(sample.index)
    rates = bench.detection_rates(boxes, sample["mask"])
    assert (rates == 1).all(axis=None)
    assert bench.points_behind(rates) == 0
    assert 0.7 < bench.mean_iou(boxes) <= 1


def test_points_behind_is_the_worst_state():
    columns = ["ours, any", "MTCNN, any", "ours, sure", "MTCNN, sure"]
    rates = pd.DataFrame([[1.0, 0.9, 0.8, 0.8], [0.9, 0.9, 0.7, 0.75]], columns=columns)
    assert bench.points_behind(rates) == pytest.approx(5)


def test_the_limit_takes_as_many_steps_as_an_epoch(prepared):
    _, learner, data, _ = prepared
    before = learner.updates
    assert math.isfinite(bench.our_epoch(learner, data)())
    assert learner.updates - before == len(data(0)) == 2
    state = learner.optimizer.optimizer.state
    taken = next(iter(state.values()))["step"].item()
    bench.pure_epoch(learner, data)()
    assert next(iter(state.values()))["step"].item() - taken == 2


def test_pictures_are_the_same_wherever_they_are_kept(data, work, prepared):
    _, images, found, stored = work
    epochs = prepared[2]
    decoded = bench.Decoded(stored, images, found, data)
    np.testing.assert_array_equal(decoded[3], stored.pixels[3])
    elsewhere = bench.with_pixels(epochs, np.array(stored.pixels))
    assert isinstance(epochs.photos.crops[0].pixels, np.memmap)
    torch.testing.assert_close(next(iter(elsewhere(0))), next(iter(epochs(0))))
    assert bench.loaded(elsewhere) == bench.loading(epochs)() == 8


def test_parts_of_a_step(prepared):
    params, learner, data, probe = prepared
    parts = bench.step_parts(learner, data)
    assert parts.index[0] == "load, augment, collate"
    assert (parts > 0).all()
    assert bench.setting(params, probe).startswith("resnet10t, fp32, 32x32 px, batches of 4, ")


def test_a_plain_loop(data, work, tmp_path):
    images = work[1]
    folder = bench.link_classes(bench.jpegs(images, 100), data, tmp_path)
    assert {path.name for path in folder.iterdir()} == {f"{label:02d}" for label in images["label"].dropna()}
    assert bench.plain_epoch(folder, "resnet10t", SIZE, 2, 1)() is None


def test_views_of_all_folds(work, prepared, tmp_path):
    params, *_, probe = prepared
    run = bench.make_run(params | {"runs_dir": str(tmp_path)}, work[3].keys[:5], probe, 2)
    table = bench.our_views(run, "hflip")()
    assert len(table) == 2 * 5
    np.testing.assert_allclose(table[heads.columns("all")].sum(axis=1), 1)
    assert bench.pure_views(run, 5, 2)() is None


def test_a_linked_set_has_the_size_asked_for(data, tmp_path):
    folder = bench.link_set(dataset.index(data), data, tmp_path, 70)
    images = dataset.index(folder)
    assert images["split"].value_counts().to_dict() == {"train": 42, "eval": 28}
    assert (images["status"] == "ok").all()
    assert dataset.people(images)["photos"].tolist() == [7] * 6
    assert dataset.find_issues(images, folder).empty


def test_nothing_to_link_is_an_error(data, tmp_path):
    with pytest.raises(DataError, match="a person with seven photos"):
        bench.link_set(dataset.index(data).iloc[:6], data, tmp_path, 70)


def test_costs_of_every_stage_in_its_own_process(data, work, tmp_path):
    folder, images, found, _ = work
    costs = bench.stage_costs(images, data, folder, tmp_path, 35, 5)
    assert costs["stage"].tolist() == list(bench.STATEMENTS)
    assert (costs["photos"] == 35).all()
    assert (costs["seconds"] > 0).all()
    assert (costs["megabytes"] > costs["own"]).all()
    assert (costs["own"] > 10).all()
    linked = faces.load_faces(tmp_path / "work35")
    originals = dataset.load_images(folder).reset_index().set_index("sha256")["key"]
    known = originals[~originals.index.duplicated()].reindex(dataset.load_images(tmp_path / "work35")["sha256"])
    np.testing.assert_allclose(linked[faces.BOX], found.loc[known, faces.BOX], atol=1e-3)


def test_faces_that_are_known_are_not_looked_for(data, work, tmp_path, monkeypatch):
    folder, images, *_ = work
    linked, other = bench.link_set(images, data, tmp_path / "set", 35), tmp_path / "work"
    table, _ = dataset.build_images(linked, other, 1)
    bench.know_faces(other, folder, 30)
    seen, original = [], faces.detect_files
    monkeypatch.setattr(faces, "detect_files", lambda files: seen.extend(files) or original(files))
    faces.build_faces(table, linked, other, 1)
    assert [str(file.relative_to(linked)) for file in seen] == table["file"].iloc[30:].tolist()


def test_memory_of_a_process_is_seen():
    small, large = (bench.alone("", f"import time; block = bytearray({size} * 2**20); time.sleep(0.3)") for size in (1, 200))
    assert 150 < large["megabytes"] - small["megabytes"] < 250


def test_a_failing_stage_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        bench.alone("", "raise SystemExit(3)")


def test_peaks_are_of_the_larger_set_and_growth_of_what_is_its_own():
    rows = [("a", 100, 60.0, 50.0), ("b", 100, 70.0, 60.0), ("a", 200, 90.0, 70.0), ("b", 200, 80.0, 50.0)]
    table = bench.peaks(pd.DataFrame(rows, columns=["stage", "photos", *bench.MEMORY]))
    assert table["megabytes"].to_dict() == {"a": 90, "b": 80}
    assert table["growth"].to_dict() == pytest.approx({"a": 200, "b": -100})


def test_fixed_costs(tmp_path):
    cells = [{"cell_type": "code", "source": [source]} for source in ("a = 1", "assert a == 1", "raise ValueError")]
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert bench.kernel_seconds(path) > 0
    path.write_text(json.dumps({"cells": cells[1:]}))
    with pytest.raises(RuntimeError, match="NameError"):
        bench.kernel_seconds(path)
    seconds, torch_imported = bench.check_seconds("params/demo.yaml")
    assert seconds > 0
    assert not torch_imported


def test_figures_and_csv(tmp_path):
    rows = [bench.result("slow", "≥ 2", 1.0, "c", ratio=1.0), bench.result("small", "≤ 3", 1.0, "c")]
    artefacts.write_table(pd.DataFrame(rows), tmp_path / "benchmark.csv")
    table = pd.read_csv(tmp_path / "benchmark.csv")
    assert table.columns.tolist() == bench.COLUMNS
    assert figures.bars(table).axes[0].collections[1].get_offsets()[:, 0].tolist() == pytest.approx([3, 0.5])
    parts = pd.DataFrame({"forward": [1.0, 2.0], "backward": [2.0, 3.0]}, ["small", "large"])
    assert [text.get_text() for text in figures.step_parts(parts).axes[0].get_yticklabels()] == [
        "large\n5000 ms",
        "small\n3000 ms",
    ]
