"""Learned weights, decisions, and estimates in which nobody influences what scores them."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from lib.errors import DataError, ParameterError
from lib.plots import ensemble as plots
from lib.score import decisions, ensemble, metrics, nested, selection
from lib.score.nested import Method
from lib.task.attributes import METRICS, parse

PEOPLE, PHOTOS = 60, 3
PERSON = np.repeat([f"{person:03d}" for person in range(PEOPLE)], PHOTOS)
KEYS = pd.Index([f"{person}/{n}" for n, person in enumerate(PERSON)], name="key")
FOLD = np.repeat(np.arange(PEOPLE) % 5, PHOTOS)
SOFT = Method("soft", "argmax")


def task_of(metric="macro_f1", classes="abcd", **more):
    return parse(
        {"attributes": {"kind": {"classes": list(classes)}}, "metric": metric, **more},
        "kinds",
        "kinds.yaml",
    )


TASK = task_of()
WIDE = parse(
    {"attributes": {name: {"classes": list("abcdefghi")} for name in ("x", "y", "z")}},
    "wide",
    "wide.yaml",
)


def softmax(logits):
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


def run(seed, label, skill, task=TASK):
    """An out-of-fold table; ``skill`` (a number, or one per photo) is added to the true logit."""
    logits = np.random.default_rng(seed).normal(size=(len(KEYS), len(task.classes())))
    logits[np.arange(len(KEYS)), label] += skill
    table = pd.DataFrame(softmax(logits), KEYS, task.columns())
    return table.assign(fold=FOLD, label=label, person=PERSON)


def labels(seed, chances=(0.25, 0.25, 0.25, 0.25)):
    """A class per person, the same for all of their photos."""
    found = np.random.default_rng(seed).choice(len(chances), PEOPLE, p=chances)
    return np.repeat(found, PHOTOS)


def guesses(table, task=TASK):
    return metrics.predicted(table, task)[task.parts()].to_numpy()


# Learned weights


@pytest.mark.parametrize("metric", METRICS)
def test_the_quick_metric_is_the_official_one(metric):
    rng = np.random.default_rng(0)
    for classes in (2, 5):
        true, chances = rng.integers(0, classes, 50), rng.dirichlet(np.ones(classes), 50)
        expected = metrics.METRICS[metric](true, chances.argmax(axis=1), chances)
        assert selection.measured(true, chances, metric) == pytest.approx(expected)


def planted_pair():
    """Six runs: two know one half of the photos each, four are noise."""
    label, half = labels(0), np.arange(len(KEYS)) % 2
    skills = {"a": 0, "left": 3 * half, "b": 0, "c": 0, "right": 3 * (1 - half), "d": 0}
    return {name: run(k, label, skill) for k, (name, skill) in enumerate(skills.items())}


def test_greedy_finds_the_planted_best_pair():
    tables = planted_pair()
    score = {
        pair: metrics.score(ensemble.vote({n: tables[n] for n in pair}, TASK, "soft"), TASK)
        for pair in itertools.combinations(tables, 2)
    }
    pair = max(score, key=score.get)
    assert set(pair) == {"left", "right"}
    weights = ensemble.learned_weights(tables, TASK, "greedy")
    assert weights["left"] + weights["right"] > 0.8
    voted = ensemble.vote(tables, TASK, "soft", list(weights.values()))
    assert metrics.score(voted, TASK) >= score[pair] > metrics.score(tables["left"], TASK) + 0.1


def test_greedy_is_never_worse_than_the_best_run_on_its_own_rows():
    label = labels(1)
    for seed in range(5):
        tables = {f"r{k}": run(10 * seed + k, label, 0.5) for k in range(4)}
        scores = {name: metrics.score(table, TASK) for name, table in tables.items()}
        best = ensemble.learned_weights(tables, TASK, "best")
        assert best == {name: float(name == max(scores, key=scores.get)) for name in tables}
        weights = ensemble.learned_weights(tables, TASK, "greedy")
        assert sum(weights.values()) == pytest.approx(1)
        voted = ensemble.vote(tables, TASK, "soft", list(weights.values()))
        assert metrics.score(voted, TASK) >= max(scores.values())


def test_best_and_greedy_are_soft_votes_with_their_weights():
    tables = planted_pair()
    tests = {name: table.drop(columns=["label", "person"]) for name, table in tables.items()}
    for method in selection.LEARNED:
        weights = list(ensemble.learned_weights(tables, TASK, method).values())
        _, tested = ensemble.combine(tables, tests, TASK, method)
        pd.testing.assert_frame_equal(tested, ensemble.vote(tests, TASK, "soft", weights))
        with pytest.raises(ParameterError, match="learns its own"):
            ensemble.combine(tables, tests, TASK, method, [1] * 6)
        nobody = {name: table[:0] for name, table in tables.items()}
        with pytest.raises(DataError, match="learns from validated people"):
            ensemble.combine(nobody, tests, TASK, method)
    assert ensemble.learned_weights(tables, TASK, "soft") == {}


def test_one_class_among_the_others_is_stacked_as_certain():
    table = run(0, labels(0), 1).assign(label=2)
    found, _ = ensemble.stack({"a": table}, {"a": table}, TASK)
    assert (found[TASK.columns()].to_numpy() == np.eye(4)[2]).all()


# Decisions


def expected_score(chances, guess):
    """The plug-in expectation of macro F1, as its definition says."""
    eye = np.eye(chances.shape[1])[guess]
    return np.mean(2 * (chances * eye).sum(axis=0) / (chances.sum(axis=0) + eye.sum(axis=0)))


@pytest.mark.parametrize(("classes", "photos"), [(2, 8), (3, 6)])
def test_expected_f1_is_that_of_brute_force(classes, photos):
    rng, equal = np.random.default_rng(0), []
    for _ in range(40):
        chances = rng.dirichlet(np.full(classes, 0.7), photos)
        every = itertools.product(range(classes), repeat=photos)
        best = max(expected_score(chances, np.array(guess)) for guess in every)
        found = expected_score(chances, decisions.expected_f1(chances))
        assert expected_score(chances, chances.argmax(axis=1)) <= found + 1e-12
        assert 0.9 * best <= found <= best + 1e-12
        equal.append(found > best - 1e-9)
    assert np.mean(equal) >= 0.8


def test_expected_f1_beats_argmax_where_probabilities_are_true_and_classes_rare():
    rng = np.random.default_rng(0)
    chances = softmax(rng.normal(size=(5000, 4)) + [2, 1, 0, -1])
    true = (chances.cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
    plain, decided = chances.argmax(axis=1), decisions.expected_f1(chances)
    gain = f1_score(true, decided, average="macro") - f1_score(true, plain, average="macro")
    assert gain > 0.05
    assert expected_score(chances, decided) == pytest.approx(
        f1_score(true, decided, average="macro"), abs=0.02
    )


def test_expected_f1_can_do_without_a_class_that_has_no_probability():
    chances = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    assert list(decisions.expected_f1(chances)) == [0, 1]


def offset_score(chances, offsets, true, metric):
    return selection.measured(true, softmax(np.log(chances) + offsets), metric)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "balanced_accuracy", "quadratic_kappa"])
@pytest.mark.parametrize("classes", [2, 3])
def test_offsets_score_as_the_best_of_a_grid(metric, classes):
    """In one dimension they find the best; with more, one class after the other, nearly so."""
    steps = np.arange(-3, 3.1, 0.25)
    grid = [np.array([0, *rest]) for rest in itertools.product(steps, repeat=classes - 1)]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        chances = rng.dirichlet(np.ones(classes), 60)
        shifted = softmax(np.log(chances) + rng.normal(size=classes))
        true = (shifted.cumsum(axis=1) < rng.random((60, 1))).sum(axis=1)
        best = max(offset_score(chances, offsets, true, metric) for offsets in grid)
        found = decisions.fit_offsets(chances, true, metric)
        assert found.sum() == pytest.approx(0)
        slack = 0 if classes == 2 else 0.03
        assert offset_score(chances, found, true, metric) >= best - slack - 1e-9


def test_offsets_stay_where_nothing_improves():
    label = np.arange(40) % 4
    perfect = np.eye(4)[label] * 0.9 + 0.025
    assert list(decisions.fit_offsets(perfect, label, "macro_f1")) == [0, 0, 0, 0]


def test_a_decision_is_made_for_each_part_alone():
    rng = np.random.default_rng(0)
    chances = {name: rng.dirichlet(np.full(9, 0.3), len(KEYS)) for name in WIDE.names}
    frames = [pd.DataFrame(chances[name], KEYS, WIDE.columns(name)) for name in WIDE.names]
    label = rng.integers(0, 9**3, len(KEYS))
    oof = pd.concat(frames, axis=1).assign(label=label, person=PERSON)
    for decision in ("expected_f1", "offsets"):
        decided = decisions.decide(oof, oof.drop(columns="label"), WIDE, decision)
        found = metrics.predicted(decided, WIDE)
        for name, true in WIDE.decode(label).items():
            offsets = decisions.fit_offsets(chances[name], true, "macro_f1")
            shifted = (np.log(chances[name].clip(1e-7)) + offsets).argmax(axis=1)
            expected = {"expected_f1": decisions.expected_f1(chances[name]), "offsets": shifted}
            np.testing.assert_array_equal(found[name], expected[decision])


def test_argmax_leaves_the_table_and_other_decisions_its_facts():
    table = run(0, labels(0), 1)
    assert decisions.decide(table, table, TASK, "argmax") is table
    decided = decisions.decide(table, table, TASK, "offsets")
    assert set(np.unique(decided[TASK.columns()])) == {0, 1}
    pd.testing.assert_frame_equal(
        decided[["fold", "label", "person"]], table[["fold", "label", "person"]]
    )
    with pytest.raises(DataError, match="there are none; take argmax"):
        decisions.decide(table[:0], table, TASK, "offsets")


@pytest.mark.parametrize(
    ("task", "vote", "decision", "said"),
    [
        (task_of("log_loss"), "soft", "offsets", "does not serve the metric log_loss.*: argmax$"),
        (task_of("accuracy"), "soft", "expected_f1", "metric accuracy.*: argmax, offsets$"),
        (TASK, "hard", "offsets", "vote='hard' gives shares of votes.*: argmax$"),
        (task_of(answer={"format": "probabilities"}), "soft", "offsets", "submits probabilities"),
        (TASK, "soft", "ofsets", r"decision='ofsets' is not one of.*did you mean 'offsets'"),
    ],
)
def test_decisions_that_mean_nothing_are_refused(task, vote, decision, said):
    with pytest.raises(ParameterError, match=said):
        decisions.check(task, vote, decision)


# Nested estimates


def all_methods(tables, task=TASK):
    return nested.methods(tables, task, SOFT)


def test_methods_are_the_meaningful_combinations_the_simplest_first():
    tables = {"a": run(0, labels(0), 1), "b": run(1, labels(0), 1)}
    found = all_methods(tables)
    assert found[:2] == [Method("best", "argmax"), SOFT]
    assert len(found) == 7 + 5 + 5
    assert [str(m) for m in all_methods({"a": tables["a"]})] == [
        f"{vote}, {rule}" for rule in decisions.DECISIONS for vote in ("soft", "stacked")
    ]
    assert {m.decision for m in all_methods(tables, task_of("log_loss"))} == {"argmax"}
    few = {"a": tables["a"][: 10 * PHOTOS]}
    assert [str(m) for m in all_methods(few)] == ["soft, argmax", "soft, expected_f1"]
    assert Method("greedy", "argmax") in nested.methods(few, TASK, Method("greedy", "argmax"))


def test_what_learns_nothing_is_estimated_as_it_is_submitted():
    tables = {"a": run(0, labels(0), 1), "b": run(1, labels(0), 1).sample(frac=1, random_state=0)}
    methods = [Method(vote, "argmax") for vote in ensemble.VOTES]
    for method, found in nested.estimate(tables, TASK, methods, [2, 1]).items():
        expected = ensemble.vote(tables, TASK, method.vote, [2, 1])
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("same_folds", [True, False])
def test_people_do_not_influence_what_scores_them(same_folds):
    """Other labels of a person change none of that person's nested predictions."""
    label = labels(2, (0.5, 0.3, 0.1, 0.1))
    tables = {"a": run(0, label, 0.7), "b": run(1, label, 0.7), "c": run(2, label, 0.4)}
    if not same_folds:
        tables["a"] = tables["a"].assign(fold=(FOLD + 1) % 5)
    methods = [
        Method("greedy", "argmax"), Method("stacked", "argmax"), Method("best", "expected_f1"),
        Method("soft", "offsets"), Method("greedy", "offsets"), Method("stacked", "offsets"),
    ]  # fmt: skip
    before = nested.estimate(tables, TASK, methods)
    moved = set()
    for person in ("007", "031"):
        own = person == PERSON
        changed = np.where(own, (label + 1) % 4, label)
        other = {name: table.assign(label=changed) for name, table in tables.items()}
        for method, table in nested.estimate(other, TASK, methods).items():
            same = guesses(table) == guesses(before[method])
            assert same[own].all(), (person, str(method))
            moved |= {method} if not same.all() else set()
    assert {Method("soft", "offsets"), Method("stacked", "argmax")} <= moved


def test_the_runs_own_folds_are_used_where_all_share_them():
    table = run(0, labels(0), 1)
    pairs = nested._folds({"a": table, "b": table})
    assert [set(FOLD[held]) for _, held in pairs] == [{0}, {1}, {2}, {3}, {4}]
    for other in (table.assign(fold=(FOLD + 1) % 5), table.assign(fold=0)):
        pairs = nested._folds({"a": other, "b": table} if other["fold"].any() else {"a": other})
        assert len(pairs) == nested.OUTER_FOLDS
        assert sorted(np.concatenate([held for _, held in pairs])) == list(range(len(KEYS)))
        assert all(not set(PERSON[others]) & set(PERSON[held]) for others, held in pairs)


def chance(table, task, draws=40):
    """The score of predictions against labels that are shuffled over people."""
    rng, chances = np.random.default_rng(0), table[task.columns()].to_numpy()
    by_person = table["label"].to_numpy().reshape(PEOPLE, PHOTOS)
    shuffled = [rng.permutation(by_person).ravel() for _ in range(draws)]
    return np.mean([selection.measured(label, chances, task.metric) for label in shuffled])


def test_on_random_labels_no_method_beats_chance():
    """Four sets of noise: what is learned looks better than chance in-sample, never nested."""
    learned = [Method("greedy", "argmax"), Method("soft", "offsets"), Method("greedy", "offsets")]
    inside, outside, covered = {}, {}, []
    for seed in range(4):
        label = labels(seed)
        tables = {f"r{k}": run(100 * seed + k, label, 0) for k in range(3)}
        methods = all_methods(tables)
        estimates = nested.estimate(tables, TASK, methods)
        lows = nested.compare(estimates, TASK).table()["low"]
        for method, table in estimates.items():
            by_chance = chance(table, TASK)
            covered.append(lows[method] <= by_chance)
            outside.setdefault(method, []).append(metrics.score(table, TASK) - by_chance)
        for method in learned:
            known, _ = ensemble.combine(tables, tables, TASK, method.vote)
            seen = decisions.decide(known, known, TASK, method.decision)
            inside.setdefault(method, []).append(metrics.score(seen, TASK) - chance(seen, TASK))
    assert np.mean(covered) > 0.95
    assert max(np.mean(gains) for gains in outside.values()) < 0.03
    assert min(np.mean(inside[method]) for method in learned) > 0.045


# The recommendation


def comparison(tables, methods, task=TASK):
    return nested.compare(nested.estimate(tables, task, methods), task)


def test_a_clear_gain_is_recommended_and_noise_is_not():
    label, half = labels(3), np.arange(len(KEYS)) % 2
    methods = [
        Method("best", "argmax"),
        SOFT,
        Method("soft", "expected_f1"),
        Method("greedy", "offsets"),
    ]
    equal = {"a": run(0, label, 1.5), "b": run(0, label, 1.5)}
    same = comparison(equal, methods)
    assert same.recommended == same.simplest == Method("best", "argmax")
    assert "+0.000" in same.why() or "-" in same.why()
    halves = {"a": run(0, label, 4 * half), "b": run(1, label, 4 * (1 - half))}
    clear = comparison(halves, methods)
    assert clear.recommended == SOFT
    row = clear.table().loc[("soft", "argmax")]
    assert 0 < row["gain_low"] < row["gain"] < row["gain_high"]
    assert row["low"] < row["score"] < row["high"]
    assert "Your parameters take it" in clear.advice(SOFT)
    other = clear.advice(Method("greedy", "offsets"))
    assert "take greedy, offsets" in other
    assert "set vote='soft' and decision='argmax'" in other
    facts = clear.facts(Method("soft", "expected_f1"))
    assert facts["decision_uses_all_test_photos"] is True
    assert (facts["decision"], facts["recommended"]) == ("expected_f1", "soft, argmax")
    assert plots.methods(clear).get_title() == "Recommended (diamond): soft, argmax"
    plt.close("all")


def test_simultaneous_intervals_hold_all_true_differences():
    """Many equally good methods: in 95 % of samples no interval excludes the true difference 0."""
    rng, wrong = np.random.default_rng(0), 0
    methods = pd.MultiIndex.from_tuples([(f"v{k}", "argmax") for k in range(15)])
    for _ in range(400):
        means = rng.normal(size=15)
        draws = pd.DataFrame(means + rng.normal(size=(300, 15)), columns=methods)
        gains = nested.Comparison(pd.Series(means, methods), draws).gains(("v0", "argmax"))
        wrong += ((gains["low"] > 0) | (gains["high"] < 0)).any()
    assert 0.02 < wrong / 400 < 0.09


def test_few_people_learn_nothing_and_nobody_compares_nothing():
    tables = {"a": run(0, labels(0), 1)[: 10 * PHOTOS], "b": run(1, labels(0), 1)[: 10 * PHOTOS]}
    assert len(nested.estimate(tables, TASK, all_methods(tables))) == 6
    for method in (Method("greedy", "argmax"), Method("soft", "offsets")):
        with pytest.raises(DataError, match="at least 20 validated people, there are 10"):
            nested.estimate(tables, TASK, [method])
    nobody = {"a": tables["a"][:0]}
    nothing = comparison(nobody, all_methods(nobody))
    assert nothing.recommended == SOFT
    assert nothing.why().startswith("Nobody was validated")
    assert nothing.table().isna().all(axis=None)
    plots.methods(nothing)
    plt.close("all")
