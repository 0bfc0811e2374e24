"""Photos of one person: averages, clusters, and what both are worth on people who are hidden."""

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform
from scipy.stats import multivariate_normal

from lib.errors import DataError, ParameterError
from lib.score import groups, metrics, nested, same_person
from lib.score.between import Between
from lib.score.groups import Weights
from lib.task.attributes import LABEL, load, parse
from lib.task.tables import probabilities

TASK = load("mask")
SPLIT = parse(  # too many labels for a joint table: a part for each attribute
    {
        "attributes": {
            "x": {"classes": list("abcdefghij"), "per": "photo"},
            "y": {"classes": list("abcdefghij"), "per": "person"},
            "z": {"classes": list("abcdefghij"), "per": "person"},
        }
    },
    "split",
    "split.yaml",
)
PER_PHOTO = parse({"attributes": {"x": {"classes": ["a", "b"]}}}, "photos", "photos.yaml")


def table_of(task, photos, seed=0):
    rng = np.random.default_rng(seed)
    keys = pd.Index([f"k{k}" for k in range(photos)], name="key")
    frames = [
        pd.DataFrame(rng.dirichlet(np.ones(len(task.columns(p))), photos), keys, task.columns(p))
        for p in task.parts()
    ]
    return pd.concat(frames, axis=1)


def random_weights(photos, seed=0):
    found = np.random.default_rng(seed).dirichlet(np.ones(photos), photos)
    return csr_array(found)


# Averages


def test_marginals_per_person_are_the_means_and_those_per_photo_stay():
    table, weights = table_of(TASK, 6), random_weights(6)
    found = groups.averaged(table, TASK, weights)
    assert found.sum(axis=1).to_numpy() == pytest.approx(1)
    before, after = (t[TASK.columns()].to_numpy().reshape(-1, 3, 2, 3) for t in (table, found))
    for photo in range(6):
        mean = sum(weights.toarray()[photo, k] * before[k].sum(axis=0) for k in range(6))
        assert after[photo].sum(axis=0) == pytest.approx(mean, abs=1e-6)
        assert after[photo].sum(axis=(1, 2)) == pytest.approx(before[photo].sum(axis=(1, 2)))


def test_the_label_keeps_how_its_attributes_hang_together():
    table = table_of(TASK, 4)
    found = groups.averaged(table, TASK, random_weights(4))
    before, after = (t[TASK.columns()].to_numpy().reshape(4, 3, 6) for t in (table, found))
    odds = [
        np.log(t[:, :-1, :-1] * t[:, 1:, 1:] / t[:, 1:, :-1] / t[:, :-1, 1:])
        for t in (before, after)
    ]
    assert odds[0] == pytest.approx(odds[1])  # scaling rows and columns keeps odds ratios


def test_classes_that_are_impossible_stay_impossible():
    table = table_of(TASK, 3)
    table[TASK.columns()[6:9]] = 0.0  # one class per photo and per person: never together
    table.iloc[:, 0:6] = 0.0
    table = table.div(table.sum(axis=1), axis=0)
    found = groups.averaged(table, TASK, random_weights(3))
    assert np.isfinite(found).to_numpy().all()
    assert found.sum(axis=1).to_numpy() == pytest.approx(1)
    assert found[TASK.columns()[:6]].to_numpy().max() == 0


def test_separate_attributes_are_averaged_one_by_one():
    table, weights = table_of(SPLIT, 5), random_weights(5)
    found = groups.averaged(table, SPLIT, weights)
    for name in ("y", "z"):
        expected = weights.toarray() @ table[SPLIT.columns(name)].to_numpy()
        assert found[SPLIT.columns(name)].to_numpy() == pytest.approx(expected)
    assert found[SPLIT.columns("x")].equals(table[SPLIT.columns("x")])


def test_a_photo_alone_is_not_changed_at_all():
    table = table_of(TASK, 3)
    alone = csr_array(np.array([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]))
    found = groups.averaged(table, TASK, alone)
    assert found.iloc[0].equals(table.iloc[0])
    assert not found.iloc[1].equals(table.iloc[1])


def test_a_wrong_photo_moves_a_probability_by_its_weight_at_most():
    own, sure = np.full(18, 1e-9), np.full(18, 1e-9)
    own[TASK.encode({"mask": 0, "gender": 0, "age": 1})] = 1
    sure[TASK.encode({"mask": 2, "gender": 1, "age": 2})] = 1
    table = pd.DataFrame([own, sure], columns=TASK.columns()) / (1 + 17e-9)
    for share in (0.05, 0.3):
        weights = csr_array(np.array([[1 - share, share], [0, 1]]))
        found = groups.averaged(table, TASK, weights)
        for name in TASK.names:
            moved = probabilities(found, TASK, name) - probabilities(table, TASK, name)
            limit = 0 if TASK[name].per == "photo" else share
            assert moved.iloc[0].abs().max() == pytest.approx(limit, abs=1e-6)


def test_a_task_without_attributes_per_person_is_refused():
    groups.check(PER_PHOTO, "none")
    groups.check(TASK, "appearance")
    with pytest.raises(ParameterError, match="records nothing per person.*group_test='none'"):
        groups.check(PER_PHOTO, "appearance")
    with pytest.raises(ParameterError, match="group_test='clothes' is not one of"):
        groups.check(TASK, "clothes")


def test_weights_of_some_photos_are_shared_by_those_that_are_there():
    weights = Weights(
        pd.Index(list("abc")), csr_array([[0.5, 0.25, 0.25], [0, 1, 0], [0.4, 0, 0.6]])
    )
    assert weights.of(pd.Index(["c", "a"])).toarray() == pytest.approx(
        np.array([[0.6, 0.4], [1 / 3, 2 / 3]])
    )
    both = weights.joined(Weights(pd.Index(["d"]), csr_array([[1.0]])))
    assert both.of(pd.Index(["d", "b"])).toarray() == pytest.approx(np.eye(2))
    with pytest.raises(DataError, match="x.*have no weights"):
        weights.of(pd.Index(["a", "x"]))


# The metric and the clusters


def people_of(count, photos=5, size=8, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(count), photos)
    places = rng.normal(size=(count, size))[people]
    return places + noise * rng.normal(size=(len(people), size)), people


def test_ratios_are_those_of_two_normal_distributions():
    metric = same_person.Metric(np.zeros(2), np.eye(2), np.array([3.0, 0.5]))
    values = np.random.default_rng(0).normal(size=(4, 2))
    placed = metric.place(values)
    assert np.linalg.norm(placed, axis=1) == pytest.approx(np.sqrt(4 + 1.5))
    between, total = np.diag([3, 0.5]), np.diag([4, 1.5])
    together = multivariate_normal(cov=np.block([[total, between], [between, total]]))
    alone, found = multivariate_normal(cov=total), metric.ratios(values, values)
    for i in range(4):
        for j in range(4):
            both = together.logpdf(np.r_[placed[i], placed[j]])
            expected = both - alone.logpdf(placed[i]) - alone.logpdf(placed[j])
            assert found[i, j] == pytest.approx(expected, abs=1e-4)


def test_the_metric_finds_the_dimension_that_tells_people():
    values, people = people_of(60, size=1, noise=0.1)
    noise = 5 * np.random.default_rng(1).normal(size=(len(values), 6))
    metric = same_person.learn(np.hstack([noise, values]), people)
    best = metric.axes[:, metric.between.argmax()]
    spread = best * np.hstack([noise, values]).std(axis=0)
    assert np.abs(spread).argmax() == 6
    assert np.abs(spread[6]) > 5 * np.abs(spread[:6]).max()


def test_ratios_of_two_folds_come_from_neither(monkeypatch):
    values, people = people_of(25)
    folds, learned = people % 5, []
    learn = same_person.learn
    monkeypatch.setattr(same_person, "learn", lambda f, p: learned.append(set(p)) or learn(f, p))
    same_person.crossed(values, people, folds)
    assert len(learned) == 10
    assert all(len({person % 5 for person in seen}) == 3 for seen in learned)


def test_clusters_are_those_of_scipy_where_size_is_no_limit():
    values, _ = people_of(12, noise=0.9)
    ratios = -np.linalg.norm(values[:, None] - values[None], axis=2)
    joined = linkage(squareform(-ratios, checks=False), "average")
    for threshold in (-2.0, -2.6, -3.2):
        expected = fcluster(joined, -threshold, "distance")
        found = same_person.tree(ratios).clusters(threshold, len(values))
        assert (np.equal.outer(found, found) == np.equal.outer(expected, expected)).all()
        limited = same_person.tree(ratios).clusters(threshold, 3)
        assert np.bincount(limited).max() <= 3
        assert (expected[np.equal.outer(limited, limited).argmax(axis=0)] == expected).all()


def test_quality_by_hand():
    found = same_person.quality(np.array([0, 0, 0, 1, 1]), np.array(list("aabbb")))
    assert found["purity"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1) / 5)
    assert found["completeness"] == pytest.approx((1 + 1 + 1 / 3 + 2 / 3 + 2 / 3) / 5)
    assert same_person.worth(np.arange(3), np.zeros(3)) == 0
    assert same_person.worth(np.zeros(3), np.zeros(3)) == 1


def test_certainty_is_the_share_of_right_pairs():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 4000)
    same = rng.random(4000) < 1 / (1 + np.exp(-1.5 * odds))
    certainty = same_person.Certainty(np.c_[odds, odds], same)
    assert certainty.of(np.array([[-2.0] * 2, [0] * 2, [1] * 2])) == pytest.approx(
        [1 / (1 + np.exp(3)), 0.5, 1 / (1 + np.exp(-1.5))], abs=0.04
    )
    assert same_person.Certainty(np.zeros((8, 2)), np.ones(8, bool)).of(np.zeros((1, 2))) == 0.9


def looks_of(noise, count=60, tests=40, seed=0):
    values, people = people_of(count + tests, noise=noise, seed=seed)
    keys = pd.Index([f"{person:03d}/{k}" for k, person in enumerate(people)], name="key")
    looks = pd.DataFrame(values, keys)
    names = pd.Series([f"{person:03d}" for person in people], keys)
    return looks, names, names[people < count]


@pytest.mark.parametrize("noise", [0.2, 0.45, 0.8])
def test_what_is_measured_on_known_people_holds_for_test_people(noise):
    looks, names, known = looks_of(noise, tests=60)
    found = same_person.grouped(looks, known)
    test = same_person.quality(found.test.clusters, names[found.test.clusters.index])
    assert found.known.quality.to_numpy() == pytest.approx(test.to_numpy(), abs=0.08)
    weights = found.weights.of(looks.index).tocoo()
    pairs = weights.coords[0] != weights.coords[1]
    first, second = (names.to_numpy()[side[pairs]] for side in weights.coords)
    own = weights.diagonal()[weights.coords[0][pairs]]
    said = weights.data[pairs] / own  # the certainty, as a photo counts 1 for itself
    assert said.mean() == pytest.approx((first == second).mean(), abs=0.08)


def test_few_people_and_single_photos_are_refused():
    looks, _, known = looks_of(0.2, count=19)
    with pytest.raises(DataError, match="at least 20 people with several photos, there are 19"):
        same_person.grouped(looks, known)
    with pytest.raises(DataError, match="there are 0"):
        same_person.grouped(looks, pd.Series(known.index, known.index))


def test_without_test_photos_known_people_are_grouped_all_the_same():
    looks, _, known = looks_of(0.2, count=20, tests=0)
    found = same_person.grouped(looks, known)
    assert found.known.quality["purity"] > 0.9
    assert len(found.test.clusters) == 0
    assert found.weights.of(looks.index).sum(axis=1) == pytest.approx(1)


# The gain


def predictions(names, seed=0):
    """A table whose photos are right about their person in 60 % of the cases."""
    rng = np.random.default_rng(seed)
    people = names.astype("category").cat.codes.to_numpy()
    gender, age = rng.integers(0, 2, people.max() + 1), rng.integers(0, 3, people.max() + 1)
    mask = rng.integers(0, 3, len(names))
    label = TASK.encode({"mask": mask, "gender": gender[people], "age": age[people]})
    logits = rng.normal(0, 1.2, (len(names), 18))
    logits[np.arange(len(names)), label] += 2.5
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(chances, names.index, TASK.columns())
    return table.assign(label=label, person=names.to_numpy(), fold=people % 5)


def test_the_gain_is_shown_for_clear_looks_and_not_for_noise():
    method = nested.Method("soft", "argmax")
    effects = {}
    for noise in (0.2, 30.0):
        looks, _, known = looks_of(noise, count=80, tests=0)
        oof = {"run": predictions(known)}
        step = Between(weights=same_person.grouped(looks, known).weights)
        tables = [nested.estimate(oof, TASK, [method], (), s)[method] for s in (Between(), step)]
        effects[noise] = nested.effect(*tables, TASK)
    assert effects[0.2].low > 0.03
    assert "recommended" in effects[0.2].advice("group_test", "'none'", "'appearance'")
    assert effects[30.0].gain > -0.03  # little is clustered, and little is believed
    assert "'none' is recommended" in effects[30.0].advice("group_test", "'none'", "'appearance'")


def test_people_of_other_folds_can_be_confused_in_the_estimate():
    names = pd.Series(np.repeat([f"{k:02d}" for k in range(20)], 2))
    names.index = pd.Index([f"k{k}" for k in range(40)], name="key")
    oof = predictions(names)
    matrix = np.eye(40)
    matrix[0, [0, 2]] = 0.5  # person 00, fold 0, and person 01, fold 1
    step = Between(weights=Weights(oof.index, csr_array(matrix)))
    method = nested.Method("stacked", "argmax")
    plain, mixed = (
        nested.estimate({"run": oof}, TASK, [method], (), s)[method] for s in (Between(), step)
    )
    columns = TASK.columns(LABEL)
    assert np.isfinite(mixed[columns]).to_numpy().all()
    changed = (plain[columns] - mixed[columns]).abs().max(axis=1) > 1e-9
    assert changed.index[changed].tolist() == ["k0"]
    assert metrics.score(mixed, TASK) == metrics.score(mixed.loc[oof.index], TASK)
