import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import workers
from lib.errors import ArtefactError, DataError, ParameterError
from lib.face import background, crops, geometry
from lib.face.faces import BOX, LANDMARKS, PLACES

GEOMETRY = {"crop": "face", "crop_margin": 0.25, "background": "keep", "image_size": [32, 32]}


def draw_disc(width=192, height=256, centre=(96, 128), radius=40, colour=(200, 30, 30)):
    photo = np.full((height, width, 3), (20, 60, 120), np.uint8)
    return cv2.circle(photo, centre, radius, colour, -1)


def face_row(x0, y0, x1, y1, source="a", status="detected"):
    eyes, mouth = y0 + 0.4 * (y1 - y0), y0 + 0.8 * (y1 - y0)
    left, right = x0 + 0.3 * (x1 - x0), x0 + 0.7 * (x1 - x0)
    points = [
        left,
        eyes,
        right,
        eyes,
        (left + right) / 2,
        (eyes + mouth) / 2,
        left,
        mouth,
        right,
        mouth,
    ]
    row = [x0, y0, x1, y1, 0.99, *points, status, source]
    return dict(zip([*BOX, "score", *LANDMARKS, "status", "source"], row, strict=True))


def places(*box):
    row = face_row(*box)
    return np.array([row[name] for name in PLACES], float)


@pytest.fixture
def photos(tmp_path):
    """Four photos, each of its own disc; the fourth cannot be read."""
    data = tmp_path / "data"
    data.mkdir()
    for k in range(3):
        colour = (200 - 50 * k, 30, 30)
        cv2.imwrite(
            str(data / f"{k}.png"), cv2.cvtColor(draw_disc(colour=colour), cv2.COLOR_RGB2BGR)
        )
    (data / "3.png").write_bytes(b"junk")
    keys = pd.Index([f"p/{k}" for k in range(4)], name="key")
    images = pd.DataFrame(
        {"file": [f"{k}.png" for k in range(4)], "width": 192, "height": 256}, keys
    )
    images = images.astype({"width": "Int64", "height": "Int64"})
    images.loc["p/3", ["width", "height"]] = pd.NA
    rows = [face_row(56, 88, 136, 168, source=str(k)) for k in range(3)]
    rows.append(face_row(*[np.nan] * 4, source="3", status="unreadable"))
    return images, pd.DataFrame(rows, keys), data, tmp_path / "work"


def build(photos, **changed):
    return crops.build_crops(*photos, **{**GEOMETRY, **changed})


@pytest.mark.parametrize("crop", list(geometry.CROPS))
@pytest.mark.parametrize("aspect", [0.5, 0.75, 1, 2])
def test_crop_box_has_the_targets_aspect(crop, aspect):
    x0, y0, x1, y1 = geometry.crop_box(crop, (50, 60, 130, 160), 384, 512, 0.25, aspect)
    assert (x1 - x0) / (y1 - y0) == pytest.approx(aspect)


def test_whole_contains_the_photo_and_center_is_the_winners_cut():
    assert geometry.crop_box("whole", None, 384, 512, 0, 1).tolist() == [-64, 0, 448, 512]
    assert geometry.crop_box("center", None, 384, 512, 0, 1).tolist() == [
        17,
        81,
        367,
        431,
    ]  # 350 x 350 px in the middle


def test_margin_is_a_share_of_the_face_on_each_side():
    assert geometry.crop_box("face", (100, 100, 200, 200), 384, 512, 0.25, 1).tolist() == [
        75,
        75,
        225,
        225,
    ]


def test_wrong_names_and_sizes_say_what_is_accepted(tmp_path):
    with pytest.raises(ParameterError, match="whole, center, face"):
        crops.open_crops(tmp_path, "faces", 0.25, "keep", [32, 32])
    with pytest.raises(ParameterError, match="keep, grabcut, segment"):
        crops.open_crops(tmp_path, "face", 0.25, "kept", [32, 32])
    with pytest.raises(ParameterError, match="crop_margin"):
        crops.open_crops(tmp_path, "face", 25, "keep", [32, 32])


@pytest.mark.parametrize("size", [(128, 128), (512, 384), (100, 75)])
def test_stored_size_is_an_eighth_more_and_even(size):
    stored = geometry.stored_size(size)
    assert all(
        side % 2 == 0 and 0 <= side - 9 / 8 * wanted < 2
        for side, wanted in zip(stored, size, strict=True)
    )


def test_the_smallest_view_of_a_stored_crop_still_has_the_image_size():
    assert all(
        int(geometry.stored_size((side, side))[0] * (8 / 9)) >= side for side in range(16, 641)
    )


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_a_circle_stays_a_circle(size):
    box = geometry.crop_box("face", (56, 88, 136, 168), 192, 256, 0.25, size[1] / size[0])
    disc = geometry.cut(draw_disc(), box, size)[..., 0] > 110
    rows, columns = disc.any(axis=1).sum(), disc.any(axis=0).sum()
    assert abs(rows - columns) <= 1
    assert columns == pytest.approx(81 * size[1] / (box[2] - box[0]), abs=1)


def test_cut_of_the_same_size_moves_no_pixel():
    photo = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(geometry.cut(photo, (5, 7, 25, 37), (30, 20)), photo[7:37, 5:25])


def test_outside_the_photo_its_border_is_repeated():
    photo = draw_disc()
    padded = geometry.cut(photo, (-10, -20, 182, 236), (256, 192))
    np.testing.assert_array_equal(padded[20:, 10:], photo[:236, :182])
    assert (padded[:20] == photo[0, 0]).all()
    assert (padded[:, :10] == photo[0, 0]).all()


def test_a_crop_of_a_much_larger_photo_shows_the_mean_of_its_pixels():
    photo = np.indices((1600, 1600)).sum(0)[..., None] % 2 * np.full(3, 200, np.uint8)
    made = geometry.cut(photo.astype(np.uint8), (0, 0, 1600, 1600), (100, 100))
    np.testing.assert_allclose(made, 100, atol=1)


def test_photos_are_decoded_smaller_only_when_the_crop_does_not_need_them():
    assert [
        geometry.reduction((0, 0, side, side), (100, 100)) for side in (90, 199, 200, 399, 400, 900)
    ] == [1, 1, 2, 2, 4, 4]


def test_reduced_decoding_shows_the_same_place(tmp_path):
    photo = draw_disc(768, 1024, (300, 500), 120)
    cv2.imwrite(str(tmp_path / "a.jpg"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    face = places(180, 380, 420, 620)
    box, size = np.array([120, 320, 480, 680]), (60, 60)
    assert geometry.reduction(box, size) == 4
    made = crops.make_crop(tmp_path / "a.jpg", face, box, size, "keep").astype(float)
    expected = cv2.resize(photo[320:680, 120:480], (60, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(made - expected).mean() < 4


def test_cache_holds_every_readable_photo_and_the_face_boxes(photos):
    made = build(photos)
    assert made.folder.name == "face_m0.25_keep_32x32"
    assert list(made.keys) == ["p/0", "p/1", "p/2"]
    assert made.pixels.shape == (3, 36, 36, 3)
    assert [int(made.pixels[k, 18, 18, 0]) for k in range(3)] == [200, 150, 100]
    np.testing.assert_allclose(
        made.boxes[0], [6, 6, 30, 30]
    )  # 80 px face in a 120 px crop of 36 px
    with pytest.raises(DataError, match="p/3"):
        made.rows(["p/1", "p/3"])
    assert made.rows(["p/2", "p/0"]).tolist() == [2, 0]


def test_pixels_are_read_only(photos):
    with pytest.raises(ValueError, match="read-only"):
        build(photos).pixels[0] = 0


def test_an_absent_cache_says_how_to_make_it(tmp_path):
    with pytest.raises(ArtefactError, match="run notebook 02 with crop='center'"):
        crops.open_crops(tmp_path, "center", 0.25, "keep", [32, 32])


def test_only_changed_crops_are_made_again(photos, monkeypatch):
    build(photos)
    faces = photos[1]
    faces.loc["p/1", "x0"] -= 8
    made = []
    original = crops.make_crop
    monkeypatch.setattr(
        crops, "make_crop", lambda file, *rest: made.append(file.name) or original(file, *rest)
    )
    again = build(photos)
    assert made == ["1.png"]
    assert [int(again.pixels[k, 18, 18, 0]) for k in range(3)] == [200, 150, 100]
    made.clear()
    build(photos)
    assert made == []


def test_a_killed_build_continues_and_leaves_no_half_cache(photos, monkeypatch):
    original = crops.make_crop
    monkeypatch.setattr(crops, "CHUNK", 1)

    def kill_at_the_third(file, *rest):
        if file.name == "2.png":
            raise KeyboardInterrupt
        return original(file, *rest)

    monkeypatch.setattr(crops, "make_crop", kill_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build(photos)
    with pytest.raises(ArtefactError):
        crops.open_crops(photos[3], *GEOMETRY.values())
    made = []
    monkeypatch.setattr(
        crops, "make_crop", lambda file, *rest: made.append(file.name) or original(file, *rest)
    )
    assert [int(pixel) for pixel in build(photos).pixels[:, 18, 18, 0]] == [200, 150, 100]
    assert made == ["2.png"]
    assert [f.name for f in (photos[3] / "crops").iterdir() if f.is_dir()] == [
        "face_m0.25_keep_32x32"
    ]


@pytest.mark.parametrize(("process", "taken_over"), [("dead", True), ("alive", False)])
def test_only_the_build_of_a_dead_process_is_taken_over(photos, monkeypatch, process, taken_over):
    monkeypatch.setattr(crops, "_fill", lambda *arguments: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        build(photos)
    [begun] = (photos[3] / "crops").glob(".*.building")
    assert f".{platform.node()}.{os.getpid()}." in begun.name
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    number = dead if process == "dead" else str(os.getppid())
    left = begun.rename(begun.with_name(begun.name.replace(str(os.getpid()), number)))
    np.save(left / "done.npy", np.array([True, False, False]))
    monkeypatch.undo()
    pixels = build(photos).pixels
    assert pixels[0].any() == (not taken_over)  # the first crop counted as made
    assert left.exists() == (not taken_over)


@pytest.mark.parametrize("name", ["pixels.npy", "crops.parquet"])
@pytest.mark.parametrize("how", ["a byte changed", "cut short", "gone"])
def test_a_damaged_cache_is_found_by_its_hashes_and_made_again(photos, capsys, name, how):
    made = build(photos)
    expected, path = made.pixels.copy(), made.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "a byte changed" else content[:-100])
    if how == "gone":
        path.unlink()
    again = build(photos)
    np.testing.assert_array_equal(again.pixels, expected)
    assert f"{made.folder} is damaged" in capsys.readouterr().out
    build(photos)
    assert capsys.readouterr().out == ""


def test_two_processes_that_build_at_once_make_each_crop_once(photos, monkeypatch, capsys):
    made, original = [], crops.make_crop

    def slowly(file, *rest):
        made.append(file.name)
        time.sleep(0.2)
        return original(file, *rest)

    monkeypatch.setattr(crops, "make_crop", slowly)
    monkeypatch.setattr(workers, "PATIENCE", 0.05)
    with ThreadPoolExecutor(2) as pool:  # each opens a lock of its own, as a process does
        first, second = pool.map(lambda _: build(photos), range(2))
    assert sorted(made) == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert f"is being made by process {os.getpid()} on " in capsys.readouterr().err
    assert not [f for f in (photos[3] / "crops").iterdir() if f.name.endswith(("ing", "holder"))]


def test_whole_photos_have_no_face_crop(photos):
    images, faces, data, work = photos
    faces.loc[faces.status != "unreadable", "status"] = "whole"
    assert crops.possible(faces) == ["whole", "center"]
    with pytest.raises(ParameterError, match="detector='mtcnn'"):
        build((images, faces, data, work))
    assert build((images, faces, data, work), crop="center").pixels.shape == (3, 36, 36, 3)


@pytest.mark.parametrize("size", [(1, 1), (3000, 3), (1, 2000)])
@pytest.mark.parametrize("way", ["keep", "grabcut"])
@pytest.mark.parametrize("crop", list(geometry.CROPS))
def test_a_photo_of_odd_shape_has_a_crop(tmp_path, size, way, crop):
    width, height = size
    cv2.imwrite(str(tmp_path / "odd.png"), np.full((height, width, 3), 90, np.uint8))
    face = places(0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height)
    box = geometry.crop_box(crop, face[:4], width, height, 0.25, 1)
    made = crops.make_crop(tmp_path / "odd.png", face, box, (36, 36), way)
    assert made.shape == (36, 36, 3)


def test_geometry_takes_the_parameters_that_name_a_cache():
    assert crops.geometry({**GEOMETRY, "seed": 1}) == GEOMETRY


def test_a_photo_that_became_unreadable_is_an_error(photos):
    (photos[2] / "0.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"0\.png"):
        build(photos)


def person_photo():
    """Return a photo of head and shoulders before a wall, with noise, and its true outline."""
    noise = np.random.default_rng(0).normal(0, 6, (256, 192, 3))
    outline = np.zeros((256, 192), np.uint8)
    cv2.ellipse(outline, (96, 110), (40, 54), 0, 0, 360, 1, -1)
    cv2.ellipse(outline, (96, 256), (84, 90), 0, 0, 360, 2, -1)
    photo = np.array([(60, 130, 90), (220, 170, 150), (60, 50, 130)])[outline] + noise
    return photo.clip(0, 255).astype(np.uint8), outline > 0


@pytest.mark.parametrize("landmarks", [True, False])
def test_grabcut_fills_the_background_with_grey_and_keeps_the_person(landmarks):
    photo, person = person_photo()
    face = places(60, 62, 132, 162)
    if not landmarks:
        face[4:] = np.nan
    removed = background.remove_background(photo, face, "grabcut")
    grey = (removed == background.GREY).all(axis=2)
    assert (grey & ~person).sum() / (~person).sum() > 0.9  # the outline itself is blended
    assert (grey & person).sum() / person.sum() < 0.05
    np.testing.assert_array_equal(background.remove_background(photo, face, "grabcut"), removed)


def test_keep_leaves_the_photo_alone():
    photo, _ = person_photo()
    assert background.remove_background(photo, np.empty(0), "keep") is photo


def test_segmentation_without_weights_says_where_they_go(photos, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_torch_home"))
    background.segmenter.cache_clear()
    with pytest.raises(ArtefactError, match="checkpoints/deeplabv3_mobilenet_v3_large"):
        build(photos, background="segment")


def test_segmentation_keeps_the_pixels_that_the_network_calls_a_person(monkeypatch, tmp_path):
    import torch
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    background.segmenter.cache_clear()
    model = deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    for bias, share in (
        (50.0, 1.0),
        (-50.0, 0.0),
    ):  # every pixel is called a person, then none
        model.classifier[-1].bias.data[background.PERSON] = bias
        path, _ = background.segmentation_weights()
        path.parent.mkdir(exist_ok=True)
        torch.save(model.state_dict(), path)
        background.segmenter.cache_clear()
        photo = np.full((64, 48, 3), 200, np.uint8)
        removed = background.remove_background(photo, places(10, 10, 30, 40), "segment")
        np.testing.assert_array_equal(
            removed, np.full_like(photo, 200 if share else background.GREY)
        )
    background.segmenter.cache_clear()
