"""Error tables against scikit-learn, brute force and simulations whose truth is known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import TASK, tiny_faces
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from lib.errors import DataError
from lib.explain import errors
from lib.plots import errors as figures
from lib.runner.parameters import declared
from lib.runner.stages import Step, notebook_of
from lib.score import metrics
from lib.score.runs import Run
from lib.task.attributes import load, parse
from lib.task.tables import probabilities

P = TASK.columns()
PHOTOS = 7
ORDER = parse(
    {"attributes": {"size": {"values": [1, 9], "cuts": [4, 7], "names": list("sml")}}}, "order", ""
)
COIN = parse({"attributes": {"side": {"classes": ["head", "tail"]}}}, "coin", "")


def labelled(people=60, seed=0, skill=2.0):
    """Return an out-of-fold table and the images table of random people with seven photos each."""
    rng = np.random.default_rng(seed)
    person = np.repeat([f"{k:04d}" for k in range(people)], PHOTOS)
    facts = {
        "mask": np.tile([0, 0, 0, 0, 0, 1, 2], people),
        "gender": np.repeat(rng.integers(0, 2, people), PHOTOS),
        "age": np.repeat(rng.integers(18, 61, people), PHOTOS),
    }
    keys = pd.Index([f"{name}/{k % PHOTOS}" for k, name in enumerate(person)], name="key")
    images = pd.DataFrame({**facts, "brightness": rng.uniform(60, 200, len(keys))}, keys)
    label = TASK.encode(TASK.groups(images)).to_numpy()
    logits = rng.normal(size=(len(keys), 18))
    logits[np.arange(len(keys)), label] += skill
    odds = np.exp(logits)
    oof = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), keys, P)
    return oof.assign(fold=0, label=label, person=person), images


def tossed(confidence, right, people=400, photos=5, seed=0):
    """Return a table that is always ``confidence`` sure, and right in a share of photos."""
    rng = np.random.default_rng(seed)
    n = people * photos
    label = rng.integers(0, 2, n)
    said = np.where(rng.random(n) < right, label, 1 - label)
    chances = np.where(said[:, None] == [0, 1], confidence, 1 - confidence)
    person = np.repeat(np.arange(people).astype(str), photos)
    return pd.DataFrame(chances, columns=COIN.columns()).assign(label=label, person=person)


@pytest.fixture(scope="module")
def known():
    return labelled()


def test_scores_are_the_metrics_and_lie_in_their_intervals(known):
    oof, _ = known
    table = errors.scores(oof, TASK)
    summary = metrics.summary(oof, TASK)
    assert table["macro_f1"].to_dict() == pytest.approx(
        {"everything": summary["macro_f1"], **{name: summary[name] for name in TASK.names}}
    )
    assert (table["low"] < table["macro_f1"]).all()
    assert (table["macro_f1"] < table["high"]).all()


def test_rates_are_counted_by_group_and_few_people_have_no_interval(known):
    oof, images = known
    odd = errors.wrong(oof, TASK)["age"]
    groups = images["age"].where(images["age"] > 20)
    found = errors.rates(odd, groups, oof, TASK)
    for number, row in found.iterrows():
        inside = images["age"] == number
        assert row["share"] == pytest.approx(odd[inside].mean())
        assert row["photos"] == inside.sum() == PHOTOS * row["people"]
        assert np.isnan(row["low"]) == (row["people"] < errors.FEWEST)
    assert found.index.min() > 20


def test_an_interval_of_a_rate_is_as_wide_as_people_vary():
    """People are wrong on all photos or on none: the interval is that of people, not of photos."""
    oof = tossed(0.9, 1.0, people=100, photos=20)
    wrong = pd.Series(oof["person"].astype(int) < 20, oof.index)
    (row,) = errors.rates(wrong, pd.Series("all", oof.index), oof, COIN).itertuples()
    expected = 1.96 * np.sqrt(0.2 * 0.8 / 100)
    assert row.share == pytest.approx(0.2)
    assert (row.high - row.low) / 2 == pytest.approx(expected, rel=0.15)


def test_error_rates_by_recorded_number_and_by_factor(known):
    oof, images = known
    assert list(errors.recorded(oof, TASK, images)) == ["age"]
    faces = tiny_faces(images).assign(status=["detected", "low"] * (len(images) // 2))
    groups = errors.factors(oof, TASK, images, faces, bins=4)
    assert list(groups) == ["mask", "detection", "brightness"]
    assert groups["brightness"].value_counts().between(104, 106).all()
    table = errors.by_factor(oof, TASK, groups).set_index(["factor", "attribute", "group"])
    low = faces["status"] == "low"
    assert table.loc[("detection", "gender", "low"), "share"] == pytest.approx(
        errors.wrong(oof, TASK).loc[low, "gender"].mean()
    )


def test_reliability_agrees_with_scikit_learn(known):
    oof, _ = known
    for name in ("label", "gender"):
        sure = errors.confidence(oof, TASK, name)
        right, mean = calibration_curve(sure["right"], sure["confidence"], n_bins=15)
        bins = errors.reliability(oof, TASK, name)
        assert bins["right"].to_numpy() == pytest.approx(right)
        assert bins["confidence"].to_numpy() == pytest.approx(mean)
        ece = np.average(np.abs(right - mean), weights=bins["photos"])
        assert errors.calibration_error(oof, TASK, name)["ece"] == pytest.approx(ece)


@pytest.mark.parametrize(("confidence", "right"), [(0.9, 0.7), (0.6, 0.8)])
def test_calibration_error_of_a_known_promise(confidence, right):
    """Of many simulated sets, nearly all intervals hold the true distance."""
    found = [
        errors.calibration_error(tossed(confidence, right, seed=seed), COIN, "side")
        for seed in range(20)
    ]
    truth = abs(confidence - right)
    assert np.mean([row["ece"] for row in found]) == pytest.approx(truth, abs=0.01)
    assert sum(row["low"] <= truth <= row["high"] for row in found) >= 17


def test_calibration_error_of_an_honest_model_is_small():
    rng = np.random.default_rng(3)
    chance = rng.uniform(size=20_000)
    table = pd.DataFrame(np.c_[chance, 1 - chance], columns=COIN.columns())
    table = table.set_axis(COIN.columns(), axis=1).assign(
        person=(np.arange(20_000) // 10).astype(str)
    )
    table["label"] = (rng.random(20_000) > chance).astype(int)
    assert errors.calibration_error(table, COIN, "side")["ece"] < 0.01


def test_the_surest_error_of_each_person(known):
    oof, _ = known
    found = errors.worst(oof, TASK)
    odd = errors.wrong(oof, TASK)
    assert found["person"].is_unique
    assert set(found["person"]) == set(oof["person"][odd.any(axis=1)])
    assert found["confidence"].is_monotonic_decreasing
    guess = metrics.predicted(oof, TASK)
    for key, row in found.head(10).iterrows():
        sure = [
            probabilities(oof, TASK, name).loc[key].iloc[guess.loc[key, name]]
            for name in TASK.names
            if odd.loc[key, name]
        ]
        assert row["confidence"] == pytest.approx(max(sure))
        assert row["errors"].count("is ") == len(sure)
        assert row["wrong_photos"] == odd[oof["person"] == row["person"]].any(axis=1).sum()


def test_what_if_scores_predictions_with_that_attribute_replaced(known):
    oof, images = known
    table = errors.what_if(oof, TASK, images, near=2)["macro_f1"]
    guess = metrics.predicted(oof, TASK)
    age = images["age"]
    close = age.isin([28, 29, 30, 31, 58, 59, 60])
    cases = {name: (f"{name} always right", age > 0) for name in TASK.names}
    cases["near"] = ("age right within 2 of a cut", close)
    for name, (case, rows) in cases.items():
        name = "age" if name == "near" else name
        fixed = guess.assign(**{name: guess[name].where(~rows, metrics.truth(oof, TASK)[name])})
        label = TASK.encode({each: fixed[each] for each in TASK.names})
        assert table[case] == pytest.approx(f1_score(oof["label"], label, average="macro"))


def test_what_if_of_a_probability_metric_swaps_two_classes():
    oof = tossed(0.9, 0.7)
    (sure,) = errors.corrected(oof, COIN, "side", errors.wrong(oof, COIN)["side"])[
        COIN.columns()
    ].to_numpy()[[0]]
    assert sorted(sure) == pytest.approx([0.1, 0.9])
    fixed = errors.corrected(oof, COIN, "side", errors.wrong(oof, COIN)["side"])
    assert metrics.measure(fixed, COIN, "log_loss") == pytest.approx(np.log(0.9))


def test_a_run_of_one_attribute_and_a_task_without_order(known):
    oof, images = known
    some = pd.concat([probabilities(oof, TASK, "gender"), oof.drop(columns=P)], axis=1)
    assert errors.names(some, TASK) == errors.attributes(some, TASK) == ["gender"]
    assert errors.recorded(some, TASK, images) == {}
    assert list(errors.what_if(some, TASK, images, 2).index) == ["as it is", "gender always right"]
    assert errors.names(tossed(0.9, 0.7), COIN) == ["side"]


def test_numbers_near_a_cut():
    numbers = pd.Series(range(1, 10))
    found = errors.near_cut(ORDER["size"], numbers, 1)
    assert list(numbers[found]) == [3, 4, 6, 7]


def test_several_runs_are_combined_and_nobody_validated_is_refused(tmp_path, known):
    oof, _ = known
    runs = {}
    for name, seed in (("a", 1), ("b", 2)):
        runs[name] = Run(tmp_path / name, {}, TASK)
        runs[name].folder.mkdir()
        labelled(seed=0, skill=seed)[0].to_parquet(runs[name].folder / "oof.parquet")
        oof[P].assign(fold=0).to_parquet(runs[name].folder / "test.parquet")
    both = errors.out_of_fold(runs, TASK, "soft", [], "none")
    mean = sum(run.oof()[P] for run in runs.values()) / 2
    assert both[P].to_numpy() == pytest.approx(mean.to_numpy())
    oof[:0].to_parquet(runs["a"].folder / "oof.parquet")
    with pytest.raises(DataError, match="nobody was validated"):
        errors.out_of_fold({"a": runs["a"]}, TASK, "soft", [], "none")


def test_figures_say_what_they_show(known):
    oof, images = known
    faces = tiny_faces(images)
    (axes,) = figures.by_recorded(errors.recorded(oof, TASK, images), TASK, 2)
    assert axes.get_title().startswith("age, share wrong: ")
    assert len([line for line in axes.lines if line.get_linestyle() == "--"]) == 2
    groups = errors.factors(oof, TASK, images, faces, 3)
    panels = figures.by_factor(errors.by_factor(oof, TASK, groups)).axes
    assert [panel.get_title() for panel in panels] == list(groups)
    gains = errors.what_if(oof, TASK, images, 2)
    assert gains["gain"].iloc[1:].idxmax() in figures.what_if(gains).get_title()
    assert "ECE" in figures.reliability(oof, TASK).axes[0].get_title()
    plt.close("all")


def test_an_ordered_attribute_alone_is_drawn_too(capsys):
    assert figures.by_recorded({}, load("digits"), 2) == []
    assert "no attribute" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    ("runs", "copy"),
    [(["a"], "runs/a/05_error_analysis"), (["a", "b"], "submissions/demo_errors")],
)
def test_the_executed_copy_lies_with_its_run_or_next_to_the_submission(runs, copy):
    table = declared(notebook_of("errors"))
    settings = {name: parameter.default for name, parameter in table.items()} | {"runs": runs}
    assert Step("errors", {}, settings).copy == copy
