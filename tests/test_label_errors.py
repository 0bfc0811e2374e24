"""Label errors: planted ones are found, ranked, and written so that notebook 01 corrects them."""

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from lib.data.relabel import relabel
from lib.demo.planted import recall
from lib.errors import DataError
from lib.explain import labels
from lib.plots.labels import gallery
from lib.task.attributes import load

MASK, GLASSES, DIGITS = map(load, ("mask", "glasses", "digits"))
STEMS = {**{f"mask{k}": 0 for k in range(1, 6)}, "incorrect_mask": 1, "normal": 2}


def people_images(rng: np.random.Generator, people: int) -> pd.DataFrame:
    """Return a true images table in the layout of the competition: seven photos of each person."""
    rows = []
    for number in range(people):
        gender, age = rng.integers(2), rng.integers(18, 61)
        for stem, mask in STEMS.items():
            rows.append(
                (f"p{number:03d}/{stem}", f"p{number:03d}", f"{number:06d}", mask, gender, age)
            )
    images = pd.DataFrame(rows, columns=["key", "person", "id", "mask", "gender", "age"])
    return images.set_index("key").assign(split="train", status="ok")


def seen(images: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return out-of-fold probabilities as a model of moderate skill gives them.

    Looks belong to a person: a noise of its own in gender and age is shared by all photos, so they
    err together. Every photo adds some noise, and the model is too sure of itself by a factor of 2.
    """
    person, _ = pd.factorize(images.person)
    own, photo = rng.normal(size=(person.max() + 1, 2)), rng.normal(size=(len(images), 5))
    looks = images.age + 6 * own[person, 0] + 5 * photo[:, 0]
    age = -(((looks.to_numpy()[:, None] - [24, 44, 60]) / 10) ** 2)
    gender = (2 * images.gender - 1 + 0.6 * own[person, 1] + 0.5 * photo[:, 1]).to_numpy() * 2
    mask = 4 * np.eye(3)[images["mask"]] + 1.5 * photo[:, 2:]
    shares = [softmax(2 * mask, 1), softmax(np.c_[-gender, gender], 1), softmax(2 * age, 1)]
    joint = np.einsum("na,nb,nc->nabc", *shares).reshape(len(images), -1)
    label = MASK.encode(MASK.groups(images)).to_numpy()
    table = pd.DataFrame(joint, images.index, MASK.columns())
    return table.assign(label=label, person=images.person, fold=0)


def plant(images: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images with 4 genders, 3 exchanges and 1 age wrong, and a list of these."""
    wrong, planted = images.copy(), []
    far = images.person[images.age < 25].unique()[:1].tolist()
    others = rng.permutation(images.person[~images.person.isin(far)].unique())[:7].tolist()
    kinds = ["age", *["gender"] * 4, *["mask"] * 3]
    for person, field in zip(far + others, kinds, strict=True):
        rows = images.person == person
        change = {"age": lambda n: 60, "gender": lambda n: 1 - n, "mask": {0: 0, 1: 2, 2: 1}.get}
        wrong.loc[rows, field] = images.loc[rows, field].map(change[field])
        planted.append((person, field))
    wrong["label"] = MASK.encode(MASK.groups(wrong))
    return wrong, pd.DataFrame(planted, columns=["person", "field"])


@pytest.fixture(scope="module")
def simulated():
    """Return true images, images with errors, the errors, and the candidates."""
    rng = np.random.default_rng(5)
    true = people_images(rng, 150)
    wrong, planted = plant(true, rng)
    oof = seen(true, rng).assign(label=wrong.label)
    return true, wrong, planted, labels.candidates(oof, wrong, MASK)


def test_four_of_five_planted_errors_are_among_the_first_candidates():
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        true = people_images(rng, 150)
        wrong, planted = plant(true, rng)
        found = labels.candidates(seen(true, rng).assign(label=wrong.label), wrong, MASK)
        hits, errors, first = recall(found, planted)
        assert (errors, first) == (8, 24)
        shares.append(hits / errors)
    assert np.mean(shares) >= 0.8


def test_labels_without_relation_to_the_photos_rank_errors_by_chance():
    rng = np.random.default_rng(0)
    true = people_images(rng, 150)
    wrong, planted = plant(true, rng)
    oof = seen(true, rng)
    oof[MASK.columns()] = rng.dirichlet(np.ones(18), len(oof))
    hits, *_ = recall(labels.candidates(oof, wrong, MASK), planted)
    assert hits <= 3  # of 8; 24 of 450 candidates are looked at


def test_a_person_has_one_candidate_per_attribute_and_all_photos_of_a_person_change(simulated):
    _, images, _, found = simulated
    assert found.groupby("field").size().to_dict() == {"age": 150, "gender": 150, "mask": 150}
    assert not found.duplicated(["person", "field"]).any()
    assert found.score.is_monotonic_decreasing
    assert found.photos[found.field == "gender"].map(len).eq(7).all()
    one = found[found.field == "gender"].iloc[0]
    assert set(one.photos) == set(images.index[images.person == one.person])


def test_an_exchange_names_two_photos_and_gains_what_brute_force_gains():
    images = people_images(np.random.default_rng(1), 30)
    oof = seen(images, np.random.default_rng(2))
    found = labels.candidates(oof, images, MASK).query("field == 'mask'")
    joint = oof[MASK.columns()].to_numpy().reshape(-1, 3, 6).sum(axis=2)
    logs = pd.DataFrame(np.log(0.9 * joint + 0.1 / 3), oof.index)
    gains = {}
    for person, keys in images.groupby("person").groups.items():
        pairs = [(one, other) for one in keys for other in keys]
        classes = images["mask"]
        gains[person] = max(
            logs.loc[a, classes[b]] + logs.loc[b, classes[a]]
            - logs.loc[a, classes[a]] - logs.loc[b, classes[b]]
            for a, b in pairs if classes[a] != classes[b]
        )  # fmt: skip
    ratios = found.score / found.person.map(gains)
    assert ratios.std() < 1e-9 * ratios.mean()  # the temperature is the only difference
    for one in found.itertuples():
        assert [MASK.classes("mask")[images["mask"][key]] for key in one.photos] == [one[3], one[4]]


def test_photos_without_people_are_judged_one_by_one():
    rng = np.random.default_rng(3)
    keys = [f"{k}.png" for k in range(400)]
    digit = rng.integers(10, size=400)
    images = pd.DataFrame({"person": keys, "id": keys, "digit": digit, "split": "train"}, keys)
    logits = 5 * np.eye(10)[digit] + rng.normal(size=(400, 10))
    images.loc[keys[:6], "digit"] = (digit[:6] + 1) % 10
    oof = pd.DataFrame(softmax(logits, 1), keys, DIGITS.columns())
    found = labels.candidates(oof.assign(label=images.digit, person=keys), images, DIGITS)
    assert set(found.person[:6]) == set(keys[:6])
    assert 3 <= found.confident.sum() <= 6
    assert found.confident[:3].all()
    assert found.photos.map(len).eq(1).all()
    assert found.set_index("person").loc[keys[:6], "to"].astype(int).tolist() == digit[:6].tolist()


def test_a_run_of_one_attribute_has_candidates_of_this_attribute_only():
    images = pd.DataFrame({"person": list("aabb"), "glasses": [0, 0, 1, 1], "hair": 2})
    oof = pd.DataFrame({"glasses_0": [0.9, 0.8, 0.7, 0.9], "glasses_1": [0.1, 0.2, 0.3, 0.1]})
    found = labels.candidates(oof, images, GLASSES)
    assert found[["person", "field", "from", "to"]].to_numpy().tolist() == [
        ["b", "glasses", "yes", "no"],
        ["a", "glasses", "no", "yes"],
    ]
    assert found.score[0] > 0 > found.score[1]


def test_the_temperature_of_a_model_that_is_too_sure_is_found():
    rng = np.random.default_rng(4)
    logits = rng.normal(scale=2, size=(20_000, 3))
    true = softmax(logits, 1)
    given = np.array([rng.choice(3, p=row) for row in true])
    assert np.exp(labels.calibrated(3 * logits, given)) == pytest.approx(true, abs=0.02)


def test_errors_are_called_where_another_class_reaches_its_mean_confidence():
    rng = np.random.default_rng(7)
    given = rng.integers(3, size=500)
    shares = softmax(3 * np.eye(3)[given] + 1.5 * rng.normal(size=(500, 3)), 1)
    usual = np.array([shares[given == c, c].mean() for c in range(3)])
    reached = np.where(shares >= usual, shares, 0)
    expected = (reached.max(1) > 0) & (reached.argmax(1) != given)
    assert 5 < expected.sum() < 250
    assert (labels.called_errors(np.log(shares), given) == expected).all()


def test_the_same_looks_are_a_stronger_hint_far_from_the_cut_than_near_it():
    rng, age = np.random.default_rng(6), MASK["age"]
    numbers = np.append(rng.integers(18, 61, 300), [31, 55])
    looks = numbers + rng.normal(scale=6, size=302)
    shares = softmax(-(((looks[:, None] - [24, 44, 60]) / 10) ** 2), 1)
    shares[-2:] = [0.8, 0.15, 0.05]
    near, far = labels.odds_of_numbers(shares, numbers, age)[-2:, 0]
    assert far > near + 1


def test_fixed_counts_are_recognised_and_one_photo_per_person_has_none():
    person = pd.Series(list("aaabbbccc"))
    assert labels.has_fixed_counts(person, pd.Series([0, 0, 1] * 3))
    assert not labels.has_fixed_counts(person, pd.Series([0, 0, 1, 0, 1, 1, 0, 0, 0]))
    assert not labels.has_fixed_counts(pd.Series(list("abcd")), pd.Series([0, 0, 0, 1]))


def test_the_relabel_file_of_planted_errors_restores_what_is_true(simulated, tmp_path):
    true, wrong, planted, found = simulated
    chosen = found.merge(planted, on=["person", "field"])
    rows = labels.to_relabel(chosen, wrong, MASK)
    assert len(rows) == 8 + 3  # an exchange has two rows
    rows.to_csv(tmp_path / "found.csv", index=False)
    corrected, changes = relabel(wrong, [tmp_path / "found.csv"], MASK)
    assert changes.outcome.str.startswith("applied").all()
    for name in ("mask", "gender"):
        assert (corrected[name] == true[name]).all()
    assert (MASK.groups(corrected)["age"] == MASK.groups(true)["age"]).all()


def test_a_number_becomes_the_nearest_one_of_the_proposed_group():
    pairs = [(60, "30-59"), (52, "<30"), (22, "30-59"), (22, ">=60")]
    assert [labels.nearest_number(MASK["age"], *pair) for pair in pairs] == [59, 29, 30, 60]


def test_a_correction_that_would_change_others_is_not_written(simulated):
    _, wrong, _, found = simulated
    one = found[found.field == "gender"].head(1)
    gender = wrong.gender[wrong.person == one.person[one.index[0]]].iloc[0]
    alike = wrong.person[(wrong.gender == gender) & (wrong.person != one.person.iloc[0])].iloc[0]
    shared = wrong.copy()
    shared.loc[shared.person == alike, "id"] = shared.id[one.photos.iloc[0][0]]
    assert len(labels.to_relabel(one, wrong, MASK)) == 1
    assert labels.to_relabel(one, shared, MASK).empty


def test_an_image_table_of_other_photos_is_refused(simulated):
    true, *_ = simulated
    oof = seen(true, np.random.default_rng(0))
    with pytest.raises(DataError, match="lacks.*p000/mask1.*work_dir"):
        labels.candidates(oof, true.drop(index="p000/mask1"), MASK)


def test_the_gallery_has_a_row_per_candidate_and_both_ways_of_an_exchange(simulated, tmp_path):
    _, wrong, _, found = simulated
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((40, 30, 3), 128, np.uint8))
    shown = pd.concat([found[found.field == name].head(1) for name in ("gender", "mask")])
    figure = gallery(shown, wrong.assign(file="photo.png"), str(tmp_path))
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 7 + 2
    assert [title.split("\n")[0][:2] for title in titles if title[:1].isdigit()] == ["1.", "2."]
    exchange = shown.iloc[1]
    assert titles[-1] == f"{exchange['to']} → {exchange['from']}"
    assert titles[1:7] == [""] * 6  # a person changes as a whole, which the first photo says


def test_a_gallery_of_nothing_says_so(simulated, capsys):
    _, wrong, _, found = simulated
    assert gallery(found.head(0), wrong, ".") is None
    assert "nothing to show" in capsys.readouterr().out
