import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score

from lib import artefacts
from lib.errors import ArtefactError
from lib.score import predict, runs
from lib.task import labels

PARAMS = {"experiment": "first", "seed": 0, "epochs": 3, "folds": [], "workers": 0, "pseudo_labels": "", "init_from": ""}


@pytest.fixture
def run(tmp_path):
    return runs.start(str(tmp_path), PARAMS)


def write(run, fold, people=2):
    """Write a fold's tables: people named after it, seven photos each, predictions half right."""
    rng = np.random.default_rng(fold)
    persons = [f"f{fold}p{k}" for k in range(people) for _ in range(7)]
    keys = pd.Index([f"{person}/{k % 7}" for k, person in enumerate(persons)], name="key")
    table = pd.DataFrame(rng.dirichlet(np.ones(18), len(keys)), keys, list(labels.PROBABILITIES))
    label = np.where(rng.random(len(keys)) < 0.5, table.to_numpy().argmax(1), rng.integers(0, 18, len(keys)))
    oof = table.assign(fold=fold, label=label, person=persons)
    test = table.iloc[:3].set_axis(pd.Index(["a", "b", "c"], name="key")).assign(fold=fold)
    (run.fold(fold) / "last.pt").parent.mkdir(exist_ok=True)
    (run.fold(fold) / "last.pt").touch()
    predict.write_fold(oof, test, run.fold(fold))
    return oof


def test_a_run_writes_its_parameters_and_opens_again_with_the_same(run, tmp_path):
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == PARAMS
    assert runs.start(str(tmp_path), PARAMS | {"folds": [1], "workers": 2}).folder == run.folder


@pytest.mark.parametrize(
    ("changes", "said"), [({"seed": 1}, "seed was 0, is 1"), ({"new": "x"}, "new was None, is 'x'")], ids=["changed", "added"]
)
def test_a_taken_name_is_refused_naming_what_differs(run, tmp_path, changes, said):
    write(run, 0)
    (run.fold(0) / "best.pt").touch()
    with pytest.raises(ArtefactError, match=said) as caught:
        runs.start(str(tmp_path), PARAMS | changes)
    assert "epochs" not in str(caught.value)
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == PARAMS


def test_a_name_under_which_nothing_was_trained_is_free(run, tmp_path):
    (run.folder / "precision.csv").write_text("precision,chosen\nfp32,True\n")
    runs.start(str(tmp_path), PARAMS | {"seed": 1})
    assert yaml.safe_load((run.folder / "params.yaml").read_text())["seed"] == 1
    assert not (run.folder / "precision.csv").exists()


def test_what_is_left_to_train(run):
    write(run, 1)
    (run.fold(2)).mkdir()
    (run.fold(2) / "oof.parquet").touch()  # killed before its last table
    assert run.unfinished([0, 1, 2]) == [0, 2]
    assert run.folds == [1]
    assert not (run.fold(1) / "last.pt").exists()


def test_nothing_is_scored_before_every_fold_is_there(run, tmp_path):
    write(run, 0)
    assert runs.finish(run, [0, 1]) == {}
    assert "still to be trained" in runs.score_table({}).iloc[0, 0]
    with pytest.raises(ArtefactError, match="not finished"):
        runs.load(str(tmp_path), "first")


def test_a_finished_run_is_scored_on_all_folds_together(run, tmp_path):
    oof = pd.concat([write(run, fold) for fold in (0, 1)])
    scores = runs.finish(run, [0, 1])
    guess = oof[list(labels.PROBABILITIES)].to_numpy().argmax(1)
    seen = np.union1d(guess, oof["label"])
    assert scores["oof_macro_f1"] == pytest.approx(f1_score(oof["label"], guess, labels=seen, average="macro"))
    assert scores["people"] == 4
    assert [row["fold"] for row in scores["folds"]] == [0, 1]
    loaded = runs.load(str(tmp_path), "first")
    assert loaded.metrics()["oof_macro_f1"] == scores["oof_macro_f1"]
    assert len(loaded.oof()) == 28
    assert loaded.test().groupby("key")["fold"].apply(sorted).tolist() == [[0, 1]] * 3
    table = runs.score_table(scores)
    assert list(table.index) == [0, 1, "out-of-fold"]
    assert table.loc["out-of-fold", "macro_f1"] == scores["oof_macro_f1"]


def test_a_run_that_is_not_there_names_those_that_are(run, tmp_path):
    write(run, 0)
    runs.finish(run, [0])
    with pytest.raises(ArtefactError, match=r"did you mean 'first'.*finished: first"):
        runs.load(str(tmp_path), "frist")


def test_weights_go_on_in_their_own_folds_alone(run, tmp_path):
    assigned = pd.concat([write(run, fold) for fold in (0, 1)]).groupby("person")["fold"].first()
    runs.finish(run, [0, 1])
    start = runs.starting_weights
    assert start(str(tmp_path), "", assigned) is None
    assert start(str(tmp_path), "first", assigned).folder == run.folder
    assert start(str(tmp_path), "first", assigned.drop("f0p0")).name == "first"
    with pytest.raises(ArtefactError, match=r"4 people moved, 0 new here.*same data, seed, split and fold_count"):
        start(str(tmp_path), "first", 1 - assigned)
    with pytest.raises(ArtefactError, match="0 people moved, 1 new here"):
        start(str(tmp_path), "first", pd.concat([assigned, pd.Series({"stranger": 0})]))
    everyone_trained = pd.concat([assigned, pd.Series({"stranger": -1})])
    assert start(str(tmp_path), "first", everyone_trained).name == "first"


def test_test_photos_used_once_stay_known(run, tmp_path):
    assert not runs.uses_test_photos(str(tmp_path), PARAMS)
    assert runs.uses_test_photos(str(tmp_path), PARAMS | {"pseudo_labels": "best"})
    artefacts.write_json({"test_photos_used": True}, run.folder / "metrics.json")
    assert runs.uses_test_photos(str(tmp_path), PARAMS | {"experiment": "second", "init_from": "first"})
