"""Every kind of leak, planted one by one, is found; where none is planted, none is."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PARAMS, TASK, tiny_images

from lib.data import folds, leaks
from lib.data.audit import CHANNELS
from lib.data.index import people
from lib.learn import recipe

CHOICE = "best epochs chosen on scored people"


def measured(images, seed=0):
    """Return images as if audited: hashes and colours that are all different."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, len(images), dtype=np.uint64)
    colours = dict(zip(CHANNELS, rng.uniform(0.1, 0.9, (6, len(images))), strict=True))
    return images.assign(dhash=hashes, **colours, sha256=[f"{seed} {key}" for key in images.index])


@pytest.fixture
def images():
    return measured(tiny_images())


@pytest.fixture
def person_folds(images):
    return folds.assign(people(images, TASK), TASK, "kfold", 3, 0)


@pytest.fixture
def photos(images, person_folds):
    """Return a photo of fold 0 and one of fold 1, of fold 0 another, and a test photo."""
    fold = images.person.map(person_folds)
    of_fold = [images.index[fold == k] for k in (0, 1)]
    return of_fold[0][0], of_fold[1][0], of_fold[0][8], images.index[-1]


def counts(*arguments, **more):
    table = leaks.report(*arguments, **more).set_index("kind")
    assert list(table.columns) == ["count", "examples", "what it means"]
    assert table["what it means"].str.len().max() <= 50
    assert (table["examples"].eq("") == table["count"].eq(0)).all()
    return table["count"][table["count"] > 0].to_dict()


def copied(images, source, target, near=False):
    """Return images in which ``target`` is a copy of ``source``: its bytes, or saved again."""
    columns = ["dhash", *CHANNELS, *([] if near else ["sha256"])]
    images = images.copy()
    images.loc[target, columns] = images.loc[source, columns].to_numpy()
    return images


def test_where_nothing_is_planted_nothing_is_found(images, person_folds):
    assert counts(images, person_folds) == {}
    assert counts(images, person_folds * 0 - 1) == {}
    strangers = measured(tiny_images(1, 0), 1).rename("other {}".format)
    strangers = strangers.assign(person="other " + strangers.person, id="other " + strangers.id)
    assert counts(images, person_folds, [strangers]) == {}
    assert counts(images, person_folds, [images[images.split == "eval"]]) == {}


def test_a_person_in_two_folds(images, person_folds):
    person, fold = next(person_folds.items())
    twice = pd.concat([person_folds, pd.Series({person: (fold + 1) % 3})])
    found = counts(images, twice)
    assert found == {
        "people in two folds": 1,
        "ids in two folds": 1,
        "identical photos in two folds": 7,
    }


def test_an_id_of_two_people_in_different_folds(images, person_folds, photos):
    ident = images.id[photos[0]]
    same = images.assign(id=images.id.where(images.person != images.person[photos[1]], ident))
    table = leaks.report(same, person_folds).set_index("kind")
    assert table["examples"]["ids in two folds"] == ident
    assert counts(same, person_folds) == {"ids in two folds": 1}


@pytest.mark.parametrize(("near", "how"), [(False, "identical"), (True, "nearly identical")])
def test_copies_of_photos(images, person_folds, photos, near, how):
    zero, one, other, test = photos
    across = copied(images, zero, one, near)
    assert counts(across, person_folds) == {f"{how} photos in two folds": 1}
    examples = leaks.report(across, person_folds).set_index("kind").examples
    assert set(examples[f"{how} photos in two folds"].split(" = ")) == {zero, one}
    assert counts(copied(images, zero, other, near), person_folds) == {}
    public = copied(images, one, test, near)
    assert counts(public, person_folds) == {f"{how} photos in training and test": 1}
    assert counts(across, person_folds * 0 - 1) == {}


@pytest.mark.parametrize(("near", "how"), [(False, "identical"), (True, "nearly identical")])
def test_pseudo_labelled_photos_like_scored_ones(images, person_folds, photos, near, how):
    public = copied(images, photos[0], photos[3], near)
    found = counts(public, person_folds, [public[public.split == "eval"]])
    assert found == {
        f"{how} photos in training and test": 1,
        f"added photos {how} to scored ones": 1,
    }
    trained = person_folds.where(person_folds != person_folds[images.person[photos[0]]], -1)
    assert counts(public, trained, [public[public.split == "eval"]]) == {
        f"{how} photos in training and test": 1
    }


@pytest.mark.parametrize("name", ["person", "id"])
def test_added_people_who_are_scored(images, person_folds, name):
    strangers = measured(tiny_images(1, 0), 1)
    other = {column: "other " + strangers[column] for column in {"person", "id"} - {name}}
    known = strangers.assign(**other)
    assert counts(images, person_folds, [known]) == {"added photos of scored people": len(known)}
    assert counts(images, person_folds * 0 - 1, [known]) == {}


def test_an_unreadable_photo_is_no_copy(images, person_folds, photos):
    lost = copied(images, *photos[:2])
    lost.loc[photos[1], "status"] = "unreadable"
    assert counts(lost, person_folds) == {}


def test_statistics_of_the_data_in_the_normalisation(images, person_folds):
    params = PARAMS | {"backbone": ["test_resnet"] * 2, "pretrained": False, "image_size": [32, 32]}
    backbone = recipe.model(params, TASK).backbone
    assert counts(images, person_folds, backbone=backbone) == {}
    backbone.std1[:] = torch.tensor(images[CHANNELS[3:]].mean().to_numpy()).view(1, 3, 1, 1) * 255
    found = counts(images, person_folds, backbone=backbone)
    assert found == {"backbones normalised by other statistics": 1}
    assert leaks.normalised_otherwise(backbone)[0].endswith("of backbone 1")


def history(*scores):
    return pd.DataFrame({"epoch": range(1, len(scores) + 1), "score": scores})


def test_the_best_epoch_is_worth_what_a_nested_choice_loses(images, person_folds):
    histories = {0: history(0.5, 0.9, 0.6), 1: history(0.4, 0.5, 0.8), 2: history(0.3, 0.6, 0.7)}
    choice = leaks.epoch_choice(histories)
    assert choice["best"].tolist() == [0.9, 0.8, 0.7]
    assert choice["nested"].tolist() == [0.6, 0.5, 0.6]
    assert counts(images, person_folds, histories=histories) == {CHOICE: 3}
    examples = leaks.report(images, person_folds, histories=histories).set_index("kind").examples
    assert examples[CHOICE].startswith("fold 0: best 0.900, nested 0.600")


def test_folds_that_ended_early_are_compared_where_all_have_scores():
    choice = leaks.epoch_choice({0: history(0.1, 0.2, 0.9), 1: history(0.5, 0.3)})
    assert choice["best"].tolist() == [0.9, 0.5]
    assert choice["nested"].tolist() == [0.1, 0.3]


def test_one_fold_has_no_nested_choice_and_nobody_validated_no_choice(images, person_folds):
    assert leaks.epoch_choice({0: history(0.1, 0.2)})["nested"].isna().all()
    assert leaks.epoch_choice({0: history(np.nan, np.nan)}).empty
    assert counts(images, person_folds, histories={0: history(np.nan)}) == {}
