"""Sweeps: what a space may hold, how workers share a study, what is chosen and how sure it is."""

import json
import signal
import subprocess
import sys
import threading
import time

import matplotlib
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from conftest import PARAMS, TASK
from optuna.trial import TrialState
from sweep_worker import pretended

from lib import PROJECT
from lib.errors import ArtefactError, ParameterError
from lib.plots import sweep as figures
from lib.runner import space, sweep, trial
from lib.runner.stages import plan, read_layer
from lib.score import choice, metrics, runs
from lib.workers import one_process

matplotlib.use("Agg")

# Space

SEARCH = {
    "learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
    "sampler": ["plain", "weighted"],
}


def written(folder, search, **others):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"search": search, **others}))
    return path


@pytest.mark.parametrize("path", sorted(PROJECT.glob("params/sweeps/*.yaml")), ids=lambda p: p.stem)
def test_shipped_spaces_fit_notebook_03(path):
    assert space.read(path).searched
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"learning_rat": [0.1, 0.2]}, "no parameter of notebook 03.*did you mean 'learning_rate'"),
        ({"sampler": ["weighted", "plian"]}, "'plian' is not one of.*did you mean 'plain'"),
        ({"epochs": [5, "many"]}, "'many' is text"),
        ({"epochs": {"low": 1, "high": 5.5}}, "5.5 is a number"),
        ({"sampler": {"low": 1, "high": 5}}, "anything else a list"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, "low.*high"),
        ({"dropout": {"low": 0.0, "hihg": 0.1}}, "did you mean 'high'"),
        ({"image_size": [112, 112]}, "brackets of its own"),
        ({"fold_count": [3, 5]}, "decides what is compared"),
        ({"epochs": {"low": 6, "high": 9}}, "the default 5 is not among the values"),
        ({"cuts": [{}, {"no_attribute": [30]}]}, "no_attribute"),
        ({}, "search is missing"),
    ],
)
def test_a_wrong_space_is_refused_with_its_fix(tmp_path, search, told):
    with pytest.raises(ParameterError, match=told):
        space.read(written(tmp_path, search))


def test_all_faults_of_a_space_are_told_at_once(tmp_path):
    with pytest.raises(ParameterError, match=r"(?s)2 faults.*epochs.*sampler"):
        space.read(written(tmp_path, {"sampler": ["x", "plain"], "epochs": [1, 2]}))


def test_lists_and_mappings_are_choices_and_come_back_whole(tmp_path):
    search = {"image_size": [[112, 112], [64, 64]], "loss": [{"ce": 1.0}, {"ce": 1.0, "f1": 0.5}]}
    found = space.read(written(tmp_path, search, fixed={"epochs": 2}))
    trial = optuna.create_study().ask(found.distributions())
    parameters = found.parameters(trial.params)
    assert parameters["epochs"] == 2
    assert parameters["image_size"] in search["image_size"]
    assert parameters["loss"] in search["loss"]
    assert found.parameters(found.default) == {**found.base, "image_size": [112, 112],
                                               "loss": {"ce": 1.0}}  # fmt: skip


def test_a_base_without_other_folds_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="split='holdout'.*kfold"):
        space.read(written(tmp_path, SEARCH, fixed={"split": "holdout"}))


# Workers


def start_worker(runs_dir, path, trials, seconds):
    arguments = [str(runs_dir), str(path), str(trials), str(seconds)]
    command = [sys.executable, str(PROJECT / "tests/sweep_worker.py"), *arguments]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def started(made):
    """Return how many times each trial's training was started."""
    return {
        trial.number: len((made.run_folder(trial.number) / "started").read_text())
        for trial in sweep.begun(made)
    }


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return a new sweep over the learning rate, whose trainings take no time."""
    monkeypatch.setattr(sweep, "_training", pretended(0))
    monkeypatch.setattr(sweep, "POLL", 0.05)
    return sweep.open_sweep("s", str(tmp_path), space.read(written(tmp_path, SEARCH)))


def reopened(made):
    return sweep.open_sweep(made.name, made.runs_dir, made.space)


def test_two_workers_share_a_study_no_trial_is_run_twice_and_none_is_lost(tmp_path, made):
    workers = [start_worker(tmp_path, tmp_path / "space.yaml", 8, 0.02) for _ in range(2)]
    assert [process.wait(60) for process in workers] == [0, 0]
    assert started(made) == dict.fromkeys(range(8), 1)
    assert {each.state for each in sweep.begun(made)} <= {
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}  # fmt: skip
    assert json.dumps(made.space.default) == json.dumps(sweep.begun(made)[0].params)


def test_the_trial_of_a_killed_worker_is_continued_by_the_next(tmp_path, made):
    process = start_worker(tmp_path, tmp_path / "space.yaml", 2, 0.3)
    while len(sweep.history(made, 0)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert sweep.running(made) == [0]
    sweep.search(made, 2)
    assert sweep.begun(made)[0].state == TrialState.COMPLETE
    assert started(made) == {0: 2, 1: 1}
    assert sweep.begun(made)[0].intermediate_values == pytest.approx(
        {epoch: 0.01 * epoch / 4 for epoch in range(1, 5)}
    )


def test_a_trial_that_another_worker_has_is_left_alone(made):
    first = sweep.claim(made)
    second = sweep.claim(reopened(made))
    assert (first.trial.number, second.trial.number) == (0, 1)
    first.lock.release()
    assert sweep.claim(reopened(made)).trial.number == 0


def test_a_training_waits_for_the_one_that_a_killed_worker_left(tmp_path, monkeypatch):
    monkeypatch.setattr(trial.chain, "main", lambda argv: 0)
    waiting = threading.Thread(target=trial.main, args=([str(tmp_path / "s-000.yaml")],))
    with one_process(tmp_path / "s-000.yaml"):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_bad_trial_is_pruned_and_a_failed_one_stops_nothing(made, monkeypatch):
    rates = [0.001, 0.05, 0.06, 0.07, 0.08, 0.0001, 0.002, 0.09]
    for rate in rates[1:]:
        made.study.enqueue_trial({"learning_rate": rate, "sampler": "plain"})
    monkeypatch.setattr(sweep, "_training", pretended(0.1))
    sweep.search(made, len(rates))
    table = sweep.table(made)
    assert table["learning_rate"].tolist() == rates
    assert table["state"].tolist()[-2:] == ["pruned", "complete"]
    assert table["state"][5] in ("pruned", "fail")
    assert sweep.finalists(made, 2) == [0, 7, 4]
    assert (table["score"][7], table["epochs"][7]) == (pytest.approx(0.9), 4)


def test_failed_trials_count_and_are_told(tmp_path, made):
    made.space.default["learning_rate"] = 0.0001
    other = sweep.open_sweep("failing", str(tmp_path), made.space)
    sweep.search(other, 1)
    assert sweep.table(other)["state"].tolist() == ["fail"]
    with pytest.raises(ArtefactError, match=r"no trial.*failing-000\.log"):
        sweep.finalists(other, 1)


def test_known_parameters_are_not_run_again_and_an_exhausted_space_ends(tmp_path, made):
    path = written(tmp_path, {"sampler": ["plain", "weighted"], "learning_rate": [0.001, 0.05]})
    small = sweep.open_sweep("small", str(tmp_path), space.read(path))
    sweep.search(small, 100)
    assert len(sweep.begun(small)) == 4
    assert started(small) == dict.fromkeys((t.number for t in sweep.begun(small)), 1)


def test_hours_end_a_search_and_no_limit_is_refused(made):
    sweep.search(made, hours=1e-9)
    assert len(sweep.begun(made)) <= 1
    with pytest.raises(ParameterError, match="would never end"):
        sweep.search(made)


def test_a_study_belongs_to_one_base_and_space(tmp_path, made):
    other = space.read(written(tmp_path, SEARCH, fixed={"epochs": 2}))
    with pytest.raises(ArtefactError, match="another base"):
        sweep.open_sweep("s", str(tmp_path), other)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/params.yaml").write_text("")
    with pytest.raises(ArtefactError, match="is a run"):
        sweep.open_sweep("taken", str(tmp_path), other)


# Figures


def test_figures_say_what_they_show(made):
    made.space.default["sampler"] = "weighted"
    rates = [0.02, 0.03, 0.04, 0.05]
    for rate in rates:
        made.study.enqueue_trial({"learning_rate": rate, "sampler": "plain"})
    assert figures.importance(made.study) is None
    sweep.search(made, 5)
    table = sweep.table(made)
    assert figures.history(table, "macro_f1").axes[0].get_title().startswith("Trials: ")
    importance = figures.importance(made.study).axes[0]
    assert "matters most, judging by" in importance.get_title()
    assert sum(bar.get_width() for bar in importance.patches) == pytest.approx(1)
    assert [a.get_xlabel() for a in figures.slices(table, made.study, "macro_f1").axes] == [
        "learning_rate",
        "sampler",
    ]
    lines = figures.parallel(table, made.study, "macro_f1").axes[0].lines
    assert len(lines) == (table["state"] == "complete").sum()


# The choice: simulated out-of-fold tables, whose truth is known


def table_of(rng, right, people=60, photos=3, folds=3):
    """Return an out-of-fold table: each photo's label is right with a probability."""
    label = np.tile(np.arange(6), people * photos // 6)
    classes = TASK.columns("label")
    guess = np.where(rng.random(len(label)) < right, label, rng.integers(0, 6, len(label)))
    person = np.repeat(np.arange(people), photos)
    frame = pd.DataFrame(np.eye(len(classes))[guess], columns=classes)
    return frame.assign(label=label, person=person.astype(str), fold=person % folds)


def test_the_choice_among_equals_gains_nothing_where_the_best_score_seems_to():
    rng = np.random.default_rng(0)
    nested, naive = [], []
    for _ in range(30):
        tables = {f"run{k}": table_of(rng, 0.5) for k in range(4)}
        nested.append(choice.gain(tables, TASK, "run0", 0).difference)
        scores = [metrics.score(table, TASK) for table in tables.values()]
        naive.append(max(scores) - scores[0])
    error = np.std(nested) / np.sqrt(len(nested))
    assert abs(np.mean(nested)) < 3 * error
    assert np.mean(naive) > 5 * error


def test_a_run_that_is_better_is_chosen_and_shown_to_be():
    rng = np.random.default_rng(0)
    tables = {"default": table_of(rng, 0.4), "bad": table_of(rng, 0.3), "good": table_of(rng, 0.8)}
    gain = choice.gain(tables, TASK, "default", 0)
    assert gain.chosen == {1: "good", 2: "good"}
    unseen = {name: table[table["fold"] > 0] for name, table in tables.items()}
    scores = {name: metrics.score(table, TASK) for name, table in unseen.items()}
    assert gain.difference == pytest.approx(scores["good"] - scores["default"])
    assert 0 < gain.low < gain.difference < gain.high
    reach = f"95 % {gain.low:.3f} to {gain.high:.3f}: shown."
    assert gain.verdict().endswith(f"{gain.difference:.3f} better than the default, {reach}")


def test_people_of_a_fold_have_no_say_in_the_run_that_scores_them():
    tables = {"default": table_of(np.random.default_rng(0), 0.5)}
    tables["cheat"] = table_of(np.random.default_rng(1), 0.1)
    label = tables["cheat"]["label"].to_numpy()
    rows = (tables["cheat"]["fold"] == 2).to_numpy()
    columns = TASK.columns("label")
    tables["cheat"].loc[rows, columns] = np.eye(len(columns))[label[rows]]  # right in fold 2 only
    assert choice.gain(tables, TASK, "default", 0).chosen[2] == "default"


# The notebook, on real trainings of the smallest size


def test_notebook_07_leaves_ordinary_runs_and_a_parameter_file(tiny_work, tmp_path, cells):
    base = {
        "work_dir": str(tiny_work), "backbone": ["test_efficientnet"], "pretrained": False,
        "image_size": [32, 32], "relabel": [], "augment": ["none"], "fold_count": 2, "epochs": 2,
        "batch_size": 16, "max_batches": 2, "precision": "fp32", "sampler": "plain",
    }  # fmt: skip
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    shown = cells(
        "07_sweep", study="s", trials=1, base=[str(tmp_path / "base.yaml")],
        space=str(written(tmp_path, SEARCH)), runs_dir=str(tmp_path), params_dir=str(tmp_path),
    )  # fmt: skip
    best = tmp_path / "best-s.yaml"
    assert best.read_text().startswith("# The best of the sweep s")
    assert shown["gain"].verdict() in best.read_text()
    values = plan([read_layer(best)], ["train"])[0].values
    run = runs.load(str(tmp_path), values["experiment"])  # trained on all folds
    assert run.folds == [0, 1]
    assert {name: run.params[name] for name in PARAMS if name in values} == values
    assert runs.load(str(tmp_path), "s-000").params["learning_rate"] == PARAMS["learning_rate"]
    assert (tmp_path / "s-000/03_train.html").exists()
