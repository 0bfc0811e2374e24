"""Another task than the competition's, as a table: synthetic people, glasses and hair colour."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from lib import PROJECT
from lib.artefacts import file_hash
from lib.demo import table
from lib.demo.portrait.person import random_person
from lib.errors import ArtefactError, ParameterError
from lib.runner import chain
from lib.score import runs
from lib.task.attributes import load

SMALL = {"people": 16, "eval_people": 8}
TASK = load("glasses")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return table.make(tmp_path_factory.mktemp("data") / "glasses", **SMALL, workers=1)


def test_task_has_quoted_class_names_and_a_column_per_attribute():
    assert TASK["glasses"].classes == ("no", "yes")
    assert TASK["hair"].classes == ("black", "brown", "blond", "grey")
    assert TASK.per("person") == ["glasses", "hair"]
    assert TASK.answer.format == "attributes"


def test_train_lists_every_photo_with_its_person(data):
    train = pd.read_csv(data / "train.csv")
    assert list(train.columns) == ["path", "person", "glasses", "hair"]
    assert train.groupby("person").path.nunique().tolist() == [table.PHOTOS] * 16
    assert (train.groupby("person")[["glasses", "hair"]].nunique() == 1).all(axis=None)


def test_every_combination_is_equally_frequent(data):
    people = pd.read_csv(data / "train.csv").drop_duplicates("person")
    assert (pd.crosstab(people.glasses, people.hair) == 2).all(axis=None)


def test_test_photos_are_named_without_order_person_or_label(data):
    test, answers = pd.read_csv(data / "test.csv"), pd.read_csv(data / "private/answers.csv")
    assert list(test.columns) == ["path"]
    assert answers.path.equals(test.path)
    assert test.path.str.fullmatch(r"[0-9a-f]{40}\.jpg").all()
    train = pd.read_csv(data / "train.csv")
    assert {file.name for file in (data / "images").iterdir()} == {*train.path, *test.path}
    assert not set(train.path) & set(test.path)


def test_same_seed_gives_the_same_files(data, tmp_path):
    again = table.make(tmp_path / "again", **SMALL, workers=2)
    names = [file.relative_to(data) for file in data.rglob("*.*")]
    assert all(file_hash(data / name) == file_hash(again / name) for name in names)


def test_looks_change_glasses_and_hair_and_nothing_else():
    person = random_person(np.random.default_rng(0), 1, 60)
    changed = table.with_looks(person, "yes", "blond")
    assert (changed.glasses, changed.grey, changed.thinning) == (table.FRAMES["yes"], 0, 0)
    assert changed.hair.tolist() == list(table.HAIRS["blond"])
    assert (changed.jaw, changed.texture_seed) == (person.jaw, person.texture_seed)
    assert table.with_looks(person, "no", "grey").grey == 1


def test_too_few_people_and_another_set_are_refused(data, tmp_path):
    with pytest.raises(ParameterError, match="people=7 is too few for 8 classes"):
        table.make(tmp_path / "few", people=7)
    with pytest.raises(ArtefactError, match="remove it or choose another"):
        table.make(data, **SMALL, seed=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Run the chain of ``params/glasses.yaml`` once, small, in a folder of its own."""
    folder = tmp_path_factory.mktemp("glasses")
    folders = {
        f"{name}_dir": str(folder / name) for name in ("work", "data", "runs", "submissions")
    }
    small = SMALL | {"image_size": [64, 64], "fold_count": 2, "epochs": 5, "batch_size": 8}
    (folder / "small.yaml").write_text(yaml.safe_dump(small | folders))
    files = [str(PROJECT / "params/glasses.yaml"), str(folder / "small.yaml")]
    assert chain.main(files) == 0
    return folder


def test_chain_validates_every_person_in_one_fold(place):
    oof = runs.load(str(place / "runs"), "glasses").oof()
    assert len(oof) == 16 * table.PHOTOS
    assert (oof.groupby("person")["fold"].nunique() == 1).all()


def test_chain_answers_with_a_column_per_attribute(place):
    given = pd.read_csv(place / "submissions/glasses.csv")
    answers = pd.read_csv(place / "data/private/answers.csv")
    assert given.path.tolist() == answers.path.tolist()
    assert list(given.columns) == ["path", "glasses", "hair"]
    assert set(given.glasses) <= {"no", "yes"}
    assert (given.hair == answers.hair).mean() > 0.5  # chance is 0.25


def test_no_module_of_the_workflow_knows_this_task():
    files = [file for file in (PROJECT / "lib").rglob("*.py") if "demo" not in file.parts]
    assert not [file for file in files if re.search("glasses|blond", file.read_text())]
