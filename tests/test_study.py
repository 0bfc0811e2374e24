"""The study: which runs take part, what is joined, and what a difference is."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib import artefacts
from lib.errors import ArtefactError
from lib.plots import study as figures
from lib.score import predict, runs, study

matplotlib.use("Agg")
KEYS = pd.Index([f"photo{k}" for k in range(36)], name="key")
LABEL = np.arange(36) % 18


def write_run(folder, name, learn, right):
    """Write a finished run whose out-of-fold table has the first ``right`` photos right."""
    params = {"experiment": name, "learn": learn, "task": "mask"}
    run = runs.start(str(folder), params, TASK)
    true = TASK.decode(LABEL) | {"label": LABEL}
    tables = []
    for part in TASK.parts(learn):
        wrong = (true[part] + 1) % len(TASK.classes(part))
        guess = np.where(np.arange(36) < right, true[part], wrong)
        tables.append(
            pd.DataFrame(np.eye(len(TASK.classes(part)))[guess], KEYS, TASK.columns(part))
        )
    facts = {"label": LABEL, "fold": np.arange(36) // 18, "person": KEYS}
    artefacts.write_table(pd.concat(tables, axis=1).assign(**facts), run.folder / "oof.parquet")
    artefacts.write_json({}, run.folder / "metrics.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of runs: a baseline, a better variant, and three of one attribute each."""
    monkeypatch.setattr(predict, "viewed", lambda run, split, tta: run.oof())
    for seed in (0, 1):
        write_run(tmp_path, f"baseline_{seed}", [], 18 + 3 * seed)
        write_run(tmp_path, f"better_{seed}", [], 27 + 3 * seed)
        for name in TASK.names:
            write_run(tmp_path, f"{name}_{seed}", [name], 36)
    write_run(tmp_path, "unnumbered", [], 0)
    return tmp_path


def test_runs_are_found_by_their_names_and_single_ones_are_joined(folder):
    found, task = study.find(str(folder), "baseline")
    tables = study.tables(found, task, "baseline", "hflip")
    variants = {"baseline", "better", "baseline + hflip", study.JOINED}
    assert set(tables) == {(variant, seed) for variant in variants for seed in (0, 1)}
    scores = study.scores(tables, task).set_index(["variant", "seed"])
    assert scores.loc[(study.JOINED, 1), "macro_f1"] == 1
    assert scores.loc[("baseline", 1), "accuracy"] == 21 / 36


def test_a_missing_baseline_names_the_variants_that_there_are(folder):
    with pytest.raises(ArtefactError, match="better.*did you mean 'baseline'"):
        study.find(str(folder), "basline")


def test_a_difference_is_to_the_baseline_of_the_same_seed():
    rows = [("baseline", 0, 0.5), ("baseline", 1, 0.7), ("new", 0, 0.6), ("new", 1, 0.75)]
    scores = pd.DataFrame(rows, columns=["variant", "seed", "macro_f1"])
    new = study.summary(scores, TASK, "baseline").loc["new"]
    assert new.to_dict() == pytest.approx(
        {"macro_f1": 0.675, "spread": 0.15, "difference": 0.075, "difference_spread": 0.05}
    )
    axes = figures.differences(scores, TASK, "baseline")
    assert axes.get_title() == "Differences larger than the spread over seeds: new +0.075"
