from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PARAMS, TASK, tiny_images, write_tiny_work

from lib import artefacts
from lib.data import folds, leaks
from lib.errors import ArtefactError, DataError, ParameterError
from lib.face import crops
from lib.learn import training_set
from lib.task import targets
from lib.task.attributes import parse


def opened(work, **changes):
    """Return the training set of a work folder."""
    params = PARAMS | {"work_dir": str(work), "relabel": [], "image_size": [32, 32]} | changes
    return training_set.load(params, TASK)


@pytest.fixture
def tiny(tiny_work):
    data = opened(tiny_work)
    return data.images, data.recorded, data.crops


def aged(photos, ages):
    """Give the people of ``photos`` the ages listed, in turn."""
    number = pd.Series(pd.factorize(photos["person"])[0], photos.index)
    return photos.assign(age=number.map(lambda k: ages[k % len(ages)]).astype("Int64"))


def source_of(photos, cache, drop=()):
    return training_set.people_source(TASK, "x", photos, cache, {"age": drop} if drop else {})


def labels_of(source, learn=(), cut=60):
    return training_set.classes(TASK, [source], learn, {"age": [30, cut]}).labels


def test_photos_without_a_crop_are_left_out(tiny):
    images, photos, cache = tiny
    fewer = crops.Crops(
        cache.keys[3:], cache.pixels[3:], cache.boxes[3:], cache.image_size, cache.folder
    )
    assert list(training_set.with_crops(images, fewer, "train").index) == list(photos.index[3:])
    assert set(training_set.with_crops(images, cache, "eval")["split"]) == {"eval"}


@pytest.mark.parametrize("people", [6, 8, 17])
def test_the_first_people_are_spread_over_gender_and_age(tiny, people):
    _, photos, _ = tiny
    some = training_set.first_people(TASK, photos, people, seed=1)
    cells = some.groupby("person")[["gender", "age"]].first().value_counts()
    assert cells.sum() == people
    assert len(cells) == 6
    assert cells.max() - cells.min() <= 1
    assert (some.groupby("person").size() == 7).all()


def test_the_first_people_hold_every_class_where_nothing_is_recorded_of_people():
    task = parse({"attributes": {"mood": {"classes": ["calm", "sad"]}}}, "made", "")
    photos = pd.DataFrame({"person": [f"p{k // 5:02d}" for k in range(100)], "mood": 0})
    photos.loc[[44, 79], "mood"] = 1  # the last photos of two people
    some = training_set.first_people(task, photos, 4, seed=0)
    assert some.person.nunique() == 4
    assert some.mood.sum() == 2


def test_no_number_of_people_means_everyone(tiny):
    _, photos, _ = tiny
    assert training_set.first_people(TASK, photos, 0, 0) is photos
    assert len(training_set.first_people(TASK, photos, 1000, 0)) == len(photos)


def test_people_of_dropped_ages_are_not_trained_on(tiny):
    _, photos, cache = tiny
    source = source_of(aged(photos, [57, 58, 59, 60]), cache, [57, 59])
    years = source.targets.sum((1, 2)).argmax(1) + 18
    assert set(years.tolist()) == {58, 60}
    assert len(source.keys) == len(source.targets)


def test_shuffled_labels_are_the_same_ones_on_other_photos(tiny):
    _, photos, _ = tiny
    shuffled = training_set.shuffle_labels(TASK, photos, seed=0)
    columns = [*TASK.names, "label"]
    assert shuffled[columns].value_counts().to_dict() == photos[columns].value_counts().to_dict()
    assert (shuffled["label"] == photos["label"]).mean() < 0.25
    assert shuffled["person"].equals(photos["person"])
    assert not training_set.shuffle_labels(TASK, photos, seed=1)["label"].equals(shuffled["label"])


@pytest.mark.parametrize(("cut", "old"), [(60, {60}), (59, {59, 60}), (58, {58, 59, 60})])
def test_a_cut_counts_its_own_year_as_old(tiny, cut, old):
    _, photos, cache = tiny
    photos = aged(photos, [57, 58, 59, 60])
    source = source_of(photos, cache)
    assert set(photos["age"][labels_of(source, ["age"], cut) == 2]) == old
    assert ((labels_of(source, cut=cut) % 3 == 2) == photos["age"].isin(old)).all()


def test_the_recorded_label_is_the_class_at_the_official_cuts(tiny):
    _, photos, cache = tiny
    source = source_of(photos, cache)
    assert labels_of(source).tolist() == photos["label"].tolist()
    for name, classes in TASK.decode(photos["label"].to_numpy(int)).items():
        np.testing.assert_array_equal(labels_of(source, [name]), classes)


def test_two_attributes_are_balanced_together(tiny):
    _, photos, cache = tiny
    found = training_set.classes(TASK, [source_of(photos, cache)], ["age", "mask"], {})
    classes = TASK.decode(photos["label"].to_numpy(int))
    np.testing.assert_array_equal(found.labels, 3 * classes["mask"] + classes["age"])
    np.testing.assert_array_equal(found.cells, classes["age"])


def test_overview_counts_photos_and_classes(tiny):
    _, photos, cache = tiny
    table = training_set.overview(TASK, [source_of(photos, cache, [22])])
    shares = {"wear": 5 / 7, "incorrect": 1 / 7, "normal": 1 / 7, "male": 0.5, "female": 0.5}
    expected = {"photos": 84, **shares, "<30": 0.0, "30-59": 0.5, ">=60": 0.5}
    assert table.loc["x"].to_dict() == pytest.approx(expected)


def test_values_are_dropped_from_what_is_learned_alone(tiny_work):
    data = opened(tiny_work, drop={"age": [45], "mask": ["incorrect"]})
    assert len(data.recorded) == 126
    kept = data.recorded.loc[data.source().keys]
    assert set(kept["age"]) == {22, 60}
    assert set(kept["mask"]) == {0, 2}


@pytest.fixture
def others(tmp_path):
    """Write a set with a known folder, a known id, a known photo, a test photo, and strangers."""
    images = tiny_images(1, test_photos=0).reset_index()
    images["person"] = "other " + images["person"]
    images["id"] = "9" + images["id"]
    images["sha256"] = "other " + images["sha256"]
    images["key"] = "other " + images["key"]
    people, home = images["person"].unique(), tiny_images()
    images.loc[images["person"] == people[1], "id"] = home["id"].iloc[0]
    images.loc[images.index[images["person"] == people[2]][0], "sha256"] = home["sha256"].iloc[0]
    images.loc[images.index[images["person"] == people[3]][0], "sha256"] = home["sha256"].iloc[-1]
    images.loc[images["person"] == people[0], "person"] = home["person"].iloc[0]
    write_tiny_work(tmp_path / "others", images.set_index("key"))
    return tmp_path / "others"


def added(work, extra_data):
    data = opened(work)
    sizes = {"relabel": [], "image_size": [32, 32]}
    params = PARAMS | sizes | {"work_dir": str(work), "extra_data": list(map(str, extra_data))}
    return training_set.added(params, data)


def test_people_whom_validation_may_know_are_kept_out(tiny_work, others):
    [source], known = added(tiny_work, [others])
    counts = known.set_index("person")["known by"].value_counts().to_dict()
    assert source.name == "others"
    assert counts == {"folder name": 1, "id": 1, "photo": 2}
    assert len(source.keys) == len(source.targets) == 2 * 7
    people = {key.split("/")[0].removeprefix("other ") for key in source.keys}
    assert not {person.removeprefix("other ") for person in known["person"]} & people


def test_the_same_set_again_adds_nobody(tiny_work):
    [source], known = added(tiny_work, [tiny_work])
    assert len(source.keys) == 0
    assert len(known) == 18


def test_without_other_sets_nothing_is_added(tiny_work):
    found, known = added(tiny_work, [])
    assert found == []
    assert known.empty


@pytest.fixture
def test_table(tiny_work, tmp_path):
    """Write a submission's table that is sure of all, of two, of no attribute."""
    keys = tiny_images().query("split == 'eval'").index[:3]
    mask = np.array([[0.9, 0.05, 0.05], [0.9, 0.1, 0], [0.4, 0.3, 0.3]])
    gender = np.array([[0.05, 0.95], [0.5, 0.5], [0.5, 0.5]])
    age = np.array([[0.1, 0.2, 0.7], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    joint = np.einsum("nm,ng,na->nmga", mask, gender, age)
    table = pd.DataFrame(joint.reshape(3, 18), keys, TASK.columns())
    artefacts.write_table(table, tmp_path / "s.parquet")
    return keys, joint


@pytest.fixture
def pseudo(tiny_work, tmp_path):
    """Return a function that labels test photos by the table ``s``."""

    def label(thresholds, data=None, name="s", cuts=None):
        asked = {"pseudo_labels": name, "submissions_dir": str(tmp_path), "cuts": cuts or {}}
        params = PARAMS | asked | {"pseudo_thresholds": thresholds}
        return training_set.pseudo_labelled(params, data or opened(tiny_work))

    return label


@pytest.mark.parametrize(
    ("thresholds", "kept"),
    [
        ({"mask": 0.8, "gender": 0.8, "age": 0.69}, [0]),
        ({"mask": 0.8, "age": 0.69}, [0]),
        ({"mask": 0.8, "gender": 0.4, "age": 0.69}, [0, 1]),
        ({"mask": 0.8, "gender": 0.4, "age": 0.75}, [1]),
        ({"mask": 0, "gender": 0, "age": 0}, [0, 1, 2]),
    ],
)
def test_pseudo_labels_are_the_sure_probabilities_as_they_are(pseudo, test_table, thresholds, kept):
    keys, joint = test_table
    source = pseudo(thresholds)
    assert list(source.keys) == list(keys[kept])
    years = source.targets
    ends = [years[..., :12], years[..., 12:42], years[..., 42:]]
    groups = torch.stack([part.sum(-1) for part in ends], dim=-1)
    np.testing.assert_allclose(groups, joint[kept], atol=1e-6)
    used = (years.sum((0, 1, 2)) > 1e-6).nonzero().flatten() + 18
    assert used.tolist() == [22, 45, 60]  # the people's ages


def test_pseudo_label_errors_say_the_fix(pseudo, test_table):
    with pytest.raises(DataError, match="lower them"):
        pseudo({"mask": 1, "gender": 1, "age": 1})
    with pytest.raises(ParameterError, match="no attribute 'masks'.*'mask'"):
        pseudo({"masks": 1})
    with pytest.raises(ArtefactError, match="notebook 04"):
        pseudo({}, name="none")


@pytest.fixture
def more(tiny_work, tmp_path):
    """Label the photos of another set, two of which are copies of photos of the tiny set."""
    images, home = tiny_images(1, test_photos=6), tiny_images()
    images = images[images["split"] == "eval"].rename(index=lambda key: f"more/{key}")
    images["sha256"] = [home["sha256"].iloc[0], home["sha256"].iloc[-1], *images.index[2:]]
    write_tiny_work(tmp_path / "more", images)
    table = pd.DataFrame(np.eye(18)[:6], images.index, TASK.columns())
    artefacts.write_table(table, tmp_path / "more.parquet")
    artefacts.write_json({"test_photos_used": False}, tmp_path / "more.json")
    asked = {"pseudo_labels": "more", "pseudo_data": str(tmp_path / "more")}
    return PARAMS | asked | {"submissions_dir": str(tmp_path), "image_size": [32, 32]}


def test_photos_of_another_set_are_learned_without_copies_of_photos_of_this_one(more, tiny_work):
    [source], _ = training_set.added(more, opened(tiny_work))
    assert source.name == "pseudo-labelled photos of more"
    assert source.keys.tolist() == [f"more/{k:040x}.jpg" for k in range(2, 6)]
    assert source.crops.rows(source.keys).tolist() == [2, 3, 4, 5]
    found = targets.grouped(TASK, source.targets, "label", {})
    np.testing.assert_allclose(found, np.eye(18)[2:6], atol=1e-6)


def test_labels_of_other_photos_than_named_are_refused(more, tiny_work, tmp_path):
    data = opened(tiny_work)
    with pytest.raises(DataError, match="labels 0 of the test photos.*name the pseudo_data"):
        training_set.added(more | {"pseudo_data": ""}, data)
    with pytest.raises(DataError, match=r"labels 0 of the photos of work \(not counting copies"):
        training_set.added(more | {"pseudo_data": str(tiny_work)}, data)
    (tmp_path / "more.json").unlink()
    with pytest.raises(ArtefactError, match=r"more\.json is missing"):
        training_set.added(more, data)


@pytest.mark.parametrize("cut", [58, 60])
def test_pseudo_labels_keep_the_groups_of_the_cuts_they_were_made_with(
    pseudo, test_table, tiny_work, cut
):
    _, joint = test_table
    data = opened(tiny_work)
    older = data.learned.assign(age=data.learned["age"].where(data.learned["age"] != 45, 59))
    cuts = {"age": [30, cut]}
    source = pseudo(dict.fromkeys(TASK.names, 0), replace(data, learned=older), cuts=cuts)
    found = targets.grouped(TASK, source.targets, "label", cuts)
    np.testing.assert_allclose(found, joint.reshape(3, 18), atol=1e-6)


@pytest.mark.parametrize("learns", ["of the fold", "of everyone"])
def test_labels_of_validated_people_change_nothing_that_a_fold_learns_from(
    tiny_work, test_table, tmp_path, monkeypatch, learns
):
    data, whole = opened(tiny_work), training_set.pseudo_labelled
    if learns == "of everyone":  # a leak: how ages are spread inside a group
        monkeypatch.setattr(
            training_set, "pseudo_labelled", lambda params, data, keys: whole(params, data)
        )
    asked = {"pseudo_labels": "s", "submissions_dir": str(tmp_path)}
    params = PARAMS | asked | {"pseudo_thresholds": dict.fromkeys(TASK.names, 0)}
    person_folds = folds.assign(folds.balanced_over(data.recorded, TASK), TASK, "kfold", 3, 0)
    found = training_set.depends_on_validation(params, data, person_folds)
    leaked = [f"fold {fold}: pseudo-labelled test photos" for fold in range(3)]
    assert found == (leaked if learns == "of everyone" else [])
    report = leaks.report(data.images, person_folds, depends=found).set_index("kind")
    assert report["count"]["training that depends on validation"] == len(found)


def test_photos_of_validated_people_among_the_trained_ones_are_found(tiny_work, monkeypatch):
    data = opened(tiny_work)
    person_folds = folds.assign(folds.balanced_over(data.recorded, TASK), TASK, "kfold", 3, 0)
    assert training_set.depends_on_validation(PARAMS, data, person_folds) == []
    own = training_set.TrainingSet.source
    monkeypatch.setattr(training_set.TrainingSet, "source", lambda self, keys: own(self))
    found = training_set.depends_on_validation(PARAMS, data, person_folds)
    assert found == [f"fold {fold}: people of this set" for fold in range(3)]


def test_an_unreadable_test_photo_is_an_error_before_training(tiny_work):
    data = opened(tiny_work)
    lost = data.images.index[data.images["split"] == "eval"][0]
    fewer = replace(data.crops, keys=data.crops.keys.where(data.crops.keys != lost, "other"))
    with pytest.raises(DataError, match="1 test photos cannot be read"):
        _ = replace(data, crops=fewer).test_keys
