from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_images, write_tiny_work

from lib import artefacts
from lib.data.dataset import ATTRIBUTE_COLUMNS, load_images
from lib.errors import ArtefactError, DataError, ParameterError
from lib.face import crops
from lib.learn import training_set
from lib.task import labels, targets

GEOMETRY = {"crop": "face", "crop_margin": 0.25, "background": "keep", "image_size": [32, 32]}


def opened(work):
    """Return a work folder's images, training photos and crops."""
    images, cache = load_images(work), crops.open_crops(work, **GEOMETRY)
    return images, training_set.with_crops(images, cache, "train"), cache


@pytest.fixture
def tiny(tiny_work):
    return opened(tiny_work)


def aged(photos, ages):
    """Give the people of ``photos`` the ages listed, in turn."""
    number = pd.Series(pd.factorize(photos["person"])[0], photos.index)
    age = number.map(lambda k: ages[k % len(ages)]).astype("Int64")
    return photos.assign(age=age, age_group=labels.age_group(age.to_numpy(int)))


def test_photos_without_a_crop_are_left_out(tiny):
    images, photos, cache = tiny
    fewer = crops.Crops(cache.keys[3:], cache.pixels[3:], cache.boxes[3:], cache.image_size, cache.folder)
    assert list(training_set.with_crops(images, fewer, "train").index) == list(photos.index[3:])
    assert set(training_set.with_crops(images, cache, "eval")["split"]) == {"eval"}


@pytest.mark.parametrize("people", [6, 8, 17])
def test_the_first_people_are_spread_over_gender_and_age(tiny, people):
    _, photos, _ = tiny
    some = training_set.first_people(photos, people, seed=1)
    cells = some.groupby("person")[["gender", "age_group"]].first().value_counts()
    assert cells.sum() == people
    assert len(cells) == 6
    assert cells.max() - cells.min() <= 1
    assert (some.groupby("person").size() == 7).all()


def test_no_number_of_people_means_everyone(tiny):
    _, photos, _ = tiny
    assert training_set.first_people(photos, 0, 0) is photos
    assert len(training_set.first_people(photos, 1000, 0)) == len(photos)


def test_people_of_dropped_ages_are_not_trained_on(tiny):
    _, photos, cache = tiny
    source = training_set.of_people("x", aged(photos, [57, 58, 59, 60]), cache, [57, 59])
    years = source.targets.sum((1, 2)).argmax(1) + 18
    assert set(years.tolist()) == {58, 60}
    assert len(source.keys) == len(source.targets)


def test_shuffled_labels_are_the_same_ones_on_other_photos(tiny):
    _, photos, _ = tiny
    shuffled = training_set.shuffle_labels(photos, seed=0)
    columns = ATTRIBUTE_COLUMNS
    assert shuffled[columns].value_counts().to_dict() == photos[columns].value_counts().to_dict()
    assert (shuffled["label"] == photos["label"]).mean() < 0.25
    assert shuffled["person"].equals(photos["person"])
    assert not training_set.shuffle_labels(photos, seed=1)["label"].equals(shuffled["label"])


@pytest.mark.parametrize(("old_from", "old"), [(60, {60}), (59, {59, 60}), (58, {58, 59, 60})])
def test_old_from_counts_its_own_year_as_old(tiny, old_from, old):
    _, photos, cache = tiny
    photos = aged(photos, [57, 58, 59, 60])
    source = training_set.of_people("x", photos, cache, [])
    classes = training_set.classes([source], "age", old_from)
    assert set(photos["age"][classes == 2]) == old
    joint = training_set.classes([source], "all", old_from)
    assert ((joint % 3 == 2) == photos["age"].isin(old)).all()


def test_the_recorded_label_is_the_class_at_the_official_cut(tiny):
    _, photos, cache = tiny
    source = training_set.of_people("x", photos, cache, [])
    assert training_set.classes([source], "all", 60).tolist() == photos["label"].tolist()
    for task, codes in labels.by_attribute(photos["label"].to_numpy(int)).items():
        np.testing.assert_array_equal(training_set.classes([source], task, 60), codes)


def test_overview_counts_photos_and_age_groups(tiny):
    _, photos, cache = tiny
    table = training_set.overview([training_set.of_people("x", photos, cache, [22])])
    assert table.loc["x"].to_dict() == {"photos": 84, "<30": 0.0, "30-59": 0.5, ">=60": 0.5}


@pytest.fixture
def others(tmp_path):
    """Write another set: strangers but for one known folder, one known id, one known photo, one test photo."""
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


def test_people_whom_validation_may_know_are_kept_out(tiny, others):
    images, *_ = tiny
    [(name, photos, cache)], known = training_set.outsiders([str(others)], images, GEOMETRY)
    assert name == "others"
    assert known.set_index("person")["known by"].value_counts().to_dict() == {"folder name": 1, "id": 1, "photo": 2}
    assert photos["person"].nunique() == 2
    assert not photos["person"].isin(known["person"]).any()
    assert len(training_set.of_people(name, photos, cache, []).keys) == 14


def test_the_same_set_again_adds_nobody(tiny, tiny_work):
    images, *_ = tiny
    [(_, photos, _)], known = training_set.outsiders([str(tiny_work)], images, GEOMETRY)
    assert photos.empty
    assert len(known) == 18


def test_no_other_sets_are_no_outsiders(tiny):
    found, known = training_set.outsiders([], tiny[0], GEOMETRY)
    assert found == []
    assert known.empty


@pytest.fixture
def test_table(tiny, tmp_path):
    """Write a submission's table: joint probabilities out of marginals that are sure of all, of two, of no attribute."""
    images, _, cache = tiny
    keys = training_set.with_crops(images, cache, "eval").index[:3]
    mask = np.array([[0.9, 0.05, 0.05], [0.9, 0.1, 0], [0.4, 0.3, 0.3]])
    gender = np.array([[0.05, 0.95], [0.5, 0.5], [0.5, 0.5]])
    age = np.array([[0.1, 0.2, 0.7], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    joint = np.einsum("nm,ng,na->nmga", mask, gender, age)
    artefacts.write_table(pd.DataFrame(joint.reshape(3, 18), keys, list(labels.PROBABILITIES)), tmp_path / "s.parquet")
    return tmp_path / "s.parquet", keys, joint


@pytest.mark.parametrize(
    ("thresholds", "kept"),
    [((0.8, 0.8, 0.69), [0]), ((0.8, 0.4, 0.69), [0, 1]), ((0.8, 0.4, 0.75), [1]), ((0, 0, 0), [0, 1, 2])],
)
def test_pseudo_labels_are_the_sure_probabilities_as_they_are(tiny, test_table, thresholds, kept):
    (path, keys, joint), (_, photos, cache) = test_table, tiny
    source = training_set.pseudo_labelled(path, dict(zip(labels.ATTRIBUTES, thresholds, strict=True)), cache, photos, 60)
    assert list(source.keys) == list(keys[kept])
    years = source.targets
    groups = torch.stack([years[..., :12].sum(-1), years[..., 12:42].sum(-1), years[..., 42:].sum(-1)], dim=-1)
    np.testing.assert_allclose(groups, joint[kept], atol=1e-6)
    assert set((years.sum((0, 1, 2)) > 1e-6).nonzero().flatten().tolist()) == {22 - 18, 45 - 18, 60 - 18}  # the people's ages


def test_pseudo_label_errors_say_the_mend(tiny, test_table, tmp_path):
    (path, *_), (_, photos, cache) = test_table, tiny
    with pytest.raises(DataError, match="lower them"):
        training_set.pseudo_labelled(path, {"mask": 1, "gender": 1, "age": 1}, cache, photos, 60)
    with pytest.raises(ParameterError, match="exactly the keys mask, gender, age"):
        training_set.pseudo_labelled(path, {"mask": 1}, cache, photos, 60)
    with pytest.raises(ArtefactError, match="notebook 04"):
        training_set.pseudo_labelled(tmp_path / "none.parquet", {}, cache, photos, 60)


@pytest.mark.parametrize("old_from", [58, 60])
def test_pseudo_labels_keep_the_groups_of_the_cut_they_were_made_with(tiny, test_table, old_from):
    (path, _, joint), (_, photos, cache) = test_table, tiny
    older = photos.assign(age=photos["age"].where(photos["age"] != 45, 59))
    source = training_set.pseudo_labelled(path, {"mask": 0, "gender": 0, "age": 0}, cache, older, old_from)
    np.testing.assert_allclose(targets.grouped(source.targets, old_from), joint, atol=1e-6)


def test_an_unreadable_test_photo_is_an_error_before_training(tiny):
    images, _, cache = tiny
    lost = images.index[images["split"] == "eval"][0]
    with pytest.raises(DataError, match="1 test photos cannot be read"):
        training_set.test_keys(images, replace(cache, keys=cache.keys.where(cache.keys != lost, "other")))
