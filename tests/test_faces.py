import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TASK, tiny_images
from facenet_pytorch import MTCNN
from PIL import Image

from lib.artefacts import PROJECT
from lib.data.photos import read
from lib.errors import ArtefactError, ParameterError
from lib.face import faces, mtcnn

PORTRAIT = (
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
)  # a real face, 512 x 600 px


def candidate(x0, y0, x1, y1, score):
    return np.array([x0, y0, x1, y1, score, *np.arange(10.0)])


def test_iou_against_counted_pixels():
    grid = np.zeros((2, 40, 40), bool)
    boxes = np.array([[5, 5, 25, 20], [10, 0, 30, 15]])
    for inside, (x0, y0, x1, y1) in zip(grid, boxes, strict=True):
        inside[y0:y1, x0:x1] = True
    assert faces.iou(*boxes) == pytest.approx((grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum())
    assert faces.iou(boxes, boxes).tolist() == [1, 1]
    assert faces.iou([0, 0, 1, 1], [2, 2, 3, 3]) == 0


def test_the_person_portrayed_wins_over_a_small_sure_face_at_the_edge():
    portrayed, passer_by = candidate(130, 170, 260, 330, 0.93), candidate(5, 5, 45, 55, 0.999)
    best, status = faces.choose(np.stack([passer_by, portrayed]), 384, 512)
    assert (best.tolist(), status) == (portrayed.tolist(), "detected")


def test_a_low_score_counts_only_near_the_centre():
    near, far = candidate(130, 170, 260, 330, 0.5), candidate(0, 0, 130, 160, 0.8)
    assert faces.choose(np.stack([far, near]), 384, 512)[1] == "low"
    assert faces.choose(np.stack([far, near]), 384, 512)[0][4] == 0.5
    assert faces.choose(far[None], 384, 512)[1] == "fallback"


def test_of_two_boxes_around_one_face_the_surer_is_taken():
    large, sure = candidate(120, 160, 270, 340, 0.85), candidate(135, 175, 255, 325, 0.95)
    best, status = faces.choose(np.stack([large, sure]), 384, 512)
    assert (best[4], status) == (0.95, "detected")


def test_a_sure_face_counts_anywhere_and_none_is_a_fallback():
    assert faces.choose(candidate(0, 0, 130, 160, 0.95)[None], 384, 512)[1] == "detected"
    best, status = faces.choose(np.empty((0, 15)), 384, 512)
    assert status == "fallback"
    assert np.isnan(best).all()


def test_the_fallback_is_the_median_box_scaled_to_the_photo():
    images = pd.DataFrame(
        {"width": [100, 200, 400, 400], "height": [100, 200, 800, 800]}, list("abcd")
    ).astype("Int64")
    found = pd.DataFrame(
        [[10, 20, 50, 60], [40, 60, 120, 140], [np.nan] * 4, [np.nan] * 4], list("abcd"), faces.BOX
    )
    found["status"] = ["detected", "low", "fallback", "unreadable"]
    filled = faces.fill_fallback(found, images, faces.typical_box(found, images))
    np.testing.assert_allclose(
        filled.loc["c", faces.BOX].astype(float), [0.15 * 400, 0.25 * 800, 0.55 * 400, 0.65 * 800]
    )
    assert filled.loc["d", faces.BOX].isna().all()
    lost = found.loc[["c"]]
    alone = faces.fill_fallback(lost, images, faces.typical_box(lost, images))
    np.testing.assert_allclose(
        alone.loc["c", faces.BOX].astype(float) / [400, 800, 400, 800], faces.TYPICAL
    )


def test_with_the_packages_resizing_detect_gives_the_packages_numbers(monkeypatch):
    def area(picture, size, interpolation):
        batch = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
        return (
            torch.nn.functional.interpolate(batch, size=size[::-1], mode="area")[0]
            .permute(1, 2, 0)
            .numpy()
        )

    photo = read(PORTRAIT, 2)
    boxes, scores, points = MTCNN(min_face_size=40).detect(photo, landmarks=True)
    monkeypatch.setattr(mtcnn.cv2, "resize", area)
    mine = mtcnn.detect(photo[None], 40, (0.6, 0.7, 0.7))[0]
    np.testing.assert_allclose(
        mine, np.c_[boxes, scores, points.reshape(1, 10)].astype(float), atol=1e-2
    )


def test_a_batch_gives_what_single_photos_give():
    photo = read(PORTRAIT, 2)
    batch = np.stack([photo, np.zeros_like(photo), photo[:, ::-1]])
    together = mtcnn.detect(batch, 40, (0.6, 0.7, 0.7))
    assert [len(found) for found in together] == [1, 0, 1]
    for picture, found in zip(batch, together, strict=True):
        np.testing.assert_allclose(
            mtcnn.detect(picture[None], 40, (0.6, 0.7, 0.7))[0], found, atol=1e-2
        )


def test_patches_may_be_searched_in_groups_of_any_size(monkeypatch):
    photos = np.stack([read(PORTRAIT, 2)] * 3)
    whole = mtcnn.detect(photos, 40, (0.6, 0.7, 0.7))
    monkeypatch.setattr(mtcnn, "GROUP", 5)
    for mine, found in zip(mtcnn.detect(photos, 40, (0.6, 0.7, 0.7)), whole, strict=True):
        np.testing.assert_allclose(mine, found, atol=1e-2)


def test_a_photo_at_half_size_gives_full_size_coordinates():
    *row, status = faces.detect_files([PORTRAIT])[0]
    whole = mtcnn.detect_one_by_one([PORTRAIT]).iloc[0]
    assert status == "detected"
    assert faces.iou(row[:4], whole[faces.BOX]) > 0.8


@pytest.fixture
def photos(tmp_path):
    """Two real portraits of different size, a blank photo, junk, and one that is not there."""
    data = tmp_path / "data"
    data.mkdir()
    portrait = cv2.imread(str(PORTRAIT))
    cv2.imwrite(str(data / "big.jpg"), portrait)
    cv2.imwrite(str(data / "small.png"), cv2.resize(portrait, (384, 450)))
    cv2.imwrite(str(data / "blank.jpg"), np.full((600, 512, 3), 128, np.uint8))
    (data / "junk.jpg").write_bytes(b"no picture")
    keys = pd.Index(["big", "small", "blank", "junk", "missing"], name="key")
    files = ["big.jpg", "small.png", "blank.jpg", "junk.jpg", ""]
    images = pd.DataFrame(
        {
            "file": files,
            "width": [512, 384, 512, pd.NA, pd.NA],
            "height": [600, 450, 600, pd.NA, pd.NA],
        },
        keys,
    )
    return (
        images.astype({"width": "Int64", "height": "Int64"}).assign(sha256=[*"abcd", None]),
        data,
        tmp_path / "work",
    )


def test_every_photo_gets_a_status_and_readable_ones_a_box(photos):
    found = faces.build_faces(*photos)
    assert found.status.tolist() == ["detected", "detected", "fallback", "unreadable", "unreadable"]
    assert found.loc[["junk", "missing"], faces.BOX].isna().all(axis=None)
    pairs = found.loc[["big", "blank"], faces.BOX].to_numpy()
    assert faces.iou(*pairs) > 0.9  # the fallback lies where faces of this set are
    pd.testing.assert_frame_equal(faces.load_faces(photos[2]), found)


def test_only_new_and_changed_photos_are_detected_again(photos, monkeypatch):
    images, data, work = photos
    first = faces.build_faces(images.iloc[:2], data, work)
    seen = []
    original = faces.detect_files
    monkeypatch.setattr(
        faces,
        "detect_files",
        lambda files, detector: seen.extend(file.name for file in files) or original(files),
    )
    second = faces.build_faces(images.iloc[:3], data, work)
    assert seen == ["blank.jpg"]
    pd.testing.assert_frame_equal(second.iloc[:2], first)
    faces.build_faces(images.iloc[:3].assign(sha256=["a", "changed", "c"]), data, work)
    assert seen == ["blank.jpg", "small.png"]


def test_damaged_detections_are_told_and_made_again(photos, capsys):
    images, data, work = photos
    first = faces.build_faces(images.iloc[:1], data, work)
    (work / faces.DETECTIONS).write_bytes(b"")
    pd.testing.assert_frame_equal(faces.build_faces(images.iloc[:1], data, work), first)
    assert "detections.parquet cannot be read" in capsys.readouterr().out


def test_workers_share_the_photos_evenly(photos, monkeypatch):
    sizes, original = [], faces.detect_files
    monkeypatch.setattr(faces, "BATCH", 2)
    monkeypatch.setattr(
        faces, "detect_files", lambda files, detector: sizes.append(len(files)) or original(files)
    )
    found = faces.build_faces(*photos, workers=2)
    assert sorted(sizes) == [1, 1, 1, 2]
    assert found["status"].tolist() == [
        "detected",
        "detected",
        "fallback",
        "unreadable",
        "unreadable",
    ]


def test_a_killed_run_continues(photos, monkeypatch):
    original = faces.detect_files
    monkeypatch.setattr(faces, "CHUNK", 1)
    monkeypatch.setattr(faces, "BATCH", 1)

    def kill_at_the_second(files, detector):
        if files[0].name == "small.png":
            raise KeyboardInterrupt
        return original(files)

    monkeypatch.setattr(faces, "detect_files", kill_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        faces.build_faces(*photos)
    with pytest.raises(ArtefactError, match="run the stage 'crop'"):
        faces.load_faces(photos[2])
    seen = []
    monkeypatch.setattr(
        faces,
        "detect_files",
        lambda files, detector: seen.extend(file.name for file in files) or original(files),
    )
    faces.build_faces(*photos)
    assert "big.jpg" not in seen
    assert "small.png" in seen


def test_without_a_detector_every_readable_photo_is_its_own_box(photos):
    found = faces.build_faces(*photos, detector="none")
    assert found.status.tolist() == ["whole", "whole", "whole", "unreadable", "unreadable"]
    assert found.loc["small", faces.BOX].tolist() == [0, 0, 384, 450]
    assert found.loc[["junk", "missing"], faces.BOX].isna().all(axis=None)
    assert faces.build_faces(*photos).status.tolist()[:3] == ["detected", "detected", "fallback"]


def test_without_a_detector_none_is_imported():
    code = """if True:
        import sys
        import pandas as pd
        from lib.face import crops, faces
        images = pd.DataFrame({"width": [8], "height": [8], "sha256": ["a"]}, ["a"])
        faces.build_faces(images, sys.argv[1], sys.argv[1], detector="none")
        print("facenet_pytorch" in sys.modules, "torch" in sys.modules)"""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", code, folder]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert printed.stdout.split() == ["False", "False"]


def test_a_wrong_detector_says_what_is_accepted(photos):
    with pytest.raises(ParameterError, match="mtcnn, none"):
        faces.build_faces(*photos, detector="mtcn")


@pytest.mark.parametrize("size", [(1, 1), (60, 60), (400, 70), (71, 71), (79, 300), (20000, 1)])
def test_a_photo_too_small_for_the_detector_has_no_face(tmp_path, size):
    cv2.imwrite(str(tmp_path / "small.png"), np.full((size[1], size[0], 3), 90, np.uint8))
    *_, status = faces.detect_files([tmp_path / "small.png"])[0]
    assert status == "fallback"


def test_a_very_large_photo_is_searched_at_a_smaller_size(tmp_path):
    large = cv2.resize(cv2.imread(str(PORTRAIT)), (5120, 6000))
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    (*found, status), (*same, _) = faces.detect_files([tmp_path / "large.jpg", PORTRAIT])
    assert status == "detected"
    assert faces.iou(np.array(found[:4]) / 10, same[:4]) > 0.8


@pytest.mark.parametrize("kind", ["CMYK", "RGBA", "L", "P", "I;16", "animated"])
def test_photos_of_every_colour_mode_are_searched(tmp_path, kind):
    picture, file = Image.open(PORTRAIT), tmp_path / ("a.jpg" if kind == "CMYK" else "a.png")
    if kind == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif kind == "animated":
        file = tmp_path / "a.gif"
    else:
        picture = picture.convert(kind)
    more = {"save_all": True, "append_images": [picture.rotate(90)]} if kind == "animated" else {}
    picture.save(file, **more)
    *_, status = faces.detect_files([file])[0]
    assert status == "detected"


def test_kinds_are_the_classes_recorded_per_photo():
    images = tiny_images(1, test_photos=1)
    kinds = faces.kinds(images, TASK)
    assert kinds[images["mask"] == 1].unique().tolist() == [TASK["mask"].classes[1]]
    assert kinds[images.split == "eval"].tolist() == ["eval"]
    two = replace(TASK["gender"], per="photo")
    both = replace(TASK, attributes={**TASK.attributes, "gender": two})
    assert faces.kinds(images, both).iloc[0] == "wear male"
    person = replace(TASK["mask"], per="person")
    nothing = replace(TASK, attributes={**TASK.attributes, "mask": person})
    assert faces.kinds(images, nothing).unique().tolist() == ["all photos"]


def test_a_sample_has_as_many_of_each_kind():
    kinds = pd.Series([*"aaaaaaaabbbbbbbbcc"])
    assert kinds[faces.sample(kinds, 8)].value_counts().to_dict() == {"a": 3, "b": 3, "c": 2}
    assert len(faces.sample(kinds, 0)) == 0


def test_compare_finds_nearly_the_same_boxes_as_the_package(photos):
    images, data, work = photos
    found = faces.build_faces(images, data, work)
    compared = faces.compare(images, found, data)
    assert compared.index.tolist() == ["big", "small", "blank"]
    assert compared.iou[["big", "small"]].min() > 0.8
    assert compared.loc["blank"].isna().all()
    whole = faces.build_faces(images, data, work, detector="none")
    assert faces.compare(images, whole, data).empty
