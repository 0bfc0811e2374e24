import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean, mode
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from lib.errors import DataError, ParameterError
from lib.plots import ensemble as plots
from lib.score import ensemble, metrics
from lib.task.labels import ATTRIBUTE_PROBABILITIES, PROBABILITIES, encode, marginals

P = list(PROBABILITIES)
PEOPLE, PHOTOS = 40, 5
KEYS = pd.Index([f"{person:03d}/mask{photo}" for person in range(PEOPLE) for photo in range(PHOTOS)], name="key")
PERSON = np.repeat([f"{person:03d}" for person in range(PEOPLE)], PHOTOS)
LABEL = np.random.default_rng(99).integers(0, 18, len(KEYS))


def oof(seed, skill=2.0):
    logits = np.random.default_rng(seed).normal(size=(len(KEYS), 18))
    logits[np.arange(len(KEYS)), LABEL] += skill
    odds = np.exp(logits)
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), KEYS, P)
    return table.assign(fold=np.arange(len(KEYS)) // PHOTOS % 5, label=LABEL, person=PERSON)


def shuffled(table, seed=0):
    return table.sample(frac=1, random_state=seed)


def on_test(seed, folds=3, skill=2.0):
    parts = [oof(100 * seed + k, skill).drop(columns=["label", "person"]).assign(fold=k) for k in range(folds)]
    return shuffled(pd.concat(parts), seed)


def one_task(table, attribute):
    return pd.concat(
        [marginals(table)[attribute].reset_index(drop=True), table.drop(columns=P).reset_index()], axis=1
    ).set_index("key")


def single_tasks(table):
    return {f"run_{attribute}": one_task(table, attribute) for attribute in ATTRIBUTE_PROBABILITIES}


def values(tables):
    """All members of the tables in one key order: (members, photos, 18)."""
    return np.stack([part.loc[KEYS, P].to_numpy() for part in ensemble.members(tables).values()])


@pytest.fixture(params=["oof", "test"])
def tables(request):
    make = oof if request.param == "oof" else on_test
    return {"a": make(1), "b": shuffled(make(2)), "c": make(3)}


@pytest.mark.parametrize("method", ensemble.VOTES)
def test_votes_are_probabilities_in_the_keys_own_rows(tables, method):
    voted = ensemble.vote(tables, method)
    assert list(voted.index) == list(ensemble.members(tables)[next(iter(ensemble.members(tables)))].index)
    assert sorted(voted.index) == sorted(KEYS)
    np.testing.assert_allclose(voted[P].sum(axis=1), 1)
    again = ensemble.vote(dict(reversed(tables.items())), method)
    pd.testing.assert_frame_equal(voted[P], again.loc[voted.index, P])
    assert (metrics.predicted(voted) == metrics.predicted(again).loc[voted.index]).all()


def test_soft_and_geometric_votes_match_numpy_and_scipy(tables):
    np.testing.assert_allclose(ensemble.vote(tables, "soft").loc[KEYS, P], values(tables).mean(axis=0))
    expected = gmean(values(tables), axis=0)
    np.testing.assert_allclose(
        ensemble.vote(tables, "geometric").loc[KEYS, P], expected / expected.sum(axis=1, keepdims=True), rtol=1e-6
    )


def test_hard_vote_is_the_mode_and_ties_go_to_the_largest_summed_probability(tables):
    stacked = values(tables)
    choices, found = stacked.argmax(axis=2), metrics.predicted(ensemble.vote(tables, "hard")).loc[KEYS].to_numpy()
    counts = np.stack([(choices == k).sum(axis=0) for k in range(18)], axis=1)
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert 0 < tied.sum() < len(tied)
    np.testing.assert_array_equal(found[~tied], mode(choices, axis=0).mode[~tied])
    among_the_tied = np.where(counts == counts.max(axis=1, keepdims=True), stacked.sum(axis=0), -1).argmax(axis=1)
    np.testing.assert_array_equal(found, among_the_tied)


def test_rank_vote_is_the_mean_rank_within_a_photo(tables):
    order = values(tables).argsort(axis=2).argsort(axis=2).mean(axis=0)
    np.testing.assert_allclose(ensemble.vote(tables, "rank").loc[KEYS, P], order / order.sum(axis=1, keepdims=True), atol=1e-6)


def test_one_confident_zero_does_not_veto_a_class():
    a, b = oof(1), oof(1)
    b[P] = np.eye(18)[(LABEL + 1) % 18]
    assert np.isfinite(ensemble.vote({"a": a, "b": b}, "geometric")[P]).all(axis=None)


def test_weights_belong_to_runs_whatever_their_number_of_folds():
    tables = {"a": on_test(1, folds=2), "b": on_test(2, folds=4)}
    mean = {run: table.groupby(level=0)[P].mean().loc[KEYS] for run, table in tables.items()}
    np.testing.assert_allclose(ensemble.vote(tables, "soft", [3, 1]).loc[KEYS, P], 0.75 * mean["a"] + 0.25 * mean["b"])
    np.testing.assert_allclose(ensemble.vote(tables, "soft").loc[KEYS, P], (mean["a"] + mean["b"]) / 2)
    only = ensemble.vote({"a": tables["a"]}, "hard")
    pd.testing.assert_frame_equal(ensemble.vote(tables, "hard", [1, 0]), only)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, -1], [0, 0], [1, float("nan")]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ParameterError, match=r"2 numbers from 0 up, one a run \(a, b\)"):
        ensemble.vote({"a": oof(1), "b": oof(2)}, "soft", weights)


def test_facts_are_kept_where_the_members_agree():
    a, b = oof(1), oof(2)
    pd.testing.assert_frame_equal(ensemble.vote({"a": a, "b": shuffled(b)}, "soft").drop(columns=P), a.drop(columns=P))
    other_folds = b.assign(fold=(b["fold"] + 1) % 5)
    assert list(ensemble.vote({"a": a, "b": other_folds}, "soft").columns) == [*P, "label", "person"]
    assert list(ensemble.vote({"a": on_test(1)}, "soft").columns) == P
    with pytest.raises(DataError, match="a and b disagree on the label of 1 keys"):
        ensemble.vote({"a": a, "b": b.assign(label=b["label"].where(b.index != KEYS[7], 0 if LABEL[7] else 1))}, "soft")


def test_misfits_are_named():
    a = oof(1)
    with pytest.raises(DataError, match=r"b lacks 2 keys \(000/mask0, 000/mask1\), compared with a"):
        ensemble.align({"a": a, "b": a.iloc[2:]})
    with pytest.raises(DataError, match="b adds 1 keys"):
        ensemble.align({"a": a.iloc[1:], "b": a})
    two = on_test(1, folds=2)
    gap = two[~((two["fold"] == 1) & (two.index == KEYS[0]))]
    with pytest.raises(DataError, match="b/fold1 lacks 1 keys"):
        ensemble.vote({"a": on_test(2), "b": gap}, "soft")
    with pytest.raises(DataError, match="do not sum to 1"):
        ensemble.align({"a": a.assign(p00=np.nan)})
    with pytest.raises(ParameterError, match="at least one run"):
        ensemble.vote({}, "soft")
    with pytest.raises(ParameterError, match=r"vote='sotf' is not one of: soft.*mean 'soft'"):
        ensemble.vote({"a": a}, "sotf")
    with pytest.raises(ParameterError, match="different tasks"):
        ensemble.vote({"a": a, "b": one_task(a, "age")}, "soft")


def test_joined_attributes_are_the_outer_product(tables):
    single = single_tasks(tables["a"])
    single["run_age"] = shuffled(single["run_age"], 5)
    joined = ensemble.join_attributes(dict(reversed(single.items())))
    rows = [table.set_index("fold", append=True).sort_index() for table in single.values()]
    joined = joined.set_index("fold", append=True).sort_index()
    for mask, gender, age in [(0, 0, 0), (1, 1, 2), (2, 0, 1)]:
        expected = rows[0][f"mask_{mask}"] * rows[1][f"gender_{gender}"] * rows[2][f"age_{age}"]
        np.testing.assert_allclose(joined[P[encode(mask, gender, age)]], expected)
    for attribute, table in marginals(joined).items():
        np.testing.assert_allclose(table, dict(zip(ATTRIBUTE_PROBABILITIES, rows, strict=True))[attribute][table.columns])


def test_single_tasks_may_be_voted_before_they_are_joined():
    for make in (oof, on_test):
        runs = {
            attribute: {"a": one_task(make(1), attribute), "b": one_task(make(2), attribute)} for attribute in marginals(oof(1))
        }
        joined = ensemble.join_attributes({attribute: ensemble.vote(pair, "soft") for attribute, pair in runs.items()})
        np.testing.assert_allclose(joined[P].sum(axis=1), 1)


def test_complete_joins_single_tasks_and_leaves_the_rest(tables):
    found = ensemble.complete({**single_tasks(tables["a"]), "b": tables["b"]})
    assert list(found) == ["b", "run_mask+run_gender+run_age"]
    assert len(ensemble.vote(found, "soft")) == len(KEYS)
    assert ensemble.complete(tables) == tables


def test_attributes_that_do_not_fit_are_refused():
    single = single_tasks(oof(1))
    with pytest.raises(ParameterError, match="'age': \\[\\]"):
        ensemble.join_attributes({run: table for run, table in single.items() if run != "run_age"})
    with pytest.raises(ParameterError, match=r"'age': \['run_age', 'more'\]"):
        ensemble.join_attributes({**single, "more": single["run_age"]})
    with pytest.raises(ParameterError, match="18-class"):
        ensemble.join_attributes({**single, "whole": oof(1)})
    with pytest.raises(DataError, match="run_age lacks 1 keys"):
        ensemble.join_attributes({**single, "run_age": single["run_age"].iloc[1:]})
    age = single["run_age"]
    with pytest.raises(DataError, match=r"run_mask and run_age have different folds for 1 keys \(003\)"):
        ensemble.join_attributes({**single, "run_age": age.assign(fold=age["fold"].where(age["person"] != "003", 4))})


def test_stacking_beats_the_mean_where_one_run_is_noise():
    tables = {"good": oof(1, skill=4.0), "noise": oof(2, skill=0.0).assign(**oof(3, skill=0)[P].pow(9).pipe(normalised))}
    tests = {run: on_test(k, skill=4.0 * (run == "good")) for k, run in enumerate(tables, start=1)}
    found, tested = ensemble.combine(tables, tests, "stacked")
    assert metrics.summary(found)["macro_f1"] > metrics.summary(ensemble.vote(tables, "soft"))["macro_f1"] + 0.05
    assert f1_score(LABEL, metrics.predicted(tested).loc[KEYS], average="macro") > 0.5
    np.testing.assert_allclose(tested[P].sum(axis=1), 1)


def normalised(table):
    return table.div(table.sum(axis=1), axis=0)


def test_stacked_score_is_honest_about_people():
    """Noise that is the same in all photos of a person tells who it is: in-sample it scores, cross-fitted it must not."""
    noise = normalised(pd.DataFrame(np.random.default_rng(0).random((PEOPLE, 18)).repeat(PHOTOS, axis=0), KEYS, P))
    person_class = np.random.default_rng(1).integers(0, 18, PEOPLE).repeat(PHOTOS)
    table = noise.assign(fold=0, label=person_class, person=PERSON)
    features = np.log(noise.to_numpy())
    seen = LogisticRegression(max_iter=1000, C=100).fit(features, person_class).score(features, person_class)
    found, _ = ensemble.stack({"a": table}, {"a": on_test(1)})
    assert seen > 0.8
    assert metrics.summary(found)["accuracy"] < 0.25


def test_stacking_leaves_absent_classes_at_zero_and_needs_people():
    table = oof(1).loc[lambda frame: frame["label"] != 17]
    found, tested = ensemble.stack({"a": table}, {"a": on_test(1)})
    assert (found["p17"] == 0).all()
    assert (tested["p17"] == 0).all()
    with pytest.raises(DataError, match="at least 5 people"):
        ensemble.stack({"a": table[table["person"] < "003"]}, {"a": on_test(1)})


def test_stacking_works_on_a_single_task():
    tables, tests = {"a": one_task(oof(1), "age")}, {"a": one_task(on_test(1), "age")}
    assert list(ensemble.stack(tables, tests)[1].columns) == list(ATTRIBUTE_PROBABILITIES["age"])


def test_combine_is_the_vote_of_both_and_refuses_what_means_nothing():
    tables, tests = {"a": oof(1), "b": oof(2)}, {"a": on_test(1), "b": on_test(2)}
    found, tested = ensemble.combine(tables, tests, "hard", [2, 1])
    pd.testing.assert_frame_equal(found, ensemble.vote(tables, "hard", [2, 1]))
    pd.testing.assert_frame_equal(tested, ensemble.vote(tests, "hard", [2, 1]))
    with pytest.raises(ParameterError, match="learns its own"):
        ensemble.combine(tables, tests, "stacked", [2, 1])
    with pytest.raises(ParameterError, match="same runs"):
        ensemble.combine(tables, {"a": tests["a"]}, "soft")
    with pytest.raises(ParameterError, match="stacked"):
        ensemble.combine(tables, tests, "stack")


def test_agreement_is_the_share_of_equal_classes(tables):
    shares = ensemble.agreement(tables)
    choices = values(tables).argmax(axis=2)
    np.testing.assert_allclose(shares, (choices[:, None] == choices[None]).mean(axis=2))


def test_figures_state_their_finding():
    tables, gains = {"a": oof(1), "b": oof(2)}, {("a", "none"): oof(1, 1.0), ("a", "hflip"): oof(1, 3.0)}
    frame = pd.concat({k: metrics.by_fold(v) for k, v in gains.items()}, names=["run", "view"]).reset_index()
    assert plots.tta_gain(frame).get_title().startswith("Best view hflip: +0.")
    assert plots.tta_gain(frame[frame["view"] == "none"]).get_title().startswith("Without TTA")
    share = (tables["a"][P].to_numpy().argmax(1) == tables["b"][P].to_numpy().argmax(1)).mean()
    assert plots.agreement(tables).get_title() == f"Two members agree on {share:.0%} of photos"
    perfect = oof(1).assign(**dict(zip(P, np.eye(18)[LABEL].T, strict=True)))
    assert plots.confusion(perfect).get_title() == "No photo is confused"
    everyone_normal = pd.Series(np.full(len(KEYS), 17))
    assert "normal female >=60" in plots.class_counts(everyone_normal, perfect).get_title()
    plt.close("all")
