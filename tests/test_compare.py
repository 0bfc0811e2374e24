"""Notebook 06: every run is listed, and a difference is told only as far as it is shown."""

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PARAMS, TASK, run_cells
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from lib import artefacts
from lib.errors import ArtefactError, DataError, ParameterError
from lib.explain import compare, experiments, leaderboard, paired
from lib.learn import loop
from lib.plots import compare as figures
from lib.runner import chain, repeats
from lib.score import intervals, runs
from lib.task.attributes import load

matplotlib.use("Agg")
CHROMIUM = Path("/usr/bin/chromium")
LEDGER = "name,time,runs,method,tta,metric,oof_score,sha256,commit,test_photos_used,public,private"


def oof_table(right: float, seed: int, people: int = 60) -> pd.DataFrame:
    """Return an out-of-fold table of three photos per person, a share of them about right."""
    rng = np.random.default_rng(seed)
    person = np.repeat([f"person{k:02d}" for k in range(people)], 3)
    label = np.repeat(np.arange(people) % 18, 3)
    guess = np.where(rng.random(len(label)) < right, label, rng.integers(0, 18, len(label)))
    keys = pd.Index([f"{name}/{k % 3}" for k, name in enumerate(person)], name="key")
    table = pd.DataFrame(0.5 * np.eye(18)[guess] + 0.5 / 18, keys, TASK.columns())
    return table.assign(label=label, fold=np.arange(len(label)) // 3 % 2, person=person)


def write_run(folder, name, oof, task=TASK, **changes):
    """Write a run as notebook 03 leaves it, of a finished out-of-fold table."""
    run = runs.start(str(folder), PARAMS | {"experiment": name, "task": task.name} | changes, task)
    facts = {"epoch": [1, 2], "score": 0.5, "seconds": 15.0, "photos_per_second": [30.0, 50.0]}
    history = pd.DataFrame(facts)
    for fold, part in oof.groupby("fold"):
        run.write_fold(fold, part, part.drop(columns=["label", "person", "fold"]))
        artefacts.write_table(history, run.fold(fold) / "history.csv")
        (run.fold(fold) / "best.pt").write_bytes(bytes(500_000))
    return runs.finish(run, sorted(oof["fold"].unique()))


@pytest.fixture(scope="module")
def every_run(tmp_path_factory):
    """Return a folder of runs in every state, of two tasks; ``folder`` is a copy of it."""
    tmp_path = tmp_path_factory.mktemp("runs")
    good = oof_table(0.9, 1)
    write_run(tmp_path, "base", oof_table(0.6, 0))
    write_run(tmp_path, "good", good, epochs=9, why="longer <b>", expect="+0.1", workers=2)
    write_run(tmp_path, "child", oof_table(0.6, 2), epochs=9, init_from="good", dropout=0.5)
    write_run(tmp_path, "half", good[good["fold"] == 0], split="holdout")
    write_run(tmp_path, "begun", good, epochs=3)
    (tmp_path / "begun" / "metrics.json").unlink()
    write_run(tmp_path, "old", good)
    (tmp_path / "old" / "task.yaml").unlink()
    write_run(tmp_path, "broken", good)
    (tmp_path / "broken" / "metrics.json").write_text("{")
    digits = load("digits")
    other = pd.DataFrame(np.eye(10)[[0, 1, 2, 2]], list("abcd"), digits.columns())
    facts = {"label": [0, 1, 2, 3], "fold": [0, 0, 1, 1], "person": list("abcd")}
    write_run(tmp_path, "digit", other.assign(**facts), digits)
    for fold, part in good.groupby("fold"):  # as if notebook 04 had predicted the views of "base"
        artefacts.write_table(part, tmp_path / f"base/fold{fold}/oof_hflip.parquet")
    artefacts.write_table(good[:9], tmp_path / "base/fold0/oof_five_crop.parquet")
    return tmp_path


@pytest.fixture
def folder(every_run, tmp_path):
    return shutil.copytree(every_run, tmp_path / "runs")


def overview(folder) -> pd.DataFrame:
    return compare.overview(str(folder), str(folder))[0]


def test_every_run_is_listed_with_its_state(folder):
    about = overview(folder)["run"]
    states = about["state"].to_dict()
    odd = {"begun": "unfinished", "old": "refused", "broken": "refused"}
    assert states == dict.fromkeys(["base", "good", "child", "half", "digit"], "finished") | odd
    assert about.loc["begun", "reason"] == "folds trained: 2"
    assert "made by an earlier version" in about.loc["old", "reason"]
    assert about.loc["good", ["why", "expect"]].tolist() == ["longer <b>", "+0.1"]
    assert about.loc["digit", ["task", "metric", "people"]].tolist() == ["digits", "accuracy", 4]


def test_scores_and_costs_are_those_of_the_run(folder):
    facts, good = overview(folder), oof_table(0.9, 1)
    guess = good[TASK.columns()].to_numpy().argmax(axis=1)
    score = f1_score(good["label"], guess, average="macro")
    assert facts.loc["good", ("score", "oof")] == pytest.approx(score)
    assert facts.loc["base", ("score", "oof_hflip")] == pytest.approx(score)
    assert facts["score"]["oof_hflip"].count() == 1
    assert "oof_five_crop" not in facts["score"]  # one of two folds is no score
    folds = [
        f1_score(good["label"][good["fold"] == k], guess[good["fold"] == k], average="macro")
        for k in (0, 1)
    ]
    expected = [np.mean(folds), abs(folds[0] - folds[1])]
    assert facts.loc["good", "score"][["mean", "spread"]].tolist() == pytest.approx(expected)
    assert facts.loc["digit", ("attribute", "digit")] == 0.75
    costs = {"epochs": 2, "minutes": 1, "photos_per_second": 40, "megabytes": 1}
    assert facts.loc["good", "cost"].to_dict() == costs


def test_only_parameters_that_differ_are_shown(folder):
    parameters = overview(folder)["parameter"]
    assert set(parameters) == {"task", "epochs", "init_from", "dropout", "split"}
    assert parameters["epochs"].tolist()[:3] == [5, 3, 5]  # base, begun, broken: numbers


def test_an_empty_folder_is_an_empty_table(tmp_path):
    facts, submissions = compare.overview(str(tmp_path), str(tmp_path))
    assert facts.empty
    assert submissions.empty


def test_a_submission_has_the_task_of_its_runs(folder):
    rows = ["a,t,good;base,soft,none,macro_f1,0.5,x,c,no,0.4,", "b,t,gone,soft,none,,,y,c,no,,"]
    (folder / "ledger.csv").write_text("\n".join([LEDGER, *rows]))
    artefacts.write_json({"sha256": "x", "oof_score_without_tta": 0.45}, folder / "a.json")
    submissions = compare.overview(str(folder), str(folder))[1].set_index("name")
    assert submissions["task"].tolist() == ["mask", ""]
    assert submissions.loc["a", "oof_score_without_tta"] == 0.45


# Paired differences


def test_a_difference_and_its_interval_are_those_of_a_weighted_score():
    tables = {"a": oof_table(0.6, 0), "b": oof_table(0.7, 1)}
    row = paired.compared(tables, TASK, "a", draws=50).loc["b"]
    weights = intervals.resample(intervals.strata(tables["a"], TASK), 50)
    names = np.unique(tables["a"]["person"])
    places = np.searchsorted(names, tables["a"]["person"])
    apart = [score(tables["b"], draw[places]) - score(tables["a"], draw[places])
             for draw in weights]  # fmt: skip
    assert row["difference"] == pytest.approx(score(tables["b"]) - score(tables["a"]))
    expected = np.quantile(apart, [0.025, 0.975])
    assert row[["low", "high"]].tolist() == pytest.approx(expected.tolist())


def score(table, weights=None):
    guess = table[TASK.columns()].to_numpy().argmax(axis=1)
    style = {"labels": range(18), "average": "macro", "zero_division": np.nan}
    return f1_score(table["label"], guess, sample_weight=weights, **style)


def test_many_comparisons_together_are_wrong_in_one_of_twenty():
    rng = np.random.default_rng(0)
    weights = intervals.resample(np.zeros(80, int), draws=400)
    alone, together = [], []
    for _ in range(250):  # ten runs that are truly as good as the baseline
        apart = rng.normal(size=(80, 10)) + rng.normal(size=(80, 1))  # the baseline is shared
        draws = pd.DataFrame(weights @ apart / 80)
        table = paired.against(pd.Series(apart.mean(axis=0)), draws)
        alone.append(((table["low"] > 0) | (table["high"] < 0)).any())
        together.append(table["shown"].any())
    assert 0.02 < np.mean(together) < 0.09
    assert np.mean(alone) > 0.18


def test_a_run_is_not_better_than_its_copy():
    table = oof_table(0.6, 0)
    row = paired.compared({"a": table, "b": table.copy()}, TASK, "a", draws=20).loc["b"]
    assert row.drop("score").tolist() == [0, 0, 0, 0, 0, False]


def test_without_other_runs_the_comparison_is_empty(capsys):
    compared = paired.compared({"a": oof_table(0.6, 0)}, TASK, "a", draws=20)
    assert compared.empty
    assert figures.differences(compared, TASK, "a") is None
    assert "no other run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("difference", "low", "high", "told"),
    [
        (0.012, -0.004, 0.027, "B is 0.012 better than A, 95 % -0.004 to 0.027: not shown"),
        (-0.05, -0.07, -0.02, "B is 0.050 worse than A, 95 % 0.020 to 0.070: shown"),
    ],
)
def test_a_difference_in_words(difference, low, high, told):
    assert intervals.verdict("B", "A", difference, low, high) == told


def test_runs_on_other_people_are_left_out_of_many_and_cut_to_the_common_ones_in_a_pair(folder):
    tables, task = experiments.tables(overview(folder), str(folder), "base")
    assert set(tables) == {"base", "good", "child", "half"}
    same, left_out = paired.comparable(tables, task, "base")
    assert set(same) == {"base", "good", "child"}
    assert left_out == {"half": "it validated 90 photos, 90 of the baseline's 180"}
    told = experiments.pair(str(folder), "base", "half")
    assert "90 photos of 30 people, those that both have (base: 180, half: 90)" in told
    strangers = tables["half"].rename(index="other/{}".format)
    with pytest.raises(DataError, match="no photo in common"):
        paired.common({"base": tables["base"], "half": strangers})
    with pytest.raises(ArtefactError, match="did you mean 'good'"):
        experiments.tables(overview(folder), str(folder), "base", ["godo"])


def test_runs_of_other_attributes_are_compared_by_one_that_both_predict():
    whole = oof_table(0.6, 0)
    ages = whole[["label", "fold", "person"]].join(
        pd.DataFrame(np.eye(3)[whole["label"] % 3], whole.index, TASK.columns("age"))
    )
    tables = {"whole": whole, "age": ages}
    assert paired.comparable(tables, TASK, "whole")[1] == {"age": "it predicts age"}
    assert set(paired.comparable(tables, TASK, "whole", "age")[0]) == {"whole", "age"}
    assert "does not predict gender" in paired.comparable(tables, TASK, "whole", "gender")[1]["age"]
    with pytest.raises(ParameterError, match="it predicts age"):
        paired.sentence(tables, TASK)
    guess = whole[TASK.columns()].to_numpy().argmax(axis=1) % 3
    apart = 1 - f1_score(whole["label"] % 3, guess, average="macro")
    assert paired.sentence(tables, TASK, "age").startswith(f"age is {apart:.3f} better than whole")


def test_the_correlation_of_errors_is_phi():
    tables = {"a": oof_table(0.6, 0), "b": oof_table(0.7, 1)}
    wrong = [t[TASK.columns()].to_numpy().argmax(axis=1) != t["label"] for t in tables.values()]
    shuffled = {"a": tables["a"], "b": tables["b"].sample(frac=1, random_state=0)}
    found = paired.error_correlation(shuffled, TASK)
    assert found.loc["a", "b"] == pytest.approx(matthews_corrcoef(*wrong))
    assert figures.error_correlation(found).get_title().startswith("Most different: b and a")


def test_the_story_tells_changes_from_the_parent_or_the_baseline(folder):
    facts = overview(folder)
    tables, task = experiments.tables(facts, str(folder), "base")
    same, left_out = paired.comparable(tables, task, "base")
    compared = paired.compared(same, task, "base", draws=200)
    story = experiments.story(facts, task, "base", compared, left_out)
    assert "digit" not in story.index
    assert story.loc["base", "changed"] == "the baseline"
    assert story.loc["good", "changed"] == "epochs 5 → 9"
    assert story.loc["child", "changed"] == "from good: init_from  → good; dropout 0.2 → 0.5"
    assert story.loc["good", ["why", "expect"]].tolist() == ["longer <b>", "+0.1"]
    assert story.loc["good", "came out"].endswith(": shown")
    assert story.loc["child", "came out"].endswith(": not shown")
    assert story.loc["half", "came out"].startswith("not compared: it validated 90 photos")
    assert story.loc["begun", "came out"] == "unfinished"


# The leaderboard


def submissions(oof, public):
    names = [f"s{k}" for k in range(len(oof))]
    return pd.DataFrame({"name": names, "oof_score": oof, "public": public})


def test_an_outlier_is_outside_the_prediction_interval_of_the_others():
    rng = np.random.default_rng(0)
    for odd in (0.0, 0.01, 0.02, 0.04, 0.1):
        oof = rng.uniform(0.6, 0.8, 8)
        public = oof - 0.02 + rng.normal(0, 0.005, 8)
        public[3] -= odd
        found = leaderboard.points(submissions(oof, public), "public")
        assert found["outlier"].tolist() == [outside(oof, public, k) for k in range(8)]
    assert found["outlier"].tolist() == [k == 3 for k in range(8)]
    told = leaderboard.told(submissions(oof, public), "public")
    assert "WARNING: they part for s3" in told
    assert figures.leaderboard(submissions(oof, public), "public").get_title().startswith("8 ")


def outside(x, y, k):
    """Tell whether a point is outside the interval of a line that was fitted without it."""
    others = np.arange(len(x)) != k
    fit, n = stats.linregress(x[others], y[others]), len(x) - 1
    rest = y[others] - fit.intercept - fit.slope * x[others]
    middle, squares = x[others].mean(), ((x[others] - x[others].mean()) ** 2).sum()
    width = np.sqrt((rest**2).sum() / (n - 2) * (1 + 1 / n + (x[k] - middle) ** 2 / squares))
    error = abs(y[k] - fit.intercept - fit.slope * x[k])
    return error > stats.t.ppf(1 - 0.05 / (2 * len(x)), n - 2) * width


@pytest.mark.parametrize(
    ("oof", "public", "told"),
    [
        ([0.7], [np.nan], "no scores yet"),
        ([0.7, 0.8], [0.6, 0.7], "2 submissions have a score; a line needs at least 3"),
        ([0.7, 0.7, 0.7], [0.6, 0.7, 0.8], "a line needs at least 3 with different"),
        ([0.7, 0.72, 0.8], [0.6, 0.7, 0.75], "the scores go together"),
        ([0.7, 0.72, 0.8], [0.75, 0.7, 0.6], "WARNING: they part, a better out-of-fold score"),
    ],
)
def test_the_leaderboard_in_words(oof, public, told):
    assert told in leaderboard.told(submissions(oof, public), "public")


# Repeated runs


def test_a_repeated_run_is_named_with_its_score(folder):
    params = yaml.safe_load((folder / "good" / "params.yaml").read_text())
    params["runs_dir"] = str(folder)
    again = params | {"experiment": "again", "why": "forgot", "expect": "", "workers": 0}
    value = json.loads((folder / "good" / "metrics.json").read_text())["oof_score"]
    assert repeats.told(again).endswith(f"of run 'good' (macro_f1 {value:.3f} out-of-fold)")
    assert repeats.told(params) == ""  # itself
    assert repeats.told(again | {"seed": 7}) == ""
    assert "'begun' (not finished)" in repeats.told(again | {"epochs": 3})
    (folder / "good" / "params.yaml").write_text("epochs: [")
    assert repeats.told(again) == ""


def test_the_command_line_warns_of_a_repeated_run_and_goes_on(folder, capsys):
    command = ["--check", "--stages", "train", "-p", f"runs_dir={folder}", "-p", "epochs=9"]
    assert chain.main([*command, "-p", "experiment=again"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("warning: experiment='again' repeats the parameters of run 'good'")
    assert told.out.startswith("train")


def test_an_epoch_records_its_time_and_speed(tmp_path, monkeypatch):
    from test_loop import batches, evaluate, learner

    ticks = iter(range(0, 1000, 2))  # two seconds between any two looks at the clock
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(ticks))
    history = loop.fit(learner(), batches, epochs=2, evaluate=evaluate, folder=tmp_path)
    photos = sum(len(inputs) for inputs, _ in batches(0))
    assert history["photos_per_second"].tolist() == [photos / 2] * 2
    assert history["seconds"].tolist() == [4, 4]


# The notebook and its table


def test_the_notebook_compares_what_is_there(folder, capsys):
    made = run_cells(
        "06_compare", runs_dir=str(folder), submissions_dir=str(folder), baseline="base"
    )
    assert made["compared"].loc["good", "shown"]
    told = capsys.readouterr().out
    assert "half is left out" in told
    assert "broken is refused" in told
    assert "good is" in told
    assert "public: no scores yet" in told


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM} (apt-get install chromium)")
def test_the_table_sorts_in_a_browser_without_a_request(tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    from itables import options
    from itables.javascript import generate_init_offline_itables_html

    columns = pd.MultiIndex.from_tuples([("score", "oof"), ("run", "why")])
    rows = [[0.5, "<img src=x onerror=alert(1)>"], [0.25, ""], [10.0, ""]]
    table = pd.DataFrame(rows, pd.Index(["a", "b", "c"], name="run"), columns)
    script = generate_init_offline_itables_html(options.dt_bundle)
    page = tmp_path / "page.html"
    style = "<style>.jp td {text-align: right}</style>"  # as in the pages of notebooks
    shown = f"<div class=jp>{figures.sortable(table).data}</div>"
    page.write_text(f"<meta charset=utf-8>{style}{script}{shown}")
    outside, faults = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        tab = browser.new_page()
        tab.on("request", lambda request: outside.append(request.url))
        tab.on("pageerror", lambda error: faults.append(error))
        tab.on("dialog", lambda dialog: faults.append(dialog))
        tab.goto(page.as_uri())
        head = tab.locator("th", has_text="score oof").locator("visible=true").first
        head.wait_for()
        names = tab.locator(".dt-scroll-body tbody td:first-child")
        assert names.all_inner_texts() == ["a", "b", "c"]
        cells = tab.locator(".dt-scroll-body tbody tr:first-child td")
        sides = cells.evaluate_all("cells => cells.map(cell => getComputedStyle(cell).textAlign)")
        assert sides == ["left", "right", "left"]
        head.click()  # the table is drawn again a moment later
        api.expect(names).to_have_text(["b", "a", "c"])  # as numbers: 10 is not before 2
        browser.close()
    assert [url for url in outside if not url.startswith("blob:")] == [page.as_uri()]
    assert faults == []


def test_seconds_of_an_old_history_are_no_zero(folder):
    path = folder / "good/fold0/history.csv"
    pd.read_csv(path).drop(columns=["seconds", "photos_per_second"]).to_csv(path, index=False)
    shutil.copy(path, folder / "good/fold1/history.csv")
    costs = overview(folder).loc["good", "cost"]
    assert costs["epochs"] == 2
    assert costs[["minutes", "photos_per_second"]].isna().all()
