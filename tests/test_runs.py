import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TASK
from sklearn.metrics import f1_score, log_loss

from lib import artefacts
from lib.errors import ArtefactError
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of
from lib.score import intervals, runs
from lib.task import attributes

COLUMNS = TASK.columns()
PARAMS = {
    "task": "mask",
    "learn": [],
    "experiment": "first",
    "seed": 0,
    "epochs": 3,
    "folds": [],
    "workers": 0,
    "pseudo_labels": "",
    "pseudo_data": "",
    "init_from": "",
}


@pytest.fixture
def run(tmp_path):
    return runs.start(str(tmp_path), PARAMS, TASK)


def write(run, fold, people=2):
    """Write a fold's tables: people named after it, seven photos each, predictions half right."""
    rng = np.random.default_rng(fold)
    persons = [f"f{fold}p{k}" for k in range(people) for _ in range(7)]
    keys = pd.Index([f"{person}/{k % 7}" for k, person in enumerate(persons)], name="key")
    table = pd.DataFrame(rng.dirichlet(np.ones(18), len(keys)), keys, COLUMNS)
    label = np.where(
        rng.random(len(keys)) < 0.5, table.to_numpy().argmax(1), rng.integers(0, 18, len(keys))
    )
    oof = table.assign(fold=fold, label=label, person=persons)
    test = table.iloc[:3].set_axis(pd.Index(["a", "b", "c"], name="key"))
    (run.fold(fold) / "last.pt").parent.mkdir(exist_ok=True)
    (run.fold(fold) / "last.pt").touch()
    run.write_fold(fold, oof, test)
    return oof


def test_a_run_writes_its_parameters_and_opens_again_with_the_same(run, tmp_path):
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == PARAMS
    assert (
        runs.start(str(tmp_path), PARAMS | {"folds": [1], "workers": 2}, TASK).folder == run.folder
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seed": 1}, "seed was 0, is 1"), ({"new": "x"}, "new was None, is 'x'")],
    ids=["changed", "added"],
)
def test_a_taken_name_is_refused_naming_what_differs(run, tmp_path, changes, said):
    write(run, 0)
    (run.fold(0) / "best.pt").touch()
    with pytest.raises(ArtefactError, match=said) as caught:
        runs.start(str(tmp_path), PARAMS | changes, TASK)
    assert "epochs" not in str(caught.value)
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == PARAMS


def test_a_name_under_which_nothing_was_trained_is_free(run, tmp_path):
    (run.folder / "precision.csv").write_text("precision,chosen\nfp32,True\n")
    runs.start(str(tmp_path), PARAMS | {"seed": 1}, TASK)
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
    guess = oof[COLUMNS].to_numpy().argmax(1)
    seen = np.union1d(guess, oof["label"])
    assert scores["oof_score"] == pytest.approx(
        f1_score(oof["label"], guess, labels=seen, average="macro")
    )
    assert scores["people"] == 4
    assert [row["fold"] for row in scores["folds"]] == [0, 1]
    loaded = runs.load(str(tmp_path), "first")
    assert loaded.metrics()["oof_score"] == scores["oof_score"]
    assert len(loaded.oof()) == 28
    assert loaded.test().groupby("key")["fold"].apply(sorted).tolist() == [[0, 1]] * 3
    table = runs.score_table(scores)
    assert list(table.index) == [0, 1, "out-of-fold"]
    assert table.loc["out-of-fold", "macro_f1"] == scores["oof_score"]
    parts = [*(part for _, part in oof.groupby("fold")), oof]
    for (_, row), part in zip(table.iterrows(), parts, strict=True):
        drawn = intervals.interval(intervals.samples({"run": part}, TASK))
        assert row[["low", "high"]].tolist() == drawn.loc["run"].tolist()


def test_the_nested_score_is_the_mean_at_the_epochs_that_other_folds_choose(run):
    for fold, scores in enumerate([[0.5, 0.9, 0.6], [0.4, 0.5, 0.8], [0.3, 0.6, 0.7]]):
        write(run, fold)
        history = pd.DataFrame({"epoch": [1, 2, 3], "score": scores})
        artefacts.write_table(history, run.fold(fold) / "history.csv")
    assert runs.finish(run, [0, 1, 2])["nested_epoch_score"] == pytest.approx((0.6 + 0.5 + 0.6) / 3)
    for fold in (1, 2):
        (run.fold(fold) / "history.csv").unlink()
    assert runs.finish(run, [0, 1, 2])["nested_epoch_score"] is None


def test_a_damaged_table_of_a_run_is_refused_with_what_to_do(run, tmp_path):
    write(run, 0)
    runs.finish(run, [0])
    (run.folder / "oof.parquet").write_text("cut short")
    with pytest.raises(ArtefactError, match=r"oof\.parquet cannot be read.*folds are kept"):
        runs.load(str(tmp_path), run.name).oof()
    runs.finish(run, [0])
    assert len(run.oof()) == len(run.fold_table(0, "oof"))
    (run.fold(0) / "test.parquet").write_text("cut short")
    with pytest.raises(ArtefactError, match="delete the fold's folder"):
        runs.finish(run, [0])


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
    with pytest.raises(
        ArtefactError, match=r"4 people moved, 0 new here.*same data, seed, split and fold_count"
    ):
        start(str(tmp_path), "first", 1 - assigned)
    with pytest.raises(ArtefactError, match="0 people moved, 1 new here"):
        start(str(tmp_path), "first", pd.concat([assigned, pd.Series({"stranger": 0})]))
    everyone_trained = pd.concat([assigned, pd.Series({"stranger": -1})])
    assert start(str(tmp_path), "first", everyone_trained).name == "first"


def test_test_photos_used_once_stay_known(run, tmp_path):
    assert not runs.uses_test_photos(str(tmp_path), PARAMS)
    assert runs.uses_test_photos(str(tmp_path), PARAMS | {"pseudo_labels": "best"})
    artefacts.write_json({"test_photos_used": True}, run.folder / "metrics.json")
    assert runs.uses_test_photos(
        str(tmp_path), PARAMS | {"experiment": "second", "init_from": "first"}
    )


@pytest.mark.parametrize("used", [True, False])
def test_other_photos_are_no_test_photos_unless_their_labels_come_from_such(tmp_path, used):
    artefacts.write_json({"test_photos_used": used}, tmp_path / "more.json")
    other = {"pseudo_labels": "more", "pseudo_data": "x", "submissions_dir": str(tmp_path)}
    assert runs.uses_test_photos(str(tmp_path), PARAMS | other) is used


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """The folder of task files, a copy that a test may edit."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "mask.yaml").write_text((attributes.TASKS / "mask.yaml").read_text())
    monkeypatch.setattr(attributes, "TASKS", folder)
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cuts: [30, 60]", "cuts: [30, 59]"),
        ("label: [mask, gender, age]", "label: [gender, mask, age]"),
        ("metric: macro_f1", "metric: accuracy"),
    ],
)
def test_a_run_whose_task_was_edited_is_refused(before, after, tasks, tmp_path):
    run = runs.start(str(tmp_path), PARAMS, attributes.load("mask"))
    write(run, 0)
    (run.fold(0) / "best.pt").touch()
    runs.finish(run, [0])
    path = tasks / "mask.yaml"
    path.write_text(path.read_text().replace(before, after))
    for use in (
        lambda: runs.start(str(tmp_path), PARAMS, attributes.load("mask")),
        lambda: runs.load(str(tmp_path), "first"),
    ):
        with pytest.raises(
            ArtefactError, match=r"another version of task 'mask'.*first/task\.yaml"
        ):
            use()


def test_a_comment_or_another_answer_does_not_change_what_was_learned(tasks, tmp_path):
    run = runs.start(str(tmp_path), PARAMS, attributes.load("mask"))
    write(run, 0)
    runs.finish(run, [0])
    text = (tasks / "mask.yaml").read_text()
    (tasks / "mask.yaml").write_text(
        text.replace("columns: [ImageID, ans]", "columns: [photo, what]")
        + "# as it is wanted now\n"
    )
    assert runs.load(str(tmp_path), "first").task.answer.columns == ("photo", "what")


def test_runs_of_earlier_versions_are_refused_with_what_to_do(run, tmp_path):
    write(run, 0)
    (run.fold(0) / "best.pt").touch()
    runs.finish(run, [0])
    (run.folder / "params.yaml").write_text("experiment: first\ntask: all\nold_from: 60\n")
    for use in (
        lambda: runs.start(str(tmp_path), PARAMS, TASK),
        lambda: runs.load(str(tmp_path), "first"),
    ):
        with pytest.raises(ArtefactError, match="earlier version of facefold.*delete or move"):
            use()


def test_parameters_that_a_run_did_not_know_yet_have_their_defaults(tmp_path):
    defaults = {name: each.default for name, each in declared(notebook_of("train")).items()}
    complete = defaults | {"experiment": "old", "seed": 5}
    assert complete["drop_path"] == 0.0
    old = {name: value for name, value in complete.items() if name not in ("drop_path", "why")}
    run = runs.start(str(tmp_path), old, TASK)
    write(run, 0)
    (run.fold(0) / "best.pt").touch()
    runs.finish(run, [0])
    assert "drop_path" not in yaml.safe_load((run.folder / "params.yaml").read_text())
    assert runs.load(str(tmp_path), "old").params == complete
    with pytest.raises(ArtefactError, match=r"\(drop_path was 0.0, is 0.1\)"):
        runs.start(str(tmp_path), complete | {"drop_path": 0.1}, TASK)
    runs.start(str(tmp_path), complete, TASK)  # the same, so that nothing is refused
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == complete


def test_scores_are_named_by_the_tasks_metric(tmp_path):
    described = {"attributes": {"kind": {"classes": list("abc")}}, "metric": "log_loss"}
    task = attributes.parse(described, "one", "one.yaml")
    run = runs.Run(tmp_path / "one", PARAMS, task)
    chances = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    keys = pd.Index([f"k{k}" for k in range(30)], name="key")
    table = pd.DataFrame(chances, keys, task.columns()).assign(fold=0)
    label = np.random.default_rng(1).integers(0, 3, 30)
    run.write_fold(0, table.assign(label=label, person=keys), table)
    scores = runs.finish(run, [0])
    assert scores["metric"] == "log_loss"
    assert scores["oof_score"] == pytest.approx(-log_loss(label, chances))
    named = ["log_loss", "low", "high", "accuracy", "kind"]
    assert list(runs.score_table(scores).columns) == named
    assert runs.score_table(scores).loc["out-of-fold", "log_loss"] == scores["oof_score"]


def test_truth_is_joined_by_key_not_by_place():
    keys = pd.Index(["a", "b"], name="key")
    photos = pd.DataFrame({"label": [3, 5], "person": ["x", "y"]}, keys)
    table = runs.oof_table(pd.DataFrame({"p00": [0.1, 0.2]}, keys[::-1]), photos, fold=2)
    assert table.loc["a"].to_dict() == {"p00": 0.2, "fold": 2, "label": 3, "person": "x"}


def test_a_star_stands_for_all_finished_runs_that_it_fits(run, tmp_path):
    for name in ("b_1", "b_0", "a_0"):
        other = runs.start(str(tmp_path), {**run.params, "experiment": name}, run.task)
        (other.folder / "metrics.json").write_text("{}")
    runs.start(str(tmp_path), {**run.params, "experiment": "b_2"}, run.task)
    found, task = runs.load_all(str(tmp_path), ["b_1", "b_*"])
    assert (list(found), task) == (["b_1", "b_0"], run.task)
    with pytest.raises(ArtefactError, match=r"no finished run in .* fits 'c\*'"):
        runs.load_all(str(tmp_path), ["c*"])
