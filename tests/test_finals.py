"""Runs that were trained on everyone vote on test photos, each model counting once."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TASK

from lib import artefacts
from lib.errors import ParameterError
from lib.runner.stages import plan, read_layer
from lib.score import ensemble, runs
from lib.score.between import check_between

TESTS = pd.Index([f"{k:040x}.jpg" for k in range(12)], name="key")
COLUMNS = TASK.columns()


def drawn(seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.dirichlet(np.ones(len(COLUMNS)), len(TESTS)), TESTS, COLUMNS)


def finished(folder, name, people):
    """Return a finished run with one fold and one validated photo of each of so many people."""
    run = runs.start(str(folder), {"task": "mask", "learn": [], "experiment": name}, TASK)
    oof = drawn(0).iloc[:people].assign(fold=0, label=0, person=[f"p{k}" for k in range(people)])
    artefacts.write_table(oof, run.folder / "oof.parquet")
    artefacts.write_table(drawn(1).assign(fold=0), run.fold(0) / "test.parquet")
    artefacts.write_json({"test_photos_used": False}, run.folder / "metrics.json")
    return run


def test_each_model_counts_once():
    voted, tables = drawn(3), {"one": drawn(4), "two": drawn(5)}
    joined = ensemble.with_finals(voted, 3, tables, TASK)
    expected = (3 * voted + tables["one"] + tables["two"]) / 5
    np.testing.assert_allclose(joined[COLUMNS], expected, atol=1e-12)
    assert ensemble.with_finals(voted, 3, {}, TASK) is voted


def test_only_runs_that_validated_nobody_are_final(tmp_path):
    finished(tmp_path, "folds", 6)
    finished(tmp_path, "last", 0)
    assert list(runs.load_finals(str(tmp_path), ["last"], TASK)) == ["last"]
    assert runs.load_finals(str(tmp_path), [], TASK) == {}
    with pytest.raises(ParameterError, match="'folds' has validated people: name it in runs"):
        runs.load_finals(str(tmp_path), ["folds"], TASK)
    with pytest.raises(ParameterError, match="shares of votes"):
        check_between(TASK, "hard", False, "none", ["last"])


def test_a_final_run_that_no_step_makes_is_refused_before_anything_starts(tmp_path):
    path = tmp_path / "mine.yaml"
    stages = ["train", {"train": {"experiment": "last", "split": "none"}}, "ensemble"]
    given = {"stages": stages, "runs_dir": str(tmp_path), "experiment": "folds", "runs": ["folds"]}
    path.write_text(yaml.safe_dump(given | {"finals": ["lost"]}))
    with pytest.raises(ParameterError, match="finals: 'lost' is made by no earlier stage"):
        plan([read_layer(path)])
    path.write_text(yaml.safe_dump(given | {"finals": ["last"]}))
    assert [step.stage for step in plan([read_layer(path)])] == ["train", "train", "ensemble"]
