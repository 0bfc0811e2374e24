"""Index, audit, duplicates and relabelling on a tiny layout painted here."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.data import dataset
from lib.errors import ArtefactError, DataError
from lib.task import labels

PEOPLE = [("000001", "female", 29), ("000002", "male", 60), ("000003-1", "male", 30), ("000003-2", "female", 18)]
ROWS = [(id, gender, "Asian", age, f"{id}_{gender}_Asian_{age}") for id, gender, age in PEOPLE]
FIRST = ROWS[0][-1]


def paint(seed, shape=(64, 48)):
    """Return a smooth random picture (H, W, 3), another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def write_layout(root: Path, rows=ROWS, eval_ids=("b.jpg", "a.jpg")):
    table = pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"])
    for n, path in enumerate(table.path):
        (root / "train/images" / path).mkdir(parents=True)
        for k, stem in enumerate(dataset.STEMS):
            suffix = (".jpg", ".png", ".jpeg")[k % 3]
            cv2.imwrite(str(root / "train/images" / path / (stem + suffix)), paint([n, k]))
    (root / "eval/images").mkdir(parents=True)
    for k, name in enumerate(eval_ids):
        cv2.imwrite(str(root / "eval/images" / name), paint([99, k]))
    table.to_csv(root / "train/train.csv", index=False)
    pd.DataFrame({"ImageID": eval_ids, "ans": 0}).to_csv(root / "eval/info.csv", index=False)
    return root


@pytest.fixture
def data(tmp_path):
    return write_layout(tmp_path / "data")


def relabel_file(folder, *rows):
    path = folder / "relabel.csv"
    path.write_text("\n".join(["id,field,from,to", *rows]) + "\n")
    return [path]


def test_index_has_a_row_a_photo_with_the_official_label(data):
    images = dataset.index(data)
    assert list(images.split.value_counts()[["train", "eval"]]) == [28, 2]
    assert list(images.index[-2:]) == ["b.jpg", "a.jpg"]  # the order of info.csv
    row = images.loc["000002_male_Asian_60/incorrect_mask"]
    assert (row.id, row["mask"], row.gender, row.age, row.age_group, row.label) == ("000002", 1, 0, 60, 2, 8)
    assert images[images.split == "eval"].label.isna().all()
    for row in images[images.split == "train"].itertuples():
        assert labels.decode(row.label) == (row.mask, row.gender, row.age_group)
        assert (data / row.file).stat().st_size == row.bytes


def test_ans_is_never_read(data):
    (data / "eval/info.csv").write_text("ImageID,ans\nb.jpg,3\na.jpg,x\n")
    assert "ans" not in dataset.index(data)


def test_people_have_one_row_each(data):
    (data / "train/images" / FIRST / "mask1.jpg").unlink()
    people = dataset.people(dataset.index(data))
    assert list(people.index) == [row[-1] for row in ROWS]
    assert list(people.age) == [29, 60, 30, 18]
    assert list(people.photos) == [6, 7, 7, 7]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("gender", "sex", "no column gender"),
        ("000002,male", "000002,mal", "unknown gender: 'mal'"),
        (",60,", ",sixty,", "age is not an integer: 'sixty'"),
        ("000002_male_Asian_60", FIRST, "path repeated"),
    ],
)
def test_wrong_train_csv_is_refused(data, before, after, message):
    path = data / "train/train.csv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(DataError, match=message):
        dataset.index(data)


def test_missing_table_names_the_layout(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv not found: data_dir must hold"):
        dataset.index(tmp_path)


def test_measurements_agree_with_pillow(tmp_path):
    cv2.imwrite(str(tmp_path / "odd.png"), paint(1, (65, 47)))
    found = dataset.measure(str(tmp_path / "odd.png"))
    picture = Image.open(tmp_path / "odd.png")
    pixels = np.asarray(picture) / 255
    assert (found["width"], found["height"]) == picture.size == (47, 65)
    assert [found[f"mean_{c}"] for c in "rgb"] == pytest.approx(pixels.mean((0, 1)), abs=0.01)
    assert [found[f"std_{c}"] for c in "rgb"] == pytest.approx(pixels.std((0, 1)), abs=0.01)
    assert found["brightness"] == pytest.approx(np.asarray(picture.convert("L")).mean(), abs=1)


def test_hash_counts_rises_from_left_to_right():
    ramp = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert dataset.difference_hash(ramp) == 2**64 - 1
    assert dataset.difference_hash(ramp[:, ::-1].copy()) == 0


def test_colour_statistics_are_those_of_all_pixels(data):
    images = dataset.audit(dataset.index(data), data, workers=1)
    normal = images[images["mask"] == 2].file
    pixels = np.stack([cv2.imread(str(data / file))[:, :, ::-1] for file in normal]).reshape(-1, 3) / 255
    found = dataset.colour_statistics(images).loc["normal"]
    assert list(found[["mean_r", "mean_g", "mean_b"]]) == pytest.approx(pixels.mean(0), abs=0.01)
    assert list(found[["std_r", "std_g", "std_b"]]) == pytest.approx(pixels.std(0), abs=0.01)


def test_every_fault_is_listed(data, tmp_path):
    train, folder = data / "train/images", data / "train/images" / FIRST
    (folder / "mask1.jpg").unlink()
    for name in ("mask3.jpeg", "mask2.png"):  # cut short at half their length
        (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    (folder / "mask4.png").write_bytes(b"")  # beside mask4.jpg, which comes first
    (folder / "._mask1.jpg").write_bytes(b"junk")
    (folder / "notes.txt").write_text("extra")
    (train / "stranger").mkdir()
    (train / "stranger/normal.jpg").write_bytes(b"x")
    (data / "eval/images/a.jpg").unlink()
    with (data / "train/train.csv").open("a") as table:
        table.write("000009,male,Asian,40,000009_male_Asian_41\n000001,female,Asian,29,again\n")
    images, issues = dataset.build_images(data, tmp_path / "work", workers=1)
    found = issues.groupby("kind").subject.agg(sorted).to_dict()
    assert found == {
        "missing photo": [f"{FIRST}/mask1", "a.jpg"],
        "unreadable photo": [f"{FIRST}/mask2", f"{FIRST}/mask3"],
        "row without a folder": ["000009_male_Asian_41", "again"],
        "folder without a row": ["stranger"],
        "second file of one photo": [f"train/images/{FIRST}/mask4.png"],
        "extra file": [f"train/images/{FIRST}/notes.txt"],
        "junk file": [f"train/images/{FIRST}/._mask1.jpg"],
        "id used twice": ["000001"],
        "folder contradicts age": ["000009_male_Asian_41"],
        "folder not named id_gender_race_age": ["again"],
    }
    assert images.status.value_counts().to_dict() == {"ok": 26, "missing": 2 + 14, "unreadable": 2}
    shared = dataset.shared_ids(dataset.people(images))
    assert list(shared.id) == ["000001", "000001"]
    assert set(shared.differs) == {""}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("lost", [1, 40, 200])
def test_truncated_photos_are_unreadable(tmp_path, suffix, lost):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), paint(5))
    assert dataset.measure(str(path))["status"] == "ok"
    path.write_bytes(path.read_bytes()[:-lost])
    assert dataset.measure(str(path))["status"] == "unreadable"


def test_only_changed_photos_are_read_again(data, tmp_path, monkeypatch):
    first, _ = dataset.build_images(data, tmp_path / "work", workers=1)
    cv2.imwrite(str(data / first.file.iloc[0]), paint(7))
    read, measured = [], dataset._measured
    monkeypatch.setattr(dataset, "_measured", lambda files, *rest: read.extend(files.file) or measured(files, *rest))
    second, _ = dataset.build_images(data, tmp_path / "work", workers=1)
    assert read == [first.file.iloc[0]]
    changed = (first.sha256 != second.sha256).to_numpy()
    assert list(np.flatnonzero(changed)) == [0]
    pd.testing.assert_frame_equal(dataset.load_images(tmp_path / "work"), second)


def test_an_interrupted_audit_continues(data, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "CHUNK", 10)
    images, cache, write = dataset.index(data), tmp_path / "audit.parquet", dataset.write_table

    def stop_after_the_first(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write_table", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        dataset.audit(images, data, cache, workers=1)
    monkeypatch.setattr(dataset, "write_table", write)
    assert len(pd.read_parquet(cache)) == 10
    pd.testing.assert_frame_equal(dataset.audit(images, data, cache, workers=1), dataset.audit(images, data, workers=1))


def test_load_images_asks_for_the_stage_before(tmp_path):
    with pytest.raises(ArtefactError, match="run the stage 'eda'"):
        dataset.load_images(tmp_path)


def test_copies_are_found_wherever_they_are(data):
    folders = [data / "train/images" / row[-1] for row in ROWS]
    original = cv2.imread(str(folders[0] / "mask1.jpg"))
    (folders[0] / "mask4.jpg").write_bytes((folders[0] / "mask1.jpg").read_bytes())
    (folders[1] / "mask1.jpg").write_bytes((folders[0] / "mask1.jpg").read_bytes())
    cv2.imwrite(str(data / "eval/images/a.jpg"), original, [cv2.IMWRITE_JPEG_QUALITY, 60])
    for folder in folders[2:]:  # uniform pictures of two shades
        cv2.imwrite(str(folder / "mask1.jpg"), np.full((64, 48, 3), 100 + len(folder.name), np.uint8))
    pairs = dataset.duplicates(dataset.audit(dataset.index(data), data, workers=1)).set_index("second")
    assert pairs["first"].to_dict() == dict.fromkeys(
        [f"{FIRST}/mask4", "000002_male_Asian_60/mask1", "a.jpg"], f"{FIRST}/mask1"
    )
    assert list(pairs.loc[[f"{FIRST}/mask4", "000002_male_Asian_60/mask1"], "match"]) == ["exact", "exact"]
    assert pairs.loc["a.jpg", ["match", "where"]].tolist() == ["near", "train and eval"]
    assert pairs["where"].drop("a.jpg").tolist() == ["one person", "between people"]
    assert pairs.same_label.drop("a.jpg").tolist() == [True, False]
    assert pd.isna(pairs.same_label["a.jpg"])


def test_no_copies_is_an_empty_table(data):
    assert dataset.duplicates(dataset.audit(dataset.index(data), data, workers=1)).empty


def test_relabel_changes_whom_it_names_and_says_so(data, tmp_path):
    images = dataset.index(data)
    files = relabel_file(tmp_path, "000001,gender,female,male", "3-1,gender,male,female", "000002,gender,female,male")
    changed, changes = dataset.relabel(images, files)
    assert list(changes.outcome) == ["applied to 7 photos", "no such id", "already male"]
    assert list(changed.label[changed.id == "000001"]) == [0, 0, 0, 0, 0, 6, 12]
    others = images.id != "000001"
    pd.testing.assert_frame_equal(changed[others], images[others])


def test_two_rows_swap_two_masks(data, tmp_path):
    images = dataset.index(data)
    files = relabel_file(tmp_path, "000002,mask,incorrect,normal", "000002,mask,normal,incorrect")
    changed, _ = dataset.relabel(images, files)
    person = "000002_male_Asian_60"
    assert (changed.label[f"{person}/incorrect_mask"], changed.label[f"{person}/normal"]) == (14, 8)
    assert (images.label[f"{person}/incorrect_mask"], images.label[f"{person}/normal"]) == (8, 14)


def test_a_new_age_moves_the_group(data, tmp_path):
    changed, _ = dataset.relabel(dataset.index(data), relabel_file(tmp_path, "000002,age,60,59"))
    assert set(changed.age_group[changed.id == "000002"]) == {1}
    assert changed.label["000002_male_Asian_60/mask1"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["000002,age,40,41"], "'000002', age, from '40' to '41': recorded is code 60"),
        (["000002,hat,a,b"], "unknown field: 'hat'"),
        (["000002,mask,Wear,normal"], "unknown value in 'from': 'Wear'"),
        (["000002,age,60,59", "000002,age,60,58"], "two answers"),
    ],
)
def test_a_wrong_relabel_row_is_refused(data, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        dataset.relabel(dataset.index(data), relabel_file(tmp_path, *rows))


def test_without_relabel_files_nothing_changes(data):
    images = dataset.index(data)
    changed, changes = dataset.relabel(images, [])
    pd.testing.assert_frame_equal(changed, images)
    assert changes.empty


def test_shipped_corrections_are_those_of_most_teams():
    rows = dataset.read_relabel(["params/relabel/core.csv"])
    gender = rows[rows.field == "gender"].groupby("to").id.agg(set)
    assert gender["male"] == {"006359", "006360", "006361", "006362", "006363", "006364"}
    assert gender["female"] == {"001498-1", "004432"}
    swaps = rows[rows.field == "mask"].groupby("id").apply(lambda table: set(zip(table["from"], table.to, strict=True)))
    assert set(swaps.index) == {"000020", "004418", "005227"}
    assert all(pairs == {("incorrect", "normal"), ("normal", "incorrect")} for pairs in swaps)


def test_disputed_candidates_cannot_be_applied():
    with pytest.raises(DataError, match="no column from, to"):
        dataset.read_relabel(["params/relabel/disputed.csv"])
