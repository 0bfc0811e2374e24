"""What holds for every task, table and seed: hypothesis draws examples and shrinks what fails.

The same examples each time, so that a test never fails by chance; ``EXAMPLES=5000`` in the
environment draws that many new ones.
"""

import csv
import os
import re
from bisect import bisect_right
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import folds
from lib.errors import DataError, ParameterError
from lib.learn import mixers
from lib.score import ensemble, submission
from lib.task.attributes import ANSWERS, PER, parse
from lib.task.tables import probabilities

EXAMPLES = os.environ.get("EXAMPLES")
every = settings(
    max_examples=int(EXAMPLES or 60), deadline=None, derandomize=not EXAMPLES, database=None
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def attributes(draw):
    """Draw the definition of an attribute: two or more classes, or numbers that are cut."""
    per = draw(st.sampled_from(PER))
    if draw(st.booleans()):
        return {"classes": [f"c{k}" for k in range(draw(st.integers(2, 5)))], "per": per}
    first, size = draw(st.integers(-50, 50)), draw(st.integers(2, 60))
    inner = st.integers(first + 1, first + size - 1)
    cuts = sorted(draw(st.sets(inner, min_size=1, max_size=4)))
    names = [f"g{k}" for k in range(len(cuts) + 1)]
    return {"values": [first, first + size - 1], "cuts": cuts, "names": names, "per": per}


@st.composite
def tasks(draw, formats=ANSWERS, most=3):
    """Draw a task of one to ``most`` attributes, in any order, with one of the answer formats."""
    described = draw(st.lists(attributes(), min_size=1, max_size=most))
    named = {f"a{k}": attribute for k, attribute in enumerate(described)}
    values = {
        "attributes": named,
        "label": draw(st.permutations(list(named))),
        "answer": {"format": draw(st.sampled_from(formats))},
    }
    return parse(values, "made", "made.yaml")


def tables(rng, task, keys, parts):
    """Return a random prediction table."""
    sizes = [len(task.columns(part)) for part in parts]
    values = np.hstack([rng.dirichlet(np.ones(size), len(keys)) for size in sizes])
    columns = [column for part in parts for column in task.columns(part)]
    return pd.DataFrame(values, pd.Index(keys, name="key"), columns)


def shuffled(rng, table):
    return table.iloc[rng.permutation(len(table))]


@every
@given(tasks(most=4), st.data())
def test_labels_count_through_all_classes_the_last_attribute_fastest(task, data):
    labels = np.arange(np.prod(task.shape))
    classes = task.decode(labels)
    assert list(classes) == task.names
    np.testing.assert_array_equal(list(classes.values()), np.unravel_index(labels, task.shape))
    np.testing.assert_array_equal(task.encode(classes), labels)
    assert len(task.classes()) == len(set(task.columns())) == len(labels)
    label = data.draw(st.integers(0, len(labels) - 1))
    names = [task.classes(name)[index] for name, index in task.decode(label).items()]
    assert task.classes()[label] == " ".join(names)


@every
@given(tasks(), seeds)
def test_groups_are_found_as_by_bisection_for_any_cuts(task, seed):
    rng = np.random.default_rng(seed)
    table = {name: rng.choice(task[name].recorded, 20) for name in task.names}
    other = {
        name: sorted(rng.choice(task[name].recorded[1:], len(task[name].cuts), False).tolist())
        for name in task.names
        if task[name].ordered
    }
    for cuts in ({}, other):
        for name, found in task.groups(table, cuts).items():
            edges = cuts.get(name, task[name].cuts)
            expected = [bisect_right(edges, v) if edges else v for v in table[name].tolist()]
            assert found.tolist() == expected
            assert found.dtype.kind == "i"
    groups = task.groups(table)
    again = task.decode(task.encode(groups))
    assert all((again[name] == groups[name]).all() for name in task.names)


@every
@given(tasks())
def test_every_recorded_number_is_read_back_from_its_text(task):
    for attribute in task.attributes.values():
        assert [attribute.parse(attribute.text(n)) for n in attribute.recorded] == [
            *attribute.recorded
        ]


@every
@given(tasks(), st.data())
def test_cuts_that_leave_a_group_empty_are_refused(task, data):
    for attribute in (a for a in task.attributes.values() if a.ordered):
        first, last = attribute.recorded[0], attribute.recorded[-1]
        cuts = [*attribute.cuts]
        place = data.draw(st.integers(0, len(cuts) - 1))
        before, after = ([first, *cuts])[place], ([*cuts, last + 1])[place + 1]
        cuts[place] = data.draw(st.sampled_from([before, after, before - 1, after + 1]))
        with pytest.raises(ParameterError, match=f"from {first + 1} to {last}"):
            attribute.checked_cuts(cuts)
        more = data.draw(st.sets(st.integers(first + 1, last)))
        if len(more) != len(cuts):
            with pytest.raises(ParameterError, match=f"must be {len(cuts)} rising"):
                attribute.checked_cuts(sorted(more))


@st.composite
def peoples(draw):
    """Draw (task, people, fold count): each group has at least as many people as there are folds.

    People in a stratum differ in what is recorded, such as the number of an ordered attribute.
    """
    task, count = draw(tasks()), draw(st.integers(2, 5))
    names = task.per("person") or task.names
    sizes = [len(task[name].classes) for name in names]
    strata = draw(st.sets(st.integers(0, int(np.prod(sizes)) - 1), min_size=1, max_size=5))
    rows = []
    for stratum in strata:
        classes = dict(zip(names, np.unravel_index(stratum, sizes), strict=True))
        rows += [classes] * (count + draw(st.integers(0, 6)))
    rng = np.random.default_rng(draw(seeds))
    people = pd.DataFrame({name: rng.choice(task[name].recorded, len(rows)) for name in task.names})
    for name in names:
        numbers = [[n for n in task[name].recorded if task[name].group(n) == row[name]]
                   for row in rows]  # fmt: skip
        people[name] = [rng.choice(found) for found in numbers]
    return task, people.set_index(pd.Index([f"p{k}" for k in range(len(rows))])), count


@every
@given(peoples(), seeds)
def test_folds_spread_every_group_evenly_and_validate_each_person_once(drawn, seed):
    task, people, count = drawn
    assigned = folds.assign(people, task, "kfold", count, seed)
    assert assigned.index.equals(people.index)
    spread = pd.crosstab(task.strata(people), assigned)
    assert spread.columns.tolist() == folds.numbers(assigned) == [*range(count)]
    assert (spread.max(axis=1) - spread.min(axis=1) <= 1).all()
    photos = pd.DataFrame({"person": people.index.repeat(3)})
    validated = []
    for fold in range(count):
        training, validation = folds.divide(photos, assigned, fold)
        assert not set(training["person"]) & set(validation["person"])
        assert sorted([*training.index, *validation.index]) == [*photos.index]
        validated += [*validation.index]
    assert sorted(validated) == [*photos.index]
    assert folds.assign(people, task, "kfold", count, seed).equals(assigned)
    holdout = folds.assign(people, task, "holdout", count, seed)
    assert holdout.equals(assigned.where(assigned == 0, folds.ALWAYS_TRAINED))
    assert folds.numbers(folds.assign(people, task, "none", count, seed)) == [0]


def test_people_on_both_sides_are_counted_and_the_first_three_named():
    people = pd.Series(list("edcba"))
    with pytest.raises(DataError, match=r"^5 people .* first \['a', 'b', 'c'\]: "):
        folds.check_disjoint(people, people)


@every
@given(
    st.sampled_from(list(mixers.MIXERS)),
    st.integers(1, 6),
    st.tuples(st.integers(8, 24), st.integers(8, 24)),
    st.lists(st.integers(2, 4), min_size=1, max_size=3),
    st.floats(0.05, 4),
    st.floats(0, 1),
    seeds,
)
def test_mixers_keep_shapes_and_mass_and_invent_nothing(
    name, count, size, classes, alpha, chance, seed
):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 timm draws from the global generator
    images, targets = torch.rand(count, 3, *size) * 255, torch.rand(count, *classes)
    targets /= targets.flatten(1).sum(1).view(-1, *[1] * len(classes))
    boxes = torch.rand(count, 4) * 40 - 8  # some lie outside, some are empty
    given_before = [tensor.clone() for tensor in (images, targets, boxes)]
    mixed, shares = mixers.make_mixer(name, alpha, chance)(images, targets, boxes)
    assert all(map(torch.equal, (images, targets, boxes), given_before))
    assert (mixed.shape, shares.shape) == (images.shape, targets.shape)
    torch.testing.assert_close(shares.flatten(1).sum(1), torch.ones(count))
    for found, source in ((mixed, images), (shares, targets)):
        assert found.min() >= source.min() - 1e-4
        assert found.max() <= source.max() + 1e-4


@every
@given(tasks(), st.integers(1, 8), seeds)
def test_joined_attributes_are_the_outer_product_whatever_the_order_of_rows(task, count, seed):
    rng, keys = np.random.default_rng(seed), [f"k{k}" for k in range(count)]
    facts = pd.DataFrame({"fold": rng.integers(0, 3, count), "person": keys}, keys)
    learned = {name: tables(rng, task, keys, [name]).join(facts) for name in task.names}
    shares = [learned[name][task.columns(name)].to_numpy() for name in task.names]
    expected = [reduce(np.multiply.outer, row).ravel() for row in zip(*shares, strict=True)]
    runs = {f"run {name}": shuffled(rng, learned[name]) for name in rng.permutation(task.names)}
    joined = ensemble.join_attributes(runs, task)
    assert sorted(joined.index) == sorted(keys)
    np.testing.assert_allclose(joined.loc[keys, task.columns()], expected, rtol=1e-9)
    assert joined.loc[keys, ["fold", "person"]].equals(facts.rename_axis("key"))
    for name in task.names:
        marginal = probabilities(joined, task, name).loc[keys]
        np.testing.assert_allclose(marginal, learned[name][task.columns(name)], atol=1e-9)


@every
@given(tasks(), st.sampled_from(list(ensemble.VOTES)), st.integers(1, 4), seeds)
def test_a_vote_does_not_depend_on_the_order_of_rows_or_members(task, method, members, seed):
    rng, keys = np.random.default_rng(seed), [f"k{k}" for k in range(6)]
    runs = {f"r{k}": tables(rng, task, keys, task.parts()) for k in range(members)}
    weights = dict(zip(runs, rng.integers(1, 4, members).tolist(), strict=True))
    voted = ensemble.vote(runs, task, method, [*weights.values()])
    order = rng.permutation([*runs])
    others = {name: shuffled(rng, runs[name]) for name in order}
    again = ensemble.vote(others, task, method, [weights[name] for name in order]).loc[keys]
    pd.testing.assert_frame_equal(voted, again, rtol=1e-9)
    for part in task.parts():
        np.testing.assert_allclose(voted[task.columns(part)].sum(axis=1), 1)
    if members == 1 and method == "soft":
        np.testing.assert_allclose(voted, runs["r0"])


@every
@given(tasks(), st.sampled_from([0, 0.5, 0.99, 1.01, 2, None]), seeds)
def test_rows_that_do_not_sum_to_1_are_refused_with_their_key(task, factor, seed):
    rng, keys = np.random.default_rng(seed), [f"k{k}" for k in range(4)]
    wrong = tables(rng, task, keys, task.parts())
    if factor is None:  # a gap, without which the others sum to 1
        wrong.loc["k2"] = np.eye(len(wrong.columns))[0]
        wrong.iloc[2, 1] = np.nan
    else:
        wrong.loc["k2"] *= factor
    with pytest.raises(DataError, match=r"1 keys \(k2\)"):
        ensemble.vote({"a": tables(rng, task, keys, task.parts()), "b": wrong}, task, "soft")


def test_runs_with_other_folds_are_not_joined_and_the_photos_are_named():
    classes = {"classes": ["x", "y"]}
    task = parse({"attributes": {"a": classes, "b": classes}}, "made", "made.yaml")
    rng, keys = np.random.default_rng(0), ["k0", "k1", "k2"]
    learned = {name: tables(rng, task, keys, [name]).assign(fold=0) for name in "ab"}
    learned["b"].loc["k1", "fold"] = 1
    with pytest.raises(DataError, match=r"different folds for 1 keys \(k1\)"):
        ensemble.join_attributes(learned, task)


IDS = st.lists(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
    min_size=3,
    max_size=8,
    unique=True,
)


def written(task, ids, rng, folder):
    """Write a submission of random predictions, at least two of them different; return its path."""
    table = tables(rng, task, ids, task.parts())
    for part in task.parts():
        table.loc[ids[:2], task.columns(part)] = np.eye(len(task.columns(part)))[:2]
    return submission.write("mine", shuffled(rng, table), ids, task, Path(folder))


@every
@given(tasks(), IDS, seeds)
def test_a_written_submission_always_passes(task, ids, seed):
    with TemporaryDirectory() as folder:
        path = written(task, ids, np.random.default_rng(seed), folder)
        submission.check(path, ids, task)
        assert submission.sample_ids(path, task) == ids
        path.write_bytes(path.read_bytes() + b"\n\n")  # blank rows change nothing
        submission.check(path, ids, task)


@every
@given(tasks(["index", "name"]), st.data())
def test_one_photo_may_be_answered_and_two_photos_not_alike(task, data):
    frame = pd.DataFrame({"path": ["a", "b"]})
    frame["label"] = data.draw(st.sampled_from(submission.accepted(task, "label")))
    submission.check(frame[:1], ["a"], task)
    with pytest.raises(DataError, match="all 2 rows answer"):
        submission.check(frame, ["a", "b"], task)


WRONG = {"index": ["-1", "99999", "1.0", "c0", "nan"], "probabilities": ["1.01", "-0.01", "c0"]}
TOLD = {
    "dropped": "photos missing: 1 rows",
    "doubled": "photos repeated: 1 rows",
    "swapped": r"row {row} is .* \(2 rows differ\)",
    "class": "outside the classes: .*accepted are {accepted}|that are no probabilities",
    "gap": "answers gaps: 1 rows",
    "header": "columns are|has no column",
}


@every
@given(tasks(), IDS, seeds, st.data())
def test_a_single_corruption_is_always_refused_with_its_reason(task, ids, seed, data):
    kind = data.draw(st.sampled_from(list(TOLD)))
    with TemporaryDirectory() as folder:
        path = written(task, ids, np.random.default_rng(seed), folder)
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        row, other = data.draw(st.permutations(range(len(rows))))[:2]
        column = data.draw(st.integers(1, len(header) - 1))
        if kind == "dropped":
            del rows[row]
        elif kind == "doubled":
            rows.insert(other, rows[row])
        elif kind == "swapped":
            rows[row], rows[other] = rows[other], rows[row]
        elif kind == "class":
            wrong = WRONG.get(task.answer.format, ["no such class", "0", "C0"])
            rows[row][column] = data.draw(st.sampled_from(wrong))
        elif kind == "gap":
            rows[row][column] = data.draw(st.sampled_from(["", " "]))
        else:
            place = data.draw(st.integers(0, len(header) - 1))
            header[place] = data.draw(st.sampled_from(["A", "z"])) + header[place]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        accepted = "0 to" if task.answer.format == "index" else r"\d+ names"
        told = TOLD[kind].format(row=min(row, other) + 1, accepted=accepted)
        with pytest.raises(DataError, match=re.compile(told, re.DOTALL)):
            submission.check(path, ids, task)


def test_negative_probabilities_are_refused_although_their_rows_sum_to_1():
    attributes = {"a": {"classes": ["x", "y", "z"]}}
    task = parse({"attributes": attributes, "answer": {"format": "probabilities"}}, "made", "")
    frame = pd.DataFrame([["p0", -0.01, 0.51, 0.5], ["p1", 0, 1, 0]], columns=["path", *"xyz"])
    with pytest.raises(DataError, match=r"no probabilities: 1 rows \(p0: '-0.01'\)"):
        submission.check(frame, ["p0", "p1"], task)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_first_row_that_moved_is_counted_from_1(row):
    ids = ["a", "b", "c", "d"]
    task = parse({"attributes": {"a": {"classes": ["x", "y"]}}}, "made", "")
    frame = pd.DataFrame({"path": ids, "label": [0, 1, 0, 1]})
    order = [*range(row), row + 1, row, *range(row + 2, 4)]
    with pytest.raises(DataError, match=rf"^row {row + 1} is '{ids[row + 1]}'"):
        submission.check(frame.iloc[order], ids, task)
