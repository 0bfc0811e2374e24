"""Folders of labelled photos become data sets that run: tables, task and parameters."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import run_cells
from torchvision.datasets import ImageFolder

from lib.data import bring, index, trees
from lib.errors import FacefoldError
from lib.face import faces
from lib.runner import chain
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of
from lib.score import runs
from lib.task import attributes
from lib.textfiles import read_yaml

COLOURS = {"blue": (200, 0, 0), "red": (0, 0, 200)}


def write_photo(path, colour=(0, 0, 0), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 55, (40, 48, 3))
    cv2.imwrite(str(path), (np.array(colour) + noise).astype(np.uint8))


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Keep tasks and parameter files in a folder of the test; return it."""
    monkeypatch.setattr(attributes, "TASKS", tmp_path / "params/tasks")
    return tmp_path / "params"


@pytest.fixture
def tree(tmp_path):
    """Return an ImageFolder tree with a training, a validation and a test folder."""
    counts = {"train": 14, "val": 4, "test": 4}
    for split, count in counts.items():
        for name, colour in COLOURS.items():
            for k in range(count):
                write_photo(tmp_path / "tree" / split / name / f"{k}.png", colour, seed=k)
    return tmp_path / "tree"


@pytest.fixture
def people(tmp_path):
    """Return photos of six people with metadata.jsonl: what each is, and who owns it."""
    rows = []
    for number in range(24):
        write_photo(tmp_path / "people" / f"{number}.jpg", seed=number)
        owner, kind = number // 4, ["cat", "dog"][number // 4 % 2]
        row = {"file_name": f"{number}.jpg", "label": kind, "asleep": number % 2 == 0}
        rows.append({**row, "owner": owner, "text": f"photo {number}"})
    write_text(tmp_path / "people/metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "people"


def test_classes_are_those_of_torchvision(tree):
    found = trees.read(tree)
    for split in ("train", "val"):
        known = ImageFolder(tree / split)
        told = {path: known.classes[label] for path, label in known.samples}
        mine = found[found.path.str.startswith(f"{split}/")].set_index("path").category
        assert {str(tree / path): name for path, name in mine.items()} == told
    tests = found[found.split == "eval"]
    assert tests.category.isna().all()
    assert tests.path.str.startswith("test/").all()


def test_a_folder_named_like_a_split_is_a_class_among_other_classes(tmp_path):
    for name in ("train", "bus"):
        write_photo(tmp_path / name / "deeper/1.jpg")
    found = trees.read(tmp_path)
    assert found.split.tolist() == ["train"] * 2
    assert found.category.tolist() == ["bus", "train"]


def test_the_answers_of_test_photos_are_not_read(tmp_path):
    for split in ("train", "test"):
        write_photo(tmp_path / split / "a.jpg")
        write_text(tmp_path / split / "metadata.csv", f"file_name,kind\na.jpg,{split} kind\n")
    found = trees.read(tmp_path).set_index("path")
    assert found.kind["train/a.jpg"] == "train kind"
    assert pd.isna(found.kind["test/a.jpg"])


def test_one_command_brings_a_tree_that_runs_to_a_submission(tree, params, tmp_path, capsys):
    out = tmp_path / "data/hue"
    assert bring.main([str(tree), "--out", str(out)]) == 0
    assert "36 training photos, 8 test photos, attributes: category." in capsys.readouterr().out
    assert chain.main([str(params / "hue.yaml"), "--check"]) == 0
    assert not (out / "train").exists()  # photos are not copied
    values = read_yaml(params / "hue.yaml") | {"work_dir": str(tmp_path / "work")}
    settings = {name: p.default for name, p in declared(notebook_of("eda")).items()} | values
    folders = {"data_dir": str(out), "work_dir": values["work_dir"]}
    images, _ = index.build_images(**folders, task=attributes.load("hue"), layout="table",
                                   layout_settings=settings, workers=1)  # fmt: skip
    assert images.status.eq("ok").all()
    faces.build_faces(images, **folders, detector=values["detector"], workers=1)
    kept = {f"{name}_dir": str(tmp_path / name) for name in ("runs", "submissions")}
    small = {"backbone": ["resnet10t"], "pretrained": False, "epochs": 3, "batch_size": 8,
             "fold_count": 2, "learning_rate": 0.01, "image_size": [32, 32]}  # fmt: skip
    taken = {name: values[name] for name in ("task", "relabel", "crop", "experiment")}
    run_cells("03_train", **folders, **taken, **small, **kept)
    run_cells("04_ensemble_tta", **kept, submission="hue", runs=["hue"], tta="none")
    oof = runs.load(str(tmp_path / "runs"), "hue").oof()
    assert sorted(oof.index) == sorted(pd.read_csv(out / "train.csv").path)
    answers = pd.read_csv(tmp_path / "submissions/hue.csv")
    assert answers.path.tolist() == pd.read_csv(out / "test.csv").path.tolist()
    assert set(answers.category) <= set(COLOURS)


def test_metadata_gives_attributes_groups_and_an_answer(people, params, tmp_path, capsys):
    out = tmp_path / "data/pets"
    command = [str(people), "--out", str(out), "--group", "owner", "--columns", "label", "asleep"]
    assert bring.main(command) == 0
    assert "attributes: photo_label (column 'label'), asleep." in capsys.readouterr().out
    task = attributes.load("pets")
    assert {name: (a.classes, a.per) for name, a in task.attributes.items()} == {
        "photo_label": (("cat", "dog"), "person"),
        "asleep": (("false", "true"), "photo"),
    }
    assert (task.answer.format, task.answer.columns[0]) == ("attributes", "path")
    train = pd.read_csv(out / "train.csv", dtype=str)
    number = train.path.str.removesuffix(".jpg").astype(int)
    assert train.group.tolist() == (number // 4).astype(str).tolist()
    assert train.asleep.tolist() == (number % 2 == 0).map({True: "true", False: "false"}).tolist()
    assert not (out / "test.csv").exists()
    assert chain.main([str(params / "pets.yaml"), "--check"]) == 0
    assert "'group_column': 'group'" in capsys.readouterr().out
    assert "fold_count: 3" in (params / "pets.yaml").read_text()  # three owners of each kind


def test_whole_numbers_are_sorted_by_value():
    assert sorted(["10", "9", "b", "-1", "2"], key=bring._order) == ["2", "9", "10", "-1", "b"]


def test_nothing_is_overwritten(tree, params, tmp_path, capsys):
    out = tmp_path / "data/hue"
    assert [bring.main([str(tree), "--out", str(out)]) for _ in range(2)] == [0, 0]
    (params / "hue.yaml").write_text("mine: 1\n")
    before = (out / "train.csv").read_bytes()
    write_photo(tree / "train/red/new.png")
    assert bring.main([str(tree), "--out", str(out)]) == 2
    assert "exists with other contents" in capsys.readouterr().err
    assert (out / "train.csv").read_bytes() == before


def files(folder, *names):
    for name in names:
        write_photo(folder / name)


def described(text, *names, table="metadata.csv"):
    def write(folder):
        files(folder, *names)
        write_text(folder / table, text)

    return write


ODD = {
    "no photo": (lambda folder: write_text(folder / "a/x.txt", ""), "there are no photos"),
    "a photo next to the classes": (
        lambda folder: files(folder, "a/1.jpg", "2.jpg"),
        "photos in no folder of a class: '2.jpg'",
    ),
    "one class": (lambda folder: files(folder, "a/1.jpg", "a/2.jpg"), r"every photo is \['a'\]"),
    "a class of one photo": (
        lambda folder: files(folder, "a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"),
        r"of 1 kinds \(a\) there is a single path",
    ),
    "a photo twice": (
        described("file_name,x\n1.jpg,a\n./1.jpg,b\n", "1.jpg"),
        "file_name repeated: '1.jpg'",
    ),
    "a row without a photo": (
        described("file_name,x\n1.jpg,a\n../2.jpg,b\n", "1.jpg"),
        r"file_name without a photo: '\.\./2\.jpg'",
    ),
    "no column of names": (
        described("name,x\n1.jpg,a\n", "1.jpg"),
        "has no column file_name; it has name, x",
    ),
    "semicolons": (described("file_name;x\n1.jpg;a\n", "1.jpg"), "separate fields by commas"),
    "an empty label": (
        described("file_name,x\n1.jpg,a\n2.jpg,\n", "1.jpg", "2.jpg"),
        "x is empty: '2.jpg'",
    ),
    "a missing key": (
        described('{"file_name": "1.jpg", "x": "a"}\n{"file_name": "2.jpg"}\n', "1.jpg", "2.jpg",
                  table="metadata.jsonl"),
        "x is empty: '2.jpg'",
    ),
    "broken JSON": (
        described('{"file_name": "1.jpg"}\n{', "1.jpg", table="metadata.jsonl"),
        "line 2 is no JSON",
    ),
    "JSON that is no row": (
        described("[1]", "1.jpg", table="metadata.jsonl"),
        "line 1 is a list",
    ),
    "texts instead of labels": (
        described("file_name,x\n1.jpg,a\n2.jpg,b\n3.jpg,b\n", "1.jpg", "2.jpg", "3.jpg"),
        "x: 2 classes .* are too many for a label; .*--columns",
    ),
    "nothing to learn": (described("file_name\n1.jpg\n", "1.jpg"), "no column to learn from"),
    "a column of the tables": (
        described("file_name,path\n1.jpg,a\n", "1.jpg"),
        "has a column 'path': give it another name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_folder_is_refused_in_one_sentence(case, params, tmp_path, capsys):
    write, message = ODD[case]
    (tmp_path / "odd").mkdir()
    write(tmp_path / "odd")
    with pytest.raises(FacefoldError, match=message) as caught:
        bring.bring(tmp_path / "odd", str(tmp_path / "data/odd"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert bring.main([str(tmp_path / "odd"), "--out", str(tmp_path / "data/odd")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "who"], "no column 'who': there are category"),
        (["--columns", "colour"], "no column 'colour'"),
        (["--out", "data/two words"], "names files"),
    ],
)
def test_wrong_words_of_the_command_are_refused(tree, params, tmp_path, capsys, arguments, message):
    assert bring.main([str(tree), "--out", str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_links_are_refused_and_not_followed(tree, tmp_path):
    (tree / "train/red/link.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(FacefoldError, match="links are not followed: './train/red/link.png'"):
        trees.read(tree)
