import json

import numpy as np
import pandas as pd
import pytest
from conftest import TASK
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    cohen_kappa_score,
    f1_score,
    log_loss,
)

from lib.errors import DataError
from lib.score import metrics
from lib.task.attributes import METRICS, parse

P = TASK.columns()
WIDE = parse(  # too many labels for a table of all: 9 * 8 * 8 = 576
    {
        "attributes": {
            "shape": {"classes": list("abcdefghi")},
            "colour": {"classes": list("abcdefgh")},
            "size": {"classes": list("stuvwxyz")},
        }
    },
    "wide",
    "wide.yaml",
)


def with_metric(metric):
    described = {"attributes": {"kind": {"classes": list("abcdef")}}, "metric": metric}
    return parse(described, "one", "one.yaml")


@pytest.fixture
def oof():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.dirichlet(np.full(18, 0.2), 300), columns=P).rename_axis("key")
    guess, other = table.to_numpy().argmax(axis=1), rng.integers(0, 18, 300)
    label = pd.array(np.where(rng.random(300) < 0.5, guess, other), dtype="Int64")
    return table.assign(fold=rng.integers(0, 3, 300), label=label, person="someone")


def test_every_metric_of_a_task_is_known():
    assert set(metrics.METRICS) == set(METRICS)


def one_hot(guess, classes):
    return np.eye(classes)[guess]


def test_macro_f1_averages_over_the_classes_seen_as_scikit_learn_does():
    true, guess = np.array([0, 0, 4, 4, 4]), np.array([0, 5, 4, 4, 0])
    found = metrics.macro_f1(true, guess, one_hot(guess, 18))
    assert found == pytest.approx(np.mean([0.5, 0.8, 0.0]))  # of classes 0, 4 and 5
    assert found == pytest.approx(f1_score(true, guess, average="macro"))


def test_a_perfect_small_fold_scores_one():
    true = np.array([3, 3, 3])
    for metric in ("macro_f1", "accuracy", "balanced_accuracy", "quadratic_kappa"):
        assert metrics.METRICS[metric](true, true, one_hot(true, 18)) == 1


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("macro_f1", lambda true, guess, chances: f1_score(true, guess, average="macro")),
        ("accuracy", lambda true, guess, chances: accuracy_score(true, guess)),
        ("balanced_accuracy", lambda true, guess, chances: balanced_accuracy_score(true, guess)),
        ("log_loss", lambda true, guess, chances: -log_loss(true, chances)),
        (
            "quadratic_kappa",
            lambda true, guess, chances: cohen_kappa_score(true, guess, weights="quadratic"),
        ),
    ],
)
def test_metrics_are_scikit_learns_and_larger_is_better(metric, expected):
    task, rng = with_metric(metric), np.random.default_rng(1)
    true, chances = rng.integers(0, 6, 200), rng.dirichlet(np.ones(6), 200)
    oof = pd.DataFrame(chances, columns=task.columns()).assign(label=true)
    found = metrics.score(oof, task)
    assert found == pytest.approx(expected(true, chances.argmax(axis=1), chances))
    better = oof.assign(**dict(zip(task.columns(), one_hot(true, 6).T, strict=True)))
    assert metrics.score(better, task) > found
    assert metrics.summary(oof, task)[metric] == metrics.summary(oof, task)["kind"] == found


def test_scores_match_scikit_learn(oof):
    scores, label = metrics.scores(oof, TASK), oof["label"].to_numpy(int)
    guess = oof[P].to_numpy().argmax(axis=1)
    assert scores["macro_f1"] == pytest.approx(f1_score(label, guess, average="macro"))
    assert scores["accuracy"] == pytest.approx(accuracy_score(label, guess))
    for attribute, true in TASK.decode(label).items():
        found = TASK.decode(guess)[attribute]
        assert scores[attribute] == pytest.approx(f1_score(true, found, average="macro"))
    report = classification_report(label, guess, output_dict=True, zero_division=0)
    for k, row in enumerate(scores["classes"]["label"].values()):
        assert row["f1"] == pytest.approx(report[str(k)]["f1-score"])
        assert row["photos"] == report[str(k)]["support"]
        assert row["predicted"] == (guess == k).sum()


def test_scores_are_json_with_none_for_an_absent_class(oof):
    few = oof[oof["label"] == 0].assign(**dict.fromkeys(P, 0.0)).assign(p00=1.0)
    scores = json.loads(json.dumps(metrics.scores(few, TASK), allow_nan=False))
    assert scores["macro_f1"] == 1
    absent = {"photos": 0, "predicted": 0, "f1": None}
    assert scores["classes"]["label"]["normal female >=60"] == absent


def test_a_table_of_one_attribute_is_scored_on_it(oof):
    age = TASK.decode(oof["label"].to_numpy(int))["age"]
    table = pd.DataFrame(one_hot(age, 3), oof.index, TASK.columns("age")).join(oof[["label"]])
    assert metrics.summary(table, TASK) == {"macro_f1": 1, "accuracy": 1, "age": 1}
    assert list(metrics.by_class(table, TASK, "age")["photos"]) == list(np.bincount(age))


def test_the_score_of_several_parts_is_their_mean():
    rng, label = np.random.default_rng(2), np.random.default_rng(3).integers(0, 576, 250)
    chances = {
        name: rng.dirichlet(np.full(len(WIDE.classes(name)), 0.3), 250) for name in WIDE.names
    }
    frames = [pd.DataFrame(chances[name], columns=WIDE.columns(name)) for name in WIDE.names]
    oof = pd.concat(frames, axis=1).assign(label=label)
    true = WIDE.decode(label)
    each = {
        name: f1_score(true[name], chances[name].argmax(axis=1), average="macro")
        for name in WIDE.names
    }
    found = metrics.summary(oof, WIDE)
    assert {name: found[name] for name in WIDE.names} == pytest.approx(each)
    assert (
        found["macro_f1"] == metrics.score(oof, WIDE) == pytest.approx(np.mean(list(each.values())))
    )
    assert list(metrics.scores(oof, WIDE)["classes"]) == WIDE.names


def test_an_attribute_is_read_off_the_predicted_label_not_off_sums():
    chances = np.zeros(18)
    chances[[0, 6, 9]] = 0.4, 0.3, 0.3  # the likeliest label has the less likely class of mask
    table = pd.DataFrame([chances], columns=P)
    assert metrics.predicted(table, TASK).iloc[0].to_dict() == {
        "label": 0, "mask": 0, "gender": 0, "age": 0,
    }  # fmt: skip


def test_by_fold_scores_each_fold_apart(oof):
    folds = metrics.by_fold(oof, TASK)
    assert list(folds.index) == [0, 1, 2]
    assert folds["photos"].sum() == len(oof)
    one = metrics.summary(oof[oof["fold"] == 1], TASK)
    assert folds.loc[1].drop("photos").to_dict() == pytest.approx(one)


def test_a_table_of_nobody_has_no_scores(oof):
    assert np.isnan(list(metrics.summary(oof[:0], TASK).values())).all()
    assert np.isnan(metrics.score(oof[:0], TASK))
    assert metrics.by_fold(oof[:0], TASK).empty


def test_tables_that_cannot_be_scored_are_refused(oof):
    with pytest.raises(DataError, match="label in every row"):
        metrics.summary(oof.drop(columns="label"), TASK)
    with pytest.raises(DataError, match=r"1 labels \(18\) are outside 0\.\.17"):
        metrics.summary(oof.assign(label=18), TASK)
    with pytest.raises(DataError, match="columns of a part of task 'mask'"):
        metrics.summary(oof.drop(columns="p17"), TASK)
    with pytest.raises(DataError, match="same seed"):
        metrics.by_fold(oof.drop(columns="fold"), TASK)
