"""The layout `table`: any set of photos that a CSV describes."""

import cv2
import numpy as np
import pytest

from lib.data import folds, index
from lib.data.audit import PHOTO_COLUMNS
from lib.errors import DataError
from lib.task.attributes import RESERVED, parse

TASK = parse(
    {
        "attributes": {
            "colour": {"classes": ["red", "blue"], "per": "photo"},
            "size": {"values": [0, 9], "cuts": [5], "names": ["small", "large"], "per": "person"},
        },
        "metric": "accuracy",
    },
    "made",
    "made.yaml",
)
SETTINGS = {
    "train_table": "train.csv",
    "test_table": "test.csv",
    "image_dir": "images",
    "path_column": "path",
    "group_column": "who",
}
TRAIN = """path,who,colour,size,camera
a/1.png,ann,red,3,old
a/2.png,ann,blue,3,new
b/1.png,bob,red,7,old
"""


@pytest.fixture
def data(tmp_path):
    for number, name in enumerate(["a/1.png", "a/2.png", "b/1.png", "t/x.png", "t/y.jpg"]):
        file = tmp_path / "data/images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((20, 30, 3), 40 * number, np.uint8))
    (tmp_path / "data/train.csv").write_text(TRAIN)
    (tmp_path / "data/test.csv").write_text("path\nt/y.jpg\nt/x.png\n")
    return tmp_path / "data"


def indexed(data, **changes):
    return index.index(data, TASK, "table", SETTINGS | changes)[0]


def replaced(data, before, after, table="train.csv"):
    path = data / table
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_a_row_per_photo_with_what_is_recorded(data):
    images = indexed(data)
    assert images.index.tolist() == ["a/1.png", "a/2.png", "b/1.png", "t/y.jpg", "t/x.png"]
    assert images.person.tolist() == ["ann", "ann", "bob", "", ""]
    assert images.file["t/y.jpg"] == "images/t/y.jpg"
    train = images[images.split == "train"]
    assert train.colour.tolist() == [0, 1, 0]
    assert train["size"].tolist() == [3, 3, 7]
    assert train.label.tolist() == [0, 2, 1]
    assert images.label[images.split == "eval"].isna().all()
    assert train.camera.tolist() == ["old", "new", "old"]
    assert index.texts(images, TASK) == ["camera"]


def test_without_a_group_column_every_photo_is_its_own_group_and_the_report_says_so(data, tmp_path):
    settings = SETTINGS | {"group_column": ""}
    replaced(data, "who,", "name,")
    images, issues = index.build_images(data, tmp_path / "work", TASK, "table", settings, 1)
    train = images[images.split == "train"]
    assert train.person.tolist() == train.index.tolist()
    assert (
        "near-identical photos cannot be excluded" in issues[issues.kind == "no groups"].detail[0]
    )
    people = index.people(images, TASK)
    assert people.photos.tolist() == [1, 1, 1]
    assert (folds.assign(people, TASK, "none", 5, 0) == -1).all()


def test_with_groups_the_report_is_silent(data, tmp_path):
    _, issues = index.build_images(data, tmp_path / "work", TASK, "table", SETTINGS, 1)
    assert issues.empty


def test_a_test_table_may_name_photos_by_id(data):
    (data / "images/t/x.png").rename(data / "images/t/X_1.PNG")
    (data / "test.csv").write_text("id\ny\nX_1\nz\n")
    images = indexed(data)
    eval_ = images[images.split == "eval"]
    assert eval_.index.tolist() == ["y", "X_1", "z"]
    assert eval_.file.tolist() == ["images/t/y.jpg", "images/t/X_1.PNG", ""]
    assert eval_.status.tolist() == ["ok", "ok", "missing"]


def test_a_set_without_test_photos_is_indexed_as_it_is(data):
    (data / "test.csv").unlink()
    images = indexed(data)
    assert set(images.split) == {"train"}
    assert images.status.eq("ok").all()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("colour", "color", r"train\.csv has no column colour; it has path, who, color"),
        ("blue", "bleu", "unknown colour: 'bleu' .*did you mean 'blue'"),
        ("red,7", "red,7.5", "size is no whole number: '7.5'"),
        ("b/1.png", "a/1.png", "repeated: 'a/1.png'"),
        ("b/1.png", "../b/1.png", "paths leave the image folder"),
        ("b/1.png", "/b/1.png", "paths leave the image folder"),
        ("b/1.png", "./a/1.png", r"repeated: '\./a/1\.png'"),
        ("b/1.png", "t/x.png", "in the training and in the test table"),
        ("bob", "", "who is empty"),
        ("red,7,old", "red,7,old,extra", "have not 5 fields"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(data, before, after, message):
    replaced(data, before, after)
    with pytest.raises(DataError, match=message) as caught:
        indexed(data)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_told(data):
    (data / "images/b/1.png").unlink()
    assert indexed(data).status["b/1.png"] == "missing"
    with pytest.raises(DataError, match=r"pictures not found"):
        indexed(data, image_dir="pictures")
    (data / "train.csv").unlink()
    with pytest.raises(DataError, match="train_table='train.csv' names it"):
        indexed(data)


@pytest.mark.parametrize("written", ["./b/1.png", "b\\1.png", "b//1.png"])
def test_ways_to_write_a_path_find_the_file_and_keep_the_key(data, written):
    replaced(data, "b/1.png", written)
    images = indexed(data)
    assert images.file[written] == "images/b/1.png"


def test_paths_may_start_from_the_data_folder(data):
    replaced(data, "path\nt/y.jpg\nt/x.png", "path\nimages/t/y.jpg", "test.csv")
    path = data / "train.csv"
    path.write_text(path.read_text().replace("a/", "images/a/").replace("b/", "images/b/"))
    assert indexed(data, image_dir="").status.eq("ok").all()


def test_every_missing_photo_is_listed_even_if_its_group_has_no_other(data, tmp_path):
    (data / "images/b/1.png").unlink()
    _, issues = index.build_images(data, tmp_path / "work", TASK, "table", SETTINGS, 1)
    assert issues.values.tolist() == [["missing photo", "b/1.png", "no such file"]]


def test_what_is_odd_in_a_group_is_listed(data, tmp_path):
    replaced(data, "blue,3", "blue,12")
    _, issues = index.build_images(data, tmp_path / "work", TASK, "table", SETTINGS, 1)
    assert issues.values.tolist() == [["size differs within a group", "ann", "3, 12"]]
    replaced(data, "red,3", "red,12")
    _, issues = index.build_images(data, tmp_path / "work", TASK, "table", SETTINGS, 1)
    assert issues.kind.tolist() == ["size outside the range"]


@pytest.mark.parametrize("name", ["width", "bytes", "label", "id", "sha256"])
def test_a_further_column_never_replaces_one_of_the_index(data, tmp_path, name):
    replaced(data, "camera", name)
    images, _ = index.build_images(data, tmp_path / "work", TASK, "table", SETTINGS, 1)
    assert not images[name].isin(["old", "new"]).any()


def test_no_attribute_may_take_the_name_of_a_measurement():
    assert set(PHOTO_COLUMNS) <= RESERVED


def test_numbers_below_zero_are_read_where_the_task_has_them(data):
    grades = {"values": [-5, 5], "cuts": [0], "names": ["low", "high"]}
    task = parse({"attributes": {"size": grades}}, "made", "")
    replaced(data, "red,7", "red,-4")
    images, _ = index.index(data, task, "table", SETTINGS)
    assert images["size"].dropna().tolist() == [3, 3, -4]
    assert images.label.dropna().tolist() == [1, 1, 0]
