import numpy as np
import pandas as pd
import pytest

from lib.data import folds
from lib.errors import DataError, ParameterError
from lib.task import labels


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    age = rng.choice([20, 25, 40, 55, 60], 200, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    table = pd.DataFrame({"gender": rng.integers(0, 2, 200), "age_group": labels.age_group(age)}).astype("Int64")
    return table.assign(id=[f"{k // 2:06d}" for k in range(200)]).set_index(
        pd.Index([f"p{k:03d}" for k in range(200)], name="person")
    )


def photos_of(people):
    rows = people.loc[people.index.repeat(7)].reset_index()
    return rows.assign(
        label=labels.encode(np.tile([0] * 5 + [1, 2], len(people)), rows["gender"].astype(int), rows["age_group"].astype(int))
    )


def test_every_person_is_validated_once_and_never_with_themselves(people):
    assigned = folds.assign(people, "kfold", 5, seed=0)
    photos = photos_of(people)
    validated = []
    for fold in folds.numbers(assigned):
        training, validation = folds.divide(photos, assigned, fold)
        assert not set(training["person"]) & set(validation["person"])
        assert len(training) + len(validation) == len(photos)
        validated += list(validation.index)
    assert sorted(validated) == list(photos.index)


def test_folds_have_the_shares_of_the_whole(people):
    report = folds.report(photos_of(people), folds.assign(people, "kfold", 5, seed=0))
    shares = report[list(labels.CLASSES)]
    whole = photos_of(people)["label"].value_counts(normalize=True).reindex(range(18), fill_value=0)
    assert report["people"].tolist() == [40] * 5
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares - whole.to_numpy()).abs().to_numpy().max() < 0.02  # half a person of 40, five photos of seven


def test_the_seed_alone_decides(people):
    first, again, other = (folds.assign(people, "kfold", 5, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_person_is_a_folder_whatever_the_id(people):
    assert folds.assign(people, "kfold", 5, 0).equals(folds.assign(people.assign(id="000000"), "kfold", 5, 0))


def test_holdout_validates_the_first_fold_of_kfold_alone(people):
    kfold, holdout = (folds.assign(people, split, 5, 0) for split in ("kfold", "holdout"))
    assert (holdout == 0).equals(kfold == 0)
    assert set(holdout) == {0, folds.ALWAYS_TRAINED}
    assert folds.numbers(holdout) == [0]


def test_none_trains_on_everyone(people):
    assigned = folds.assign(people, "none", 5, 0)
    training, validation = folds.divide(photos_of(people), assigned, *folds.numbers(assigned))
    assert len(training) == 1400
    assert validation.empty


@pytest.mark.parametrize("count", [1, 0, 1000])
def test_a_count_that_leaves_a_fold_without_a_group_names_the_scarcest(people, count):
    scarcest = people.groupby(["gender", "age_group"]).size().min()
    with pytest.raises(ParameterError, match=rf"fold_count={count} must be from 2 to {scarcest}, .*>=60"):
        folds.assign(people, "kfold", count, 0)


def test_a_wrong_split_lists_the_choices(people):
    with pytest.raises(ParameterError, match="kfold, holdout, none"):
        folds.assign(people, "kfolds", 5, 0)


def test_a_person_on_both_sides_is_refused():
    with pytest.raises(DataError, match=r"1 people .*'b'"):
        folds.check_disjoint(pd.Series(["a", "b"]), pd.Series(["b", "c"]))
