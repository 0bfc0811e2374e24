"""Trackers: what they get, where it goes, and that none leaves nothing."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.errors import ParameterError
from lib.learn import tracking
from lib.score.runs import NOT_PART_OF_A_RUN

HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "score": [0.25, 0.5, 0.75], "loss": [2.0, 1.0, 0.5]})


@pytest.fixture(autouse=True)
def state():
    """Let accelerate know its process, as the notebook's Accelerator does."""
    PartialState(cpu=True)


def params(tracker):
    return {"tracker": tracker, "experiment": "run", "epochs": 3, "augment": ["flip"], "cuts": {}}


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"images": 0})
    found.Reload()
    return found


def test_tensorboard_gets_each_epoch_of_each_fold_once(tmp_path):
    seen = []
    with tracking.epochs(params("tensorboard"), tmp_path, 1, seen.append) as after_epoch:
        after_epoch(HISTORY[:2])  # a fold that is continued starts with what it knows
        after_epoch(HISTORY)
    scalars = events(tmp_path / "tracking/fold1").Scalars("score")
    assert [(each.step, each.value) for each in scalars] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [len(history) for history in seen] == [2, 3]
    assert "augment: '[''flip'']'" in next(tmp_path.rglob("hparams.yml")).read_text()


def test_tensorboard_gets_scores_and_figures(tmp_path):
    figure, _ = plt.subplots(figsize=(2, 1), dpi=50)
    scores = {"oof_score": 0.5, "metric": "macro_f1", "folds": [], "people": 7}
    tracking.results(params("tensorboard"), tmp_path, scores, {"curves": figure, "confusion": None})
    found = events(tmp_path / "tracking/out-of-fold")
    assert {tag: found.Scalars(tag)[0].value for tag in ("oof_score", "people")} == {
        "oof_score": 0.5, "people": 7}  # fmt: skip
    assert found.Tags()["images"] == ["curves"]
    assert (found.Images("curves")[0].width, found.Images("curves")[0].height) == (100, 50)


def test_none_leaves_nothing_and_an_unfinished_run_has_no_results(tmp_path):
    with tracking.epochs(params("none"), tmp_path, 0, lambda history: None) as after_epoch:
        after_epoch(HISTORY)
    tracking.results(params("none"), tmp_path, {"oof_score": 0.5}, {})
    tracking.results(params("tensorboard"), tmp_path, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_told_with_its_command(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ParameterError, match="tracker='wandb'.*pip install wandb"):
        tracking.check("wandb")
    with pytest.raises(ParameterError, match="did you mean 'mlflow'"):
        tracking.check("mlflo")
    tracking.check("none")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_optional_trackers_write_files_only(tmp_path, name, monkeypatch):
    pytest.importorskip(name, reason=f"{name} is optional and not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with tracking.epochs(params(name), tmp_path, 0, lambda history: None) as after_epoch:
        after_epoch(HISTORY)
    figure, _ = plt.subplots(figsize=(2, 1), dpi=50)
    tracking.results(params(name), tmp_path, {"oof_score": 0.5}, {"curves": figure})
    written = [path.name for path in (tmp_path / "tracking").rglob("*") if path.is_file()]
    kind = {"wandb": ".wandb", "mlflow": ".db"}[name]
    assert [file for file in written if file.endswith(kind)]
    assert [file for file in written if file.startswith("curves") and file.endswith(".png")]


def test_a_tracker_makes_no_other_run():
    assert "tracker" in NOT_PART_OF_A_RUN
