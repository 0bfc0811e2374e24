"""The study: which runs take part, what is joined, and what a difference is."""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib import artefacts
from lib.errors import ArtefactError
from lib.explain import study
from lib.plots import study as figures
from lib.score import decisions, intervals, predict, runs

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
    added = {f"baseline + {one}" for one in ("hflip", "expected_f1")}
    variants = {"baseline", "better", study.JOINED, *added}
    assert set(tables) == {(variant, seed) for variant in variants for seed in (0, 1)}
    scores = study.scores(tables, task).set_index(["variant", "seed"])
    assert scores.loc[(study.JOINED, 1), "macro_f1"] == 1
    assert scores.loc[("baseline", 1), "accuracy"] == 21 / 36


def test_a_variants_mean_over_seeds_has_its_interval_over_people(folder):
    found, task = study.find(str(folder), "baseline")
    tables = study.tables(found, task, "baseline", "hflip")
    scores = study.scores(tables, task)
    table = study.overview(tables, scores, task)
    by_seed = scores[scores.variant == "better"].set_index("seed")["macro_f1"]
    assert table.loc["better", [0, 1]].tolist() == by_seed.tolist()
    assert table.loc["better", "mean"] == pytest.approx(by_seed.mean())
    both = intervals.samples({seed: tables["better", seed] for seed in (0, 1)}, task).mean(axis=1)
    limits = intervals.interval(both).iloc[0].tolist()
    assert table.loc["better", ["low", "high"]].tolist() == pytest.approx(limits)


def test_the_decision_is_a_variant_only_where_the_metric_is_macro_f1(folder):
    found, task = study.find(str(folder), "baseline")
    decided = study.tables(found, task, "baseline", "hflip")["baseline + expected_f1", 0]
    oof = found["baseline", 0].oof()
    expected = decisions.expected_f1(oof[TASK.columns()].to_numpy())
    assert decided[TASK.columns()].to_numpy().argmax(1).tolist() == expected.tolist()
    other = replace(task, metric="log_loss")
    names = {variant for variant, _ in study.tables(found, other, "baseline", "hflip")}
    assert names == {"baseline", "better", "baseline + hflip", study.JOINED}


def test_a_missing_baseline_names_the_variants_that_there_are(folder):
    with pytest.raises(ArtefactError, match="better.*did you mean 'baseline'"):
        study.find(str(folder), "basline")


def test_a_difference_is_to_the_baseline_of_the_same_seed():
    rows = [("baseline", 0, 0.5), ("baseline", 1, 0.7), ("new", 0, 0.6), ("new", 1, 0.75)]
    scores = pd.DataFrame(rows, columns=["variant", "seed", "macro_f1"])
    apart = study.differences(scores, TASK, "baseline")
    assert apart.loc["new"].tolist() == pytest.approx([0.1, 0.05])


def test_a_variant_is_shown_if_neither_people_nor_seeds_could_reverse_it(folder):
    found, task = study.find(str(folder), "baseline")
    tables = study.tables(found, task, "baseline", "hflip")
    scores = study.scores(tables, task)
    summary = study.summary(tables, scores, task, "baseline")
    added = {f"baseline + {one}" for one in ("hflip", "expected_f1")}
    assert set(summary.index) == {"better", study.JOINED, *added}
    by_seed = scores.set_index(["variant", "seed"])["macro_f1"]
    gains = by_seed["better"] - by_seed["baseline"]
    better, same = summary.loc["better"], summary.loc["baseline + hflip"]
    assert better["difference"] == pytest.approx(gains.mean())
    assert better["spread"] == pytest.approx(abs(gains[0] - gains[1]))
    assert better["low_all"] < better["low"] < better["difference"] < better["high"]
    assert better["shown"]
    assert same.drop("shown").tolist() == pytest.approx([0] * 6)
    assert not same["shown"]
    title = figures.differences(scores, summary, TASK, "baseline").get_title()
    assert title.startswith("Differences that are shown: one run per attribute +")
    assert f"better {gains.mean():+.3f}" in title
    assert "hflip" not in title


def test_seeds_that_disagree_show_nothing(folder):
    write_run(folder, "better_1", [], 22)  # the gain of seed 0 is far from that of seed 1
    found, task = study.find(str(folder), "baseline")
    tables = study.tables(found, task, "baseline", "hflip")
    summary = study.summary(tables, study.scores(tables, task), task, "baseline")
    better = summary.loc["better"]
    assert better["spread"] > better["difference"]
    assert not better["shown"]


def test_a_single_seed_shows_nothing(folder):
    write_run(folder, "once_0", [], 36)
    found, task = study.find(str(folder), "baseline")
    tables = study.tables(found, task, "baseline", "hflip")
    once = study.summary(tables, study.scores(tables, task), task, "baseline").loc["once"]
    assert once["low_all"] > 0
    assert np.isnan(once["spread"])
    assert not once["shown"]
