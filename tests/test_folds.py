import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib.data import folds
from lib.errors import DataError, ParameterError
from lib.task.attributes import parse


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    age = rng.choice([20, 25, 40, 55, 60], 200, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    table = pd.DataFrame({"gender": rng.integers(0, 2, 200), "age": age}).astype("Int64")
    names = pd.Index([f"p{k:03d}" for k in range(200)], name="person")
    return table.assign(id=[f"{k // 2:06d}" for k in range(200)]).set_index(names)


def photos_of(people):
    rows = people.loc[people.index.repeat(7)].reset_index()
    rows["mask"] = np.tile([0] * 5 + [1, 2], len(people))
    return rows.assign(label=TASK.encode(TASK.groups(rows)))


def assign(people, split="kfold", fold_count=5, seed=0):
    return folds.assign(people, TASK, split, fold_count, seed)


def test_every_person_is_validated_once_and_never_with_themselves(people):
    assigned = assign(people)
    photos = photos_of(people)
    validated = []
    for fold in folds.numbers(assigned):
        training, validation = folds.divide(photos, assigned, fold)
        assert not set(training["person"]) & set(validation["person"])
        assert len(training) + len(validation) == len(photos)
        validated += list(validation.index)
    assert sorted(validated) == list(photos.index)


def test_folds_have_the_shares_of_the_whole(people):
    report = folds.report(photos_of(people), assign(people), TASK)
    shares = report[list(TASK.classes())]
    whole = photos_of(people)["label"].value_counts(normalize=True).reindex(range(18), fill_value=0)
    assert report["people"].tolist() == [40] * 5
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (
        shares - whole.to_numpy()
    ).abs().to_numpy().max() < 0.02  # half a person of 40, five photos of seven


def test_the_seed_alone_decides(people):
    first, again, other = (assign(people, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_person_is_a_folder_whatever_the_id(people):
    assert assign(people).equals(assign(people.assign(id="000000")))


def test_holdout_validates_the_first_fold_of_kfold_alone(people):
    kfold, holdout = (assign(people, split) for split in ("kfold", "holdout"))
    assert (holdout == 0).equals(kfold == 0)
    assert set(holdout) == {0, folds.ALWAYS_TRAINED}
    assert folds.numbers(holdout) == [0]


def test_none_trains_on_everyone(people):
    assigned = assign(people, "none")
    training, validation = folds.divide(photos_of(people), assigned, *folds.numbers(assigned))
    assert len(training) == 1400
    assert validation.empty


@pytest.mark.parametrize("count", [1, 0, 1000])
def test_a_count_that_leaves_a_fold_without_a_group_names_the_scarcest(people, count):
    scarcest = people.groupby(TASK.strata(people)).size().min()
    with pytest.raises(
        ParameterError,
        match=rf"fold_count={count} must be from 2 to {scarcest}: .*>=60.*people_limit",
    ):
        assign(people, fold_count=count)


def test_a_wrong_split_lists_the_choices(people):
    with pytest.raises(ParameterError, match="kfold, holdout, none"):
        assign(people, "kfolds")


def test_a_person_on_both_sides_is_refused():
    with pytest.raises(DataError, match=r"1 people .*'b'"):
        folds.check_disjoint(pd.Series(["a", "b"]), pd.Series(["b", "c"]))


@pytest.mark.parametrize("count", [0, 2, 5, 1000])
def test_whoever_trains_on_everyone_needs_no_number_of_folds(people, count):
    few = people.head(3)
    assert (assign(few, "none", count) == folds.ALWAYS_TRAINED).all()


def test_a_group_of_one_person_says_so_and_offers_a_way(people):
    lonely = people.head(8).assign(age=[20, 20, 20, 20, 20, 20, 20, 60], gender=0)
    with pytest.raises(ParameterError, match="only 1 person is male >=60.*split='none'"):
        assign(lonely, fold_count=2)


def test_photos_without_groups_are_balanced_by_their_classes():
    task = parse({"attributes": {"colour": {"classes": ["red", "blue"]}}}, "made", "")
    photos = pd.DataFrame({"colour": [0] * 30 + [1] * 10}, [f"p{k}" for k in range(40)])
    found = folds.assign(photos, task, "kfold", 5, 0)
    counts = photos.groupby([found, "colour"]).size().unstack()
    assert (counts == [6, 2]).all(axis=None)


def people_of_several_classes():
    """Return photos of a task that records nothing per person: two of its classes are rare."""
    task = parse({"attributes": {"mood": {"classes": ["calm", "glad", "sad"]}}}, "made", "")
    rng = np.random.default_rng(0)
    rows = [
        (f"p{person}", mood)
        for person in range(60)
        for mood in [0, *rng.choice([0, 0, 1, 2], 1 + person % 5)]
    ]
    return task, pd.DataFrame(rows, columns=["person", "mood"])


@pytest.mark.parametrize("seed", range(3))
def test_without_a_fact_of_people_every_photo_counts(seed):
    task, photos = people_of_several_classes()
    every, first = folds.balanced_over(photos, task), photos.groupby("person")[["mood"]].first()
    spread = []
    for rows in (every, first):
        assigned = folds.assign(rows, task, "kfold", 5, seed)
        assert sorted(assigned.index) == sorted(photos.person.unique())
        counts = pd.crosstab(photos.person.map(assigned), photos.mood)
        spread.append((counts.max() - counts.min()).sum())
    assert spread[0] < 0.75 * spread[1]


def test_a_class_that_one_person_has_is_refused_however_many_photos_it_has():
    task, photos = people_of_several_classes()
    photos.loc[photos.mood == 2, "mood"] = 1
    photos.loc[photos.person == "p4", "mood"] = 2
    with pytest.raises(ParameterError, match="only 1 person is sad"):
        folds.assign(folds.balanced_over(photos, task), task, "kfold", 2, 0)
