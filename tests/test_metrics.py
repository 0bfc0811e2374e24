import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, classification_report, f1_score

from lib.errors import DataError
from lib.score import metrics
from lib.task.labels import ATTRIBUTE_PROBABILITIES, PROBABILITIES, decode


@pytest.fixture
def oof():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.dirichlet(np.full(18, 0.2), 300), columns=list(PROBABILITIES)).rename_axis("key")
    label = np.where(rng.random(300) < 0.5, table.to_numpy().argmax(axis=1), rng.integers(0, 18, 300))
    return table.assign(fold=rng.integers(0, 3, 300), label=pd.array(label, dtype="Int64"), person="someone")


def test_macro_f1_averages_over_the_classes_seen_as_scikit_learn_does():
    labels, predictions = [0, 0, 4, 4, 4], [0, 5, 4, 4, 0]
    assert metrics.macro_f1(labels, predictions) == pytest.approx(np.mean([0.5, 0.8, 0.0]))  # of classes 0, 4 and 5
    assert metrics.macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_macro_f1_of_a_perfect_small_fold_is_one():
    assert metrics.macro_f1([3, 3, 7], [3, 3, 7]) == 1


@pytest.mark.parametrize(("labels", "predictions"), [([18], [0]), ([0], [-1])])
def test_macro_f1_refuses_classes_out_of_range(labels, predictions):
    with pytest.raises(DataError, match=r"outside 0\.\.17"):
        metrics.macro_f1(labels, predictions)


def test_scores_match_scikit_learn(oof):
    scores, label, guess = metrics.scores(oof), oof["label"].to_numpy(int), oof[list(PROBABILITIES)].to_numpy().argmax(axis=1)
    assert scores["macro_f1"] == pytest.approx(f1_score(label, guess, average="macro"))
    assert scores["accuracy"] == pytest.approx(accuracy_score(label, guess))
    for attribute, true, found in zip(("mask", "gender", "age"), decode(label), decode(guess), strict=True):
        assert scores[attribute] == pytest.approx(f1_score(true, found, average="macro"))
    report = classification_report(label, guess, output_dict=True, zero_division=0)
    for k, row in enumerate(scores["classes"].values()):
        assert (row["f1"], row["photos"]) == (pytest.approx(report[str(k)]["f1-score"]), report[str(k)]["support"])
        assert row["predicted"] == (guess == k).sum()


def test_scores_are_json_with_none_for_an_absent_class(oof):
    few = oof[oof["label"] == 0].assign(**dict.fromkeys(PROBABILITIES, 0.0)).assign(p00=1.0)
    scores = json.loads(json.dumps(metrics.scores(few), allow_nan=False))
    assert scores["macro_f1"] == 1
    assert scores["classes"]["normal female >=60"] == {"photos": 0, "predicted": 0, "f1": None}


def test_single_task_table_is_scored_on_its_attribute(oof):
    age = decode(oof["label"].to_numpy(int))[2]
    table = pd.DataFrame(np.eye(3)[age], oof.index, list(ATTRIBUTE_PROBABILITIES["age"])).join(oof[["fold", "label"]])
    assert metrics.summary(table) == {"macro_f1": 1, "accuracy": 1, "age": 1}
    assert list(metrics.by_class(table)["photos"]) == list(np.bincount(age))


def test_by_fold_scores_each_fold_apart(oof):
    folds = metrics.by_fold(oof)
    assert list(folds.index) == [0, 1, 2]
    assert folds["photos"].sum() == len(oof)
    assert folds.loc[1, "macro_f1"] == pytest.approx(metrics.summary(oof[oof["fold"] == 1])["macro_f1"])


def test_tables_that_cannot_be_scored_are_refused(oof):
    with pytest.raises(DataError, match="label in every row"):
        metrics.summary(oof.drop(columns="label"))
    with pytest.raises(DataError, match="columns of one task"):
        metrics.summary(oof.drop(columns="p17"))
    with pytest.raises(DataError, match="same seed"):
        metrics.by_fold(oof.drop(columns="fold"))
