"""The competition's layout: index, audit, issues, duplicates and corrections on a tiny set."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TASK
from PIL import Image

from lib.data import audit, competition, index, issues, photos, relabel
from lib.errors import ArtefactError, DataError

PEOPLE = [
    ("000001", "female", 29),
    ("000002", "male", 60),
    ("000003-1", "male", 30),
    ("000003-2", "female", 18),
]
ROWS = [(i, gender, "Asian", age, f"{i}_{gender}_Asian_{age}") for i, gender, age in PEOPLE]
FIRST = ROWS[0][-1]


def picture(seed, shape=(64, 48)):
    """Return a smooth random picture (H, W, 3), another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def write_layout(root: Path, rows=ROWS, eval_ids=("b.jpg", "a.jpg")):
    table = pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"])
    for n, path in enumerate(table.path):
        (root / "train/images" / path).mkdir(parents=True)
        for k, stem in enumerate(competition.STEMS):
            suffix = (".jpg", ".png", ".jpeg")[k % 3]
            cv2.imwrite(str(root / "train/images" / path / (stem + suffix)), picture([n, k]))
    (root / "eval/images").mkdir(parents=True)
    for k, name in enumerate(eval_ids):
        cv2.imwrite(str(root / "eval/images" / name), picture([99, k]))
    table.to_csv(root / "train/train.csv", index=False)
    pd.DataFrame({"ImageID": eval_ids, "ans": 0}).to_csv(root / "eval/info.csv", index=False)
    return root


@pytest.fixture
def data(tmp_path):
    return write_layout(tmp_path / "data")


def indexed(data):
    return index.index(data, TASK, "competition", {})[0]


def built(data, work):
    return index.build_images(data, work, TASK, "competition", {}, workers=1)


def audited(data, cache=None):
    return audit.audit(indexed(data), data, cache, workers=1)


def relabel_file(folder, *rows):
    path = folder / "relabel.csv"
    path.write_text("\n".join(["id,field,from,to", *rows]) + "\n")
    return [path]


def test_index_has_a_row_per_photo_with_the_official_label(data):
    images = indexed(data)
    assert list(images.split.value_counts()[["train", "eval"]]) == [28, 2]
    assert list(images.index[-2:]) == ["b.jpg", "a.jpg"]  # the order of info.csv
    row = images.loc["000002_male_Asian_60/incorrect_mask"]
    assert (row.id, row["mask"], row.gender, row.age, row.label) == ("000002", 1, 0, 60, 8)
    assert images[images.split == "eval"].label.isna().all()
    for row in images[images.split == "train"].itertuples():
        group = 2 if row.age >= 60 else int(row.age >= 30)
        assert row.label == 6 * row.mask + 3 * row.gender + group
        assert (data / row.file).stat().st_size == row.bytes


def test_ans_is_never_read(data):
    (data / "eval/info.csv").write_text("ImageID,ans\nb.jpg,3\na.jpg,x\n")
    assert "ans" not in indexed(data)


def test_people_have_one_row_each(data):
    (data / "train/images" / FIRST / "mask1.jpg").unlink()
    people = index.people(indexed(data), TASK)
    assert list(people.index) == [row[-1] for row in ROWS]
    assert list(people.age) == [29, 60, 30, 18]
    assert list(people.photos) == [6, 7, 7, 7]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("gender", "sex", "no column gender; it has id, sex"),
        ("000002,male", "000002,mal", "unknown gender: 'mal'"),
        (",60,", ",sixty,", "age is no whole number: 'sixty'"),
        ("000002_male_Asian_60", FIRST, "path repeated"),
    ],
)
def test_wrong_train_csv_is_refused(data, before, after, message):
    path = data / "train/train.csv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(DataError, match=message):
        indexed(data)


def test_missing_table_names_the_layout(tmp_path):
    with pytest.raises(DataError, match=r"not found: data_dir must hold train/train.csv"):
        indexed(tmp_path)


def test_measurements_agree_with_pillow(tmp_path):
    cv2.imwrite(str(tmp_path / "odd.png"), picture(1, (65, 47)))
    found = audit.measure(str(tmp_path / "odd.png"))
    photo = Image.open(tmp_path / "odd.png")
    pixels = np.asarray(photo) / 255
    assert (found["width"], found["height"]) == photo.size == (47, 65)
    assert [found[f"mean_{c}"] for c in "rgb"] == pytest.approx(pixels.mean((0, 1)), abs=0.01)
    assert [found[f"std_{c}"] for c in "rgb"] == pytest.approx(pixels.std((0, 1)), abs=0.01)
    assert found["brightness"] == pytest.approx(np.asarray(photo.convert("L")).mean(), abs=1)


def test_hash_counts_rises_from_left_to_right():
    ramp = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert audit.difference_hash(ramp) == 2**64 - 1
    assert audit.difference_hash(ramp[:, ::-1].copy()) == 0


def test_colour_statistics_are_those_of_all_pixels(data):
    images = audited(data)
    normal = images[images["mask"] == 2].file
    pixels = (
        np.stack([cv2.imread(str(data / file))[:, :, ::-1] for file in normal]).reshape(-1, 3) / 255
    )
    found = issues.colour_statistics(images, TASK).loc["normal"]
    assert list(found[["mean_r", "mean_g", "mean_b"]]) == pytest.approx(pixels.mean(0), abs=0.01)
    assert list(found[["std_r", "std_g", "std_b"]]) == pytest.approx(pixels.std(0), abs=0.01)


def test_extra_files_of_a_contradicting_folder_are_listed_too(data, tmp_path):
    path = data / "train/train.csv"
    path.write_text(path.read_text().replace("Asian,29", "Asian,28"))
    (data / "train/images" / FIRST / "notes.txt").write_text("extra")
    _, found = built(data, tmp_path / "work")
    assert found.kind.tolist() == ["folder contradicts age", "extra file"]


def test_every_fault_is_listed(data, tmp_path):
    train, folder = data / "train/images", data / "train/images" / FIRST
    (folder / "mask1.jpg").unlink()
    for name in ("mask3.jpeg", "mask2.png"):  # cut short at half their length
        (folder / name).write_bytes(
            (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
        )
    (folder / "mask4.png").write_bytes(b"")  # next to mask4.jpg, which comes first
    (folder / "._mask1.jpg").write_bytes(b"junk")
    (folder / "notes.txt").write_text("extra")
    (train / "stranger").mkdir()
    (train / "stranger/normal.jpg").write_bytes(b"x")
    (data / "eval/images/a.jpg").unlink()
    with (data / "train/train.csv").open("a") as table:
        table.write("000009,male,Asian,40,000009_male_Asian_41\n000001,female,Asian,29,again\n")
    images, listed = built(data, tmp_path / "work")
    found = listed.groupby("kind").subject.agg(sorted).to_dict()
    assert found == {
        "missing photo": [f"{FIRST}/mask1", "a.jpg"],
        "unreadable photo": [f"{FIRST}/mask2", f"{FIRST}/mask3"],
        "row without a folder": ["000009_male_Asian_41", "again"],
        "folder without a row": ["stranger"],
        "second file of one photo": [f"train/images/{FIRST}/mask4.png"],
        "extra file": [f"train/images/{FIRST}/notes.txt"],
        "hidden file": [f"train/images/{FIRST}/._mask1.jpg"],
        "id used twice": ["000001"],
        "folder contradicts age": ["000009_male_Asian_41"],
        "folder not named id_gender_race_age": ["again"],
    }
    assert images.status.value_counts().to_dict() == {"ok": 26, "missing": 2 + 14, "unreadable": 2}
    shared = issues.shared_ids(index.people(images, TASK), TASK)
    assert list(shared.id) == ["000001", "000001"]
    assert set(shared.differs) == {""}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("lost", [1, 40, 200])
def test_truncated_photos_are_unreadable(tmp_path, suffix, lost):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), picture(5))
    assert audit.measure(str(path))["status"] == "ok"
    path.write_bytes(path.read_bytes()[:-lost])
    assert audit.measure(str(path))["status"] == "unreadable"


def test_only_changed_photos_are_read_again(data, tmp_path, monkeypatch):
    first, _ = built(data, tmp_path / "work")
    cv2.imwrite(str(data / first.file.iloc[0]), picture(7))
    read, measured = [], audit._measured
    monkeypatch.setattr(
        audit, "_measured", lambda files, *rest: read.extend(files.file) or measured(files, *rest)
    )
    second, _ = built(data, tmp_path / "work")
    assert read == [first.file.iloc[0]]
    changed = (first.sha256 != second.sha256).to_numpy()
    assert list(np.flatnonzero(changed)) == [0]
    pd.testing.assert_frame_equal(index.load_images(tmp_path / "work"), second)


def test_an_interrupted_audit_continues(data, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "CHUNK", 10)
    images, cache, write = indexed(data), tmp_path / "audit.parquet", audit.write_table

    def stop_after_the_first(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "write_table", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        audit.audit(images, data, cache, workers=1)
    monkeypatch.setattr(audit, "write_table", write)
    assert len(pd.read_parquet(cache)) == 10
    pd.testing.assert_frame_equal(
        audit.audit(images, data, cache, workers=1), audit.audit(images, data, workers=1)
    )


def test_a_damaged_audit_is_told_and_made_again(data, tmp_path, capsys):
    first, _ = built(data, tmp_path / "work")
    cache = tmp_path / "work" / "audit.parquet"
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])
    second, _ = built(data, tmp_path / "work")
    assert "audit.parquet cannot be read" in capsys.readouterr().out
    pd.testing.assert_frame_equal(first, second)
    assert len(pd.read_parquet(cache)) == len(first)


def test_load_images_asks_for_the_stage_before(tmp_path):
    with pytest.raises(ArtefactError, match="run the stage 'eda'"):
        index.load_images(tmp_path)


def test_copies_are_found_wherever_they_are(data):
    folders = [data / "train/images" / row[-1] for row in ROWS]
    original = cv2.imread(str(folders[0] / "mask1.jpg"))
    (folders[0] / "mask4.jpg").write_bytes((folders[0] / "mask1.jpg").read_bytes())
    (folders[1] / "mask1.jpg").write_bytes((folders[0] / "mask1.jpg").read_bytes())
    cv2.imwrite(str(data / "eval/images/a.jpg"), original, [cv2.IMWRITE_JPEG_QUALITY, 60])
    for folder in folders[2:]:  # uniform pictures of two shades
        cv2.imwrite(
            str(folder / "mask1.jpg"), np.full((64, 48, 3), 100 + len(folder.name), np.uint8)
        )
    pairs = issues.duplicates(audited(data)).set_index("second")
    assert pairs["first"].to_dict() == dict.fromkeys(
        [f"{FIRST}/mask4", "000002_male_Asian_60/mask1", "a.jpg"], f"{FIRST}/mask1"
    )
    assert list(pairs.loc[[f"{FIRST}/mask4", "000002_male_Asian_60/mask1"], "match"]) == [
        "exact",
        "exact",
    ]
    assert pairs.loc["a.jpg", ["match", "where"]].tolist() == ["near", "train and eval"]
    assert pairs["where"].drop("a.jpg").tolist() == ["one person", "between people"]
    assert pairs.same_label.drop("a.jpg").tolist() == [True, False]
    assert pd.isna(pairs.same_label["a.jpg"])


def test_no_copies_is_an_empty_table(data):
    assert issues.duplicates(audited(data)).empty


def test_relabel_changes_whom_it_names_and_says_so(data, tmp_path):
    images = indexed(data)
    files = relabel_file(
        tmp_path,
        "000001,gender,female,male",
        "000004,gender,male,female",
        "000002,gender,female,male",
    )
    changed, changes = relabel.relabel(images, files, TASK)
    assert list(changes.outcome) == ["applied to 7 photos", "no such id", "already male"]
    assert list(changed.label[changed.id == "000001"]) == [0, 0, 0, 0, 0, 6, 12]
    others = images.id != "000001"
    pd.testing.assert_frame_equal(changed[others], images[others])


def test_two_rows_swap_two_masks(data, tmp_path):
    images = indexed(data)
    files = relabel_file(tmp_path, "000002,mask,incorrect,normal", "000002,mask,normal,incorrect")
    changed, _ = relabel.relabel(images, files, TASK)
    person = "000002_male_Asian_60"
    assert (changed.label[f"{person}/incorrect_mask"], changed.label[f"{person}/normal"]) == (14, 8)
    assert (images.label[f"{person}/incorrect_mask"], images.label[f"{person}/normal"]) == (8, 14)


def test_a_new_age_moves_the_group(data, tmp_path):
    changed, _ = relabel.relabel(indexed(data), relabel_file(tmp_path, "000002,age,60,59"), TASK)
    assert set(changed.label[changed.id == "000002"]) == {1, 7, 13}
    assert changed.label["000002_male_Asian_60/mask1"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["000002,age,40,41"], "000002, age, from '40' to '41': recorded is '60', neither"),
        (["000002,hat,a,b"], "no attribute 'hat', only mask, gender, age"),
        (["000002,mask,Wear,normal"], "mask: 'Wear' is not accepted, only wear, incorrect, normal"),
        (["000002,age,59,61"], "relabel.csv: 000002, .*'61' is not accepted, only 18 to 60"),
        (["000002,age,60,<30"], "'<30' is not accepted, only 18 to 60"),
        (["000002,age,60,59", "000002,age,60,58"], "two answers"),
    ],
)
def test_a_wrong_relabel_row_is_refused_with_what_is_accepted(data, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        relabel.relabel(indexed(data), relabel_file(tmp_path, *rows), TASK)


@pytest.mark.parametrize(("written", "said"), [("2", " (as id '000002')"), (" 000002 ", "")])
def test_zeros_that_a_spreadsheet_took_and_blanks_are_unambiguous(data, tmp_path, written, said):
    files = relabel_file(tmp_path, f"{written},gender,male,female")
    changed, changes = relabel.relabel(indexed(data), files, TASK)
    assert list(changes.outcome) == ["applied to 7 photos" + said]
    assert set(changed.gender[changed.id == "000002"]) == {1}


def test_an_id_that_may_mean_two_is_refused(data, tmp_path):
    table = data / "train/train.csv"
    table.write_text(table.read_text().replace("\n000003-1,", "\n0002,"))
    files = relabel_file(tmp_path, "2,gender,male,female")
    with pytest.raises(DataError, match="'2' may mean 000002, 0002"):
        relabel.relabel(indexed(data), files, TASK)


def test_without_relabel_files_nothing_changes(data):
    images = indexed(data)
    changed, changes = relabel.relabel(images, [], TASK)
    pd.testing.assert_frame_equal(changed, images)
    assert changes.empty


def test_shipped_corrections_are_those_of_most_teams():
    rows = pd.DataFrame(relabel.read(["params/relabel/core.csv"], TASK))
    gender = rows[rows.field == "gender"].groupby("new").id.agg(set)
    assert gender[0] == {f"00{number}" for number in (*range(6359, 6365), 5223)} - {"005223"}
    assert gender[1] == {"001498-1", "004432", "005223"}
    swaps = rows[rows.field == "mask"].groupby("id")[["old", "new"]].agg(list)
    assert set(swaps.index) == {"000020", "004418", "005227"}
    assert all(row.old == [1, 2] and row.new == [2, 1] for row in swaps.itertuples())


def test_disputed_candidates_cannot_be_applied():
    with pytest.raises(DataError, match="no column from, to"):
        relabel.read(["params/relabel/disputed.csv"], TASK)


def test_upper_case_names_are_found(data):
    folder = data / "train/images" / FIRST
    (folder / "mask1.jpg").rename(folder / "MASK1.JPG")
    assert indexed(data).file[f"{FIRST}/mask1"].endswith("MASK1.JPG")


def test_a_table_with_a_row_per_photo_says_what_it_looks_like(data):
    path = data / "train/train.csv"
    path.write_text(f"id,gender,race,age,path\n000001,female,Asian,29,{FIRST}/mask1.jpg\n")
    with pytest.raises(DataError, match="a row per photo"):
        indexed(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stored_turned_is_used_upright_and_listed(data, tmp_path, orientation):
    upright = np.asarray(Image.fromarray(picture(3)))
    turns = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
        6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
    }  # fmt: skip
    stored = Image.fromarray(upright)
    if turns[orientation]:
        stored = stored.transpose(getattr(Image.Transpose, turns[orientation]))
    tag = Image.Exif()
    tag[274] = orientation
    file = data / "train/images" / FIRST / "mask1.jpg"
    stored.save(file, "JPEG", exif=tag, quality=98)
    images, found = built(data, tmp_path / "work")
    row = images.loc[f"{FIRST}/mask1"]
    assert (row.width, row.height) == (48, 64)
    difference = photos.read(file).astype(int) - upright
    assert np.abs(difference).mean() < 6
    listed = found[found.kind == "turned photo"].subject.tolist()
    assert listed == ([] if orientation == 1 else [f"{FIRST}/mask1"])
