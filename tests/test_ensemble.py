import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import TASK
from scipy.stats import gmean, mode
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from lib.errors import DataError, ParameterError
from lib.plots import ensemble as plots
from lib.score import ensemble, metrics
from lib.task.attributes import parse
from lib.task.tables import probabilities

P = TASK.columns()
PEOPLE, PHOTOS = 40, 5
KEYS = pd.Index(
    [f"{person:03d}/mask{photo}" for person in range(PEOPLE) for photo in range(PHOTOS)], name="key"
)
PERSON = np.repeat([f"{person:03d}" for person in range(PEOPLE)], PHOTOS)
LABEL = np.random.default_rng(99).integers(0, 18, len(KEYS))
ATTRIBUTES = {"shape": "abcdefghi", "colour": "abcdefgh", "size": "stuvwxyz"}
WIDE = parse(
    {"attributes": {name: {"classes": list(classes)} for name, classes in ATTRIBUTES.items()}},
    "wide",
    "wide.yaml",
)
WIDE_LABEL = np.random.default_rng(98).integers(0, 576, len(KEYS))


def oof(seed, skill=2.0):
    logits = np.random.default_rng(seed).normal(size=(len(KEYS), 18))
    logits[np.arange(len(KEYS)), LABEL] += skill
    odds = np.exp(logits)
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), KEYS, P)
    return table.assign(fold=np.arange(len(KEYS)) // PHOTOS % 5, label=LABEL, person=PERSON)


def shuffled(table, seed=0):
    return table.sample(frac=1, random_state=seed)


def on_test(seed, folds=3, skill=2.0):
    parts = [
        oof(100 * seed + k, skill).drop(columns=["label", "person"]).assign(fold=k)
        for k in range(folds)
    ]
    return shuffled(pd.concat(parts), seed)


def of_attribute(table, name):
    """The table of a run that learned one attribute only (keys may repeat)."""
    return pd.concat([probabilities(table, TASK, name), table.drop(columns=P)], axis=1)


def partial_runs(table):
    return {f"run_{name}": of_attribute(table, name) for name in TASK.names}


def labels_of(table):
    return metrics.predicted(table, TASK)["label"].loc[KEYS].to_numpy()


def values(tables):
    """All members of the tables in one key order: (members, photos, 18)."""
    return np.stack([part.loc[KEYS, P].to_numpy() for part in ensemble.members(tables).values()])


@pytest.fixture(params=["oof", "test"])
def tables(request):
    make = oof if request.param == "oof" else on_test
    return {"a": make(1), "b": shuffled(make(2)), "c": make(3)}


@pytest.mark.parametrize("method", ensemble.VOTES)
def test_votes_are_probabilities_in_the_keys_own_rows(tables, method):
    voted = ensemble.vote(tables, TASK, method)
    assert list(voted.index) == list(
        ensemble.members(tables)[next(iter(ensemble.members(tables)))].index
    )
    assert sorted(voted.index) == sorted(KEYS)
    np.testing.assert_allclose(voted[P].sum(axis=1), 1)
    again = ensemble.vote(dict(reversed(tables.items())), TASK, method)
    pd.testing.assert_frame_equal(voted[P], again.loc[voted.index, P])
    np.testing.assert_array_equal(labels_of(voted), labels_of(again))


def test_soft_and_geometric_votes_match_numpy_and_scipy(tables):
    np.testing.assert_allclose(
        ensemble.vote(tables, TASK, "soft").loc[KEYS, P], values(tables).mean(axis=0)
    )
    expected = gmean(values(tables), axis=0)
    np.testing.assert_allclose(
        ensemble.vote(tables, TASK, "geometric").loc[KEYS, P],
        expected / expected.sum(axis=1, keepdims=True),
        rtol=1e-6,
    )


def test_hard_vote_is_the_mode_and_ties_go_to_the_largest_summed_probability(tables):
    stacked = values(tables)
    choices, found = (
        stacked.argmax(axis=2),
        labels_of(ensemble.vote(tables, TASK, "hard")),
    )
    counts = np.stack([(choices == k).sum(axis=0) for k in range(18)], axis=1)
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert 0 < tied.sum() < len(tied)
    np.testing.assert_array_equal(found[~tied], mode(choices, axis=0).mode[~tied])
    among_the_tied = np.where(
        counts == counts.max(axis=1, keepdims=True), stacked.sum(axis=0), -1
    ).argmax(axis=1)
    np.testing.assert_array_equal(found, among_the_tied)


def test_rank_vote_is_the_mean_rank_within_a_photo(tables):
    order = values(tables).argsort(axis=2).argsort(axis=2).mean(axis=0)
    np.testing.assert_allclose(
        ensemble.vote(tables, TASK, "rank").loc[KEYS, P],
        order / order.sum(axis=1, keepdims=True),
        atol=1e-6,
    )


def test_one_confident_zero_does_not_veto_a_class():
    a, b = oof(1), oof(1)
    b[P] = np.eye(18)[(LABEL + 1) % 18]
    assert np.isfinite(ensemble.vote({"a": a, "b": b}, TASK, "geometric")[P]).all(axis=None)


def test_weights_belong_to_runs_whatever_their_number_of_folds():
    tables = {"a": on_test(1, folds=2), "b": on_test(2, folds=4)}
    mean = {run: table.groupby(level=0)[P].mean().loc[KEYS] for run, table in tables.items()}
    np.testing.assert_allclose(
        ensemble.vote(tables, TASK, "soft", [3, 1]).loc[KEYS, P],
        0.75 * mean["a"] + 0.25 * mean["b"],
    )
    np.testing.assert_allclose(
        ensemble.vote(tables, TASK, "soft").loc[KEYS, P], (mean["a"] + mean["b"]) / 2
    )
    only = ensemble.vote({"a": tables["a"]}, TASK, "hard")
    pd.testing.assert_frame_equal(ensemble.vote(tables, TASK, "hard", [1, 0]), only)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, -1], [0, 0], [1, float("nan")]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ParameterError, match=r"2 numbers from 0 up, one per run \(a, b\)"):
        ensemble.vote({"a": oof(1), "b": oof(2)}, TASK, "soft", weights)


def test_facts_are_kept_where_the_members_agree():
    a, b = oof(1), oof(2)
    pd.testing.assert_frame_equal(
        ensemble.vote({"a": a, "b": shuffled(b)}, TASK, "soft").drop(columns=P), a.drop(columns=P)
    )
    other_folds = b.assign(fold=(b["fold"] + 1) % 5)
    assert list(ensemble.vote({"a": a, "b": other_folds}, TASK, "soft").columns) == [
        *P,
        "label",
        "person",
    ]
    assert list(ensemble.vote({"a": on_test(1)}, TASK, "soft").columns) == P
    with pytest.raises(DataError, match="a and b disagree on the label of 1 keys"):
        ensemble.vote(
            {
                "a": a,
                "b": b.assign(label=b["label"].where(b.index != KEYS[7], 0 if LABEL[7] else 1)),
            },
            TASK,
            "soft",
        )


def test_misfits_are_named():
    a = oof(1)
    with pytest.raises(
        DataError, match=r"b lacks 2 keys \(000/mask0, 000/mask1\), compared with a"
    ):
        ensemble.align({"a": a, "b": a.iloc[2:]}, TASK)
    with pytest.raises(DataError, match="b adds 1 keys"):
        ensemble.align({"a": a.iloc[1:], "b": a}, TASK)
    two = on_test(1, folds=2)
    gap = two[~((two["fold"] == 1) & (two.index == KEYS[0]))]
    with pytest.raises(DataError, match="b/fold1 lacks 1 keys"):
        ensemble.vote({"a": on_test(2), "b": gap}, TASK, "soft")
    with pytest.raises(DataError, match="do not sum to 1"):
        ensemble.align({"a": a.assign(p00=np.nan)}, TASK)
    with pytest.raises(ParameterError, match="at least one run"):
        ensemble.vote({}, TASK, "soft")
    with pytest.raises(ParameterError, match=r"vote='sotf' is not one of: soft.*mean 'soft'"):
        ensemble.vote({"a": a}, TASK, "sotf")
    with pytest.raises(ParameterError, match="learned different things"):
        ensemble.vote({"a": a, "b": of_attribute(a, "age")}, TASK, "soft")


def test_joined_attributes_are_the_outer_product(tables):
    single = partial_runs(tables["a"])
    single["run_age"] = shuffled(single["run_age"], 5)
    joined = ensemble.join_attributes(dict(reversed(single.items())), TASK)
    rows = [table.set_index("fold", append=True).sort_index() for table in single.values()]
    joined = joined.set_index("fold", append=True).sort_index()
    for mask, gender, age in [(0, 0, 0), (1, 1, 2), (2, 0, 1)]:
        expected = rows[0][f"mask_{mask}"] * rows[1][f"gender_{gender}"] * rows[2][f"age_{age}"]
        label = TASK.encode({"mask": mask, "gender": gender, "age": age})
        np.testing.assert_allclose(joined[P[label]], expected)
    for name, run in zip(TASK.names, rows, strict=True):
        np.testing.assert_allclose(probabilities(joined, TASK, name), run[TASK.columns(name)])


def test_single_tasks_may_be_voted_before_they_are_joined():
    for make in (oof, on_test):
        runs = {
            attribute: {
                "a": of_attribute(make(1), attribute),
                "b": of_attribute(make(2), attribute),
            }
            for attribute in TASK.names
        }
        joined = ensemble.join_attributes(
            {attribute: ensemble.vote(pair, TASK, "soft") for attribute, pair in runs.items()}, TASK
        )
        np.testing.assert_allclose(joined[P].sum(axis=1), 1)


def test_complete_joins_single_tasks_and_leaves_the_rest(tables):
    found = ensemble.complete({**partial_runs(tables["a"]), "b": tables["b"]}, TASK)
    assert list(found) == ["b", "run_mask+run_gender+run_age"]
    assert len(ensemble.vote(found, TASK, "soft")) == len(KEYS)
    assert ensemble.complete(tables, TASK) == tables


def test_attributes_that_do_not_fit_are_refused():
    single = partial_runs(oof(1))
    with pytest.raises(ParameterError, match="'age': \\[\\]"):
        ensemble.join_attributes(
            {run: table for run, table in single.items() if run != "run_age"}, TASK
        )
    with pytest.raises(ParameterError, match=r"'age': \['run_age', 'more'\]"):
        ensemble.join_attributes({**single, "more": single["run_age"]}, TASK)
    with pytest.raises(ParameterError, match="learned everything"):
        ensemble.join_attributes({**single, "whole": oof(1)}, TASK)
    with pytest.raises(DataError, match="run_age lacks 1 keys"):
        ensemble.join_attributes({**single, "run_age": single["run_age"].iloc[1:]}, TASK)
    age = single["run_age"]
    with pytest.raises(
        DataError, match=r"run_mask and run_age have different folds for 1 keys \(003\)"
    ):
        ensemble.join_attributes(
            {**single, "run_age": age.assign(fold=age["fold"].where(age["person"] != "003", 4))},
            TASK,
        )


def test_stacking_beats_the_mean_where_one_run_is_noise():
    tables = {
        "good": oof(1, skill=4.0),
        "noise": oof(2, skill=0.0).assign(**oof(3, skill=0)[P].pow(9).pipe(normalised)),
    }
    tests = {run: on_test(k, skill=4.0 * (run == "good")) for k, run in enumerate(tables, start=1)}
    found, tested = ensemble.combine(tables, tests, TASK, "stacked")
    assert (
        metrics.summary(found, TASK)["macro_f1"]
        > metrics.summary(ensemble.vote(tables, TASK, "soft"), TASK)["macro_f1"] + 0.05
    )
    assert f1_score(LABEL, labels_of(tested), average="macro") > 0.5
    np.testing.assert_allclose(tested[P].sum(axis=1), 1)


def normalised(table):
    return table.div(table.sum(axis=1), axis=0)


def test_stacked_score_is_honest_about_people():
    """Noise that all photos of a person share tells who it is: cross-fitted, it must not score."""
    noise = normalised(
        pd.DataFrame(np.random.default_rng(0).random((PEOPLE, 18)).repeat(PHOTOS, axis=0), KEYS, P)
    )
    person_class = np.random.default_rng(1).integers(0, 18, PEOPLE).repeat(PHOTOS)
    table = noise.assign(fold=0, label=person_class, person=PERSON)
    features = np.log(noise.to_numpy())
    seen = (
        LogisticRegression(max_iter=1000, C=100)
        .fit(features, person_class)
        .score(features, person_class)
    )
    found, _ = ensemble.stack({"a": table}, {"a": on_test(1)}, TASK)
    assert seen > 0.8
    assert metrics.summary(found, TASK)["accuracy"] < 0.25


def test_stacking_leaves_absent_classes_at_zero_and_needs_people():
    table = oof(1).loc[lambda frame: frame["label"] != 17]
    found, tested = ensemble.stack({"a": table}, {"a": on_test(1)}, TASK)
    assert (found["p17"] == 0).all()
    assert (tested["p17"] == 0).all()
    with pytest.raises(DataError, match="at least 5 people"):
        ensemble.stack({"a": table[table["person"] < "003"]}, {"a": on_test(1)}, TASK)


def test_stacking_works_on_a_single_task():
    tables, tests = {"a": of_attribute(oof(1), "age")}, {"a": of_attribute(on_test(1), "age")}
    assert list(ensemble.stack(tables, tests, TASK)[1].columns) == TASK.columns("age")


def test_combine_is_the_vote_of_both_and_refuses_what_means_nothing():
    tables, tests = {"a": oof(1), "b": oof(2)}, {"a": on_test(1), "b": on_test(2)}
    found, tested = ensemble.combine(tables, tests, TASK, "hard", [2, 1])
    pd.testing.assert_frame_equal(found, ensemble.vote(tables, TASK, "hard", [2, 1]))
    pd.testing.assert_frame_equal(tested, ensemble.vote(tests, TASK, "hard", [2, 1]))
    with pytest.raises(ParameterError, match="learns its own"):
        ensemble.combine(tables, tests, TASK, "stacked", [2, 1])
    with pytest.raises(ParameterError, match="same runs"):
        ensemble.combine(tables, {"a": tests["a"]}, TASK, "soft")
    with pytest.raises(ParameterError, match="stacked"):
        ensemble.combine(tables, tests, TASK, "stack")


@pytest.mark.parametrize(
    ("names", "told"), [("a", "There is only one member."), ("ab", "All members agree")]
)
def test_agreement_without_a_difference_is_told_in_words(names, told, capsys):
    same = dict.fromkeys(names, on_test(0, folds=1))
    assert plots.agreement(same, TASK) is None
    assert told in capsys.readouterr().out


def test_agreement_is_the_share_of_equal_classes(tables):
    shares = ensemble.agreement(tables, TASK)
    choices = values(tables).argmax(axis=2)
    np.testing.assert_allclose(shares, (choices[:, None] == choices[None]).mean(axis=2))


def wide_oof(seed):
    """A table of a task too large for its labels: a table of each attribute, side by side."""
    rng = np.random.default_rng(seed)
    chances = [
        pd.DataFrame(rng.dirichlet(np.ones(len(WIDE.classes(n))), len(KEYS)), KEYS, WIDE.columns(n))
        for n in WIDE.names
    ]
    facts = {"fold": np.arange(len(KEYS)) // PHOTOS % 5, "label": WIDE_LABEL, "person": PERSON}
    return pd.concat(chances, axis=1).assign(**facts)


def test_several_parts_are_combined_part_by_part():
    tables = {"a": wide_oof(1), "b": wide_oof(2)}
    tests = {run: table.drop(columns=["label", "person"]) for run, table in tables.items()}
    for method in [*ensemble.VOTES, "stacked"]:
        found, tested = ensemble.combine(tables, tests, WIDE, method)
        assert list(found["label"]) == list(WIDE_LABEL)
        for name in WIDE.names:
            np.testing.assert_allclose(found[WIDE.columns(name)].sum(axis=1), 1)
            one = {run: probabilities(table, WIDE, name) for run, table in tests.items()}
            if method != "stacked":
                expected = ensemble.vote(one, WIDE, method)
                pd.testing.assert_frame_equal(tested[WIDE.columns(name)], expected)


def test_runs_that_share_a_wide_task_are_joined_side_by_side():
    table = wide_oof(1)
    columns = {name: WIDE.columns(name) for name in WIDE.names}
    shape = table.drop(columns=[*columns["colour"], *columns["size"]])
    rest = table.drop(columns=columns["shape"])
    assert ensemble.complete({"all": table}, WIDE) == {"all": table}
    joined = ensemble.complete({"rest": shuffled(rest), "shape": shape}, WIDE)["rest+shape"]
    everything = [column for names in columns.values() for column in names]
    pd.testing.assert_frame_equal(joined.loc[KEYS, everything], table[everything])
    with pytest.raises(ParameterError, match=r"'colour': \[\]"):
        ensemble.complete({"shape": shape}, WIDE)


def test_figures_state_their_finding():
    tables = {"a": oof(1), "b": oof(2)}
    gains = {("a", "none"): oof(1, 1.0), ("a", "hflip"): oof(1, 3.0)}
    by_fold = {run: metrics.by_fold(table, TASK) for run, table in gains.items()}
    frame = pd.concat(by_fold, names=["run", "view"]).reset_index()
    assert plots.tta_gain(frame, "macro_f1").get_title().startswith("Best view hflip: +0.")
    without = frame[frame["view"] == "none"]
    assert plots.tta_gain(without, "macro_f1").get_title().startswith("Without TTA")
    share = (tables["a"][P].to_numpy().argmax(1) == tables["b"][P].to_numpy().argmax(1)).mean()
    title = plots.agreement(tables, TASK).get_title().replace("\n", " ")
    assert title == f"Two members agree on {share:.0%} of photos"
    perfect = oof(1).assign(**dict(zip(P, np.eye(18)[LABEL].T, strict=True)))
    assert plots.confusions(perfect, TASK)[0].get_title() == "No photo is confused"
    last_class = oof(1).assign(**dict(zip(P, np.eye(18)[np.full(len(KEYS), 17)].T, strict=True)))
    (axes,) = plots.class_shares(last_class, perfect, TASK)
    assert "normal female >=60" in axes.get_title()
    plt.close("all")


def test_lines_between_labels_follow_the_tasks_shape():
    thin, thick = 0.7, 2.0
    expected = [(k, thin) for k in range(3, 18, 3)] + [(k, thick) for k in (6, 12)]
    assert plots._group_lines(TASK, "label") == expected
    assert plots._group_lines(TASK, "age") == []


def test_figures_can_be_drawn_of_two_classes_and_of_hundreds():
    pair = parse({"attributes": {"worn": {"classes": ["yes", "no"]}}}, "pair", "pair.yaml")
    many = {"attributes": {n: {"classes": [f"{n}{k}" for k in range(20)]} for n in "ab"}}
    many = parse(many, "many", "many.yaml")
    for task in (pair, many):
        chances = np.random.default_rng(0).dirichlet(np.ones(len(task.classes())), len(KEYS))
        table = pd.DataFrame(chances, KEYS, task.columns()).assign(label=0, fold=0, person=PERSON)
        assert "taken for" in plots.confusions(table, task)[0].get_title()
        assert len(plots.class_shares(table, table, task)) == 1
    assert len(plots.confusions(wide_oof(1), WIDE)) == 3
    plt.close("all")


def test_figures_of_nothing_say_so_in_words(capsys):
    nobody, none = oof(1)[:0], {"a": on_test(1)[:0]}
    frame = metrics.by_fold(nobody, TASK).reset_index().assign(run="", view="")
    assert plots.tta_gain(frame, "macro_f1") is None
    assert plots.agreement(none, TASK) is None
    assert plots.confusions(nobody, TASK) == plots.class_shares(none["a"], oof(1), TASK) == []
    assert capsys.readouterr().out.count("\n") == 4


def test_without_test_photos_only_the_out_of_fold_table_has_rows():
    tables, none = {"a": oof(1), "b": oof(2)}, {"a": on_test(1)[:0], "b": on_test(2)[:0]}
    for method in [*ensemble.VOTES, "stacked"]:
        found, tested = ensemble.combine(tables, none, TASK, method)
        assert (len(found), len(tested), set(P) - set(tested)) == (len(KEYS), 0, set())
