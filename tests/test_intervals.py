"""Intervals by a bootstrap over people: equal to scikit-learn's metrics, and covering the truth."""

import numpy as np
import pandas as pd
import pytest
from conftest import TASK
from sklearn.metrics import f1_score

from lib.errors import DataError, ParameterError
from lib.score import intervals, metrics
from lib.task.attributes import LABEL

PHOTOS = 7


def simulated(people: int, seed: int) -> pd.DataFrame:
    """Return an out-of-fold table whose errors are shared by the photos of a person."""
    rng = np.random.default_rng(seed)
    classes = len(TASK.columns(LABEL))
    photo_class = np.tile([0, 0, 0, 0, 0, 1, 2], people)
    gender = np.arange(people) % 2
    group = np.searchsorted([0.5, 0.9], np.arange(people) // 2 % 10 / 10, side="right")
    label = photo_class * 6 + np.repeat(gender * 3 + group, PHOTOS)
    guessed_group = np.where(rng.random(people) < 0.75, group, rng.integers(0, 3, people))
    guess = photo_class * 6 + np.repeat(gender * 3 + guessed_group, PHOTOS)
    slip = rng.random(len(guess)) < 0.1
    guess = np.where(slip, rng.integers(0, classes, len(guess)), guess)
    shares = np.full((len(guess), classes), 0.5 / classes) + 0.5 * np.eye(classes)[guess]
    table = pd.DataFrame(shares, [f"k{n}" for n in range(len(guess))], TASK.columns(LABEL))
    persons = np.repeat([f"p{n:05d}" for n in range(people)], PHOTOS)
    return table.assign(fold=0, label=label, person=persons)


@pytest.mark.parametrize("name", [LABEL, *TASK.names])
@pytest.mark.parametrize("metric", intervals.METRICS)
def test_sums_by_person_give_the_metrics_of_scikit_learn(name, metric):
    oof = simulated(60, 0)
    counted = intervals.by_person(oof, TASK, name)
    once = counted.drawn(np.ones((1, 60)))
    expected = metrics._by_name(oof, TASK, metric, [name])[name]
    assert getattr(once, metric)()[0] == pytest.approx(expected, abs=1e-6)


def test_a_draw_scores_as_the_table_of_the_people_drawn():
    oof = simulated(40, 1)
    weights = intervals.resample(intervals.strata(oof, TASK), draws=3, seed=5)
    found = intervals.by_person(oof, TASK, LABEL).drawn(weights).macro_f1()
    people = dict(list(oof.groupby("person")))
    for draw, score in zip(weights.astype(int), found, strict=True):
        drawn = pd.concat([people[p] for p, n in zip(people, draw, strict=True) for _ in range(n)])
        guess = drawn[TASK.columns(LABEL)].to_numpy().argmax(axis=1)
        expected = f1_score(
            drawn["label"], guess, labels=range(18), average="macro", zero_division=np.nan
        )
        assert score == pytest.approx(expected)


def test_the_limits_of_a_table_are_those_of_its_score_and_of_nobody_none():
    oof = simulated(20, 2)
    drawn = intervals.samples({"run": oof}, TASK)["run"]
    expected = dict(zip(["low", "high"], np.percentile(drawn, [2.5, 97.5]), strict=True))
    assert intervals.limits(oof, TASK) == pytest.approx(expected)
    assert np.isnan(list(intervals.limits(oof[:0], TASK).values())).all()


def test_every_draw_keeps_the_size_of_each_stratum():
    strata = np.array([0, 0, 0, 1, 1, 2])
    weights = intervals.resample(strata, draws=50)
    for stratum, size in enumerate([3, 2, 1]):
        assert (weights[:, strata == stratum].sum(axis=1) == size).all()
    assert (weights.std(axis=0)[:5] > 0).all()


def test_strata_are_the_classes_recorded_per_person():
    oof = simulated(80, 2)
    people = oof.groupby("person")["label"].first()
    expected = people.to_numpy() % 6  # gender and age group of the competition's label
    assert (intervals.strata(oof, TASK) == expected).all()


def test_intervals_cover_the_score_of_the_population():
    truth = metrics.score(simulated(100_000, 99), TASK)
    hits = 0
    for seed in range(200):
        oof = simulated(120, seed)
        drawn = intervals.samples({"run": oof}, TASK, draws=300, seed=seed)
        low, high = intervals.interval(drawn).loc["run"]
        hits += low <= truth <= high
    assert 180 <= hits <= 198  # 90 to 99 %


def test_two_runs_are_compared_on_the_same_draws():
    oof = simulated(100, 3)
    drawn = intervals.samples({"one": oof, "same": oof}, TASK)
    assert (drawn["one"] == drawn["same"]).all()
    assert len(drawn) == intervals.DRAWS


def test_classes_have_intervals_around_their_f1():
    oof = simulated(100, 4)
    found = intervals.by_class(oof, TASK, "gender")
    expected = metrics.by_class(oof, TASK, "gender")["f1"]
    assert found["f1"].tolist() == pytest.approx(expected.tolist())
    assert (found["low"] <= found["f1"]).all()
    assert (found["f1"] <= found["high"]).all()


def test_tables_of_other_people_and_unknown_metrics_are_refused():
    one, other = simulated(20, 5), simulated(21, 5)
    with pytest.raises(DataError, match="other and one have different people"):
        intervals.samples({"one": one, "other": other}, TASK)
    with pytest.raises(ParameterError, match="macro_f1"):
        intervals.samples({"one": one}, TASK, metric="macrof1")
    with pytest.raises(DataError, match="validated"):
        intervals.samples({"one": one[:0]}, TASK)
