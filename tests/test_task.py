"""Tasks: what is derived from a definition, and what a wrong one is told."""

import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib.errors import ParameterError
from lib.task import tables
from lib.task.attributes import LABEL, TASKS, load, parse

COLOUR = {"classes": ["red", "green", "blue"]}
MANY = {name: {"classes": list("abcdefghi")} for name in "xyz"}  # 729 labels
SIZE = {"values": [0, 9], "cuts": [3, 6], "names": ["small", "middle", "large"], "per": "person"}


def made(**values):
    return parse({"attributes": {"colour": COLOUR, "size": SIZE}, **values}, "made", "made.yaml")


def fault(values):
    with pytest.raises(ParameterError) as caught:
        parse(values, "made", "made.yaml")
    return str(caught.value)


def test_the_competitions_label_is_mask_6_gender_3_age_group():
    mask, gender, group = (grid.ravel() for grid in np.indices((3, 2, 3)))
    label = 6 * mask + 3 * gender + group
    classes = {"mask": mask, "gender": gender, "age": group}
    np.testing.assert_array_equal(TASK.encode(classes), label)
    for name, values in TASK.decode(label).items():
        np.testing.assert_array_equal(values, classes[name])
    assert TASK.classes()[0] == "wear male <30"
    assert TASK.classes()[17] == "normal female >=60"
    assert TASK.columns() == [f"p{k:02d}" for k in range(18)]


def test_groups_start_at_their_cut():
    age = TASK["age"]
    years = np.array([18, 29, 30, 57, 59, 60])
    assert age.group(years).tolist() == [0, 0, 1, 1, 1, 2]
    assert age.group(years, [29, 57]).tolist() == [0, 1, 1, 2, 2, 2]
    assert age.group(pd.Series([29, 30], dtype="Int64")).tolist() == [0, 1]
    assert TASK.groups({"mask": 2, "gender": 1, "age": 60}) == {"mask": 2, "gender": 1, "age": 2}


@pytest.mark.parametrize(
    "cuts", [[30], [30, 61], [18, 60], [60, 30], [30, 30], [30.0, 60], [1, 2, 3]]
)
def test_cuts_that_empty_a_group_are_refused_with_the_range(cuts):
    with pytest.raises(ParameterError, match="from 19 to 60; officially \\[30, 60\\]"):
        TASK.checked_cuts({"age": cuts})


def test_what_the_task_lacks_is_refused_with_the_nearest():
    with pytest.raises(
        ParameterError, match="no attribute 'gendre', only mask, gender, age .*'gender'"
    ):
        TASK.learned(["gendre"])
    with pytest.raises(ParameterError, match="'woman' is not accepted, only male, female"):
        TASK.checked_drop({"gender": ["woman"]})
    with pytest.raises(ParameterError, match="age: '61' is not accepted, only 18 to 60"):
        TASK.checked_drop({"age": [61]})
    with pytest.raises(ParameterError, match="mask has no order"):
        TASK.checked_cuts({"mask": [1]})
    with pytest.raises(ParameterError, match="task='maks' is not one of: .*did you mean 'mask'"):
        load("maks")


def test_the_order_of_label_is_the_order_of_the_digits():
    task = made(label=["size", "colour"])
    assert task.names == ["size", "colour"]
    assert task.encode({"colour": 2, "size": 1}) == 5
    assert task.classes()[5] == "middle blue"


def test_some_attributes_make_a_label_of_their_own():
    assert TASK.encode({"gender": 1, "age": 2}) == 5
    assert TASK.combinations(["gender", "age"])[5] == "female >=60"
    assert TASK.strata({"mask": 2, "gender": 1, "age": 59}) == 4
    assert made().strata({"colour": 1, "size": 7}) == 2


def test_parts_are_the_label_or_the_attributes_learned():
    assert TASK.parts() == TASK.parts(["age", "mask", "gender"]) == [LABEL]
    assert TASK.parts(["age", "mask"]) == ["mask", "age"]
    large = parse({"attributes": MANY}, "large", "")
    assert not large.joint
    assert large.parts() == ["x", "y", "z"]


@pytest.mark.parametrize("path", sorted(TASKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_task_that_is_shipped_loads(path):
    task = load(path.stem)
    assert len(task.classes()) == np.prod(task.shape)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "attributes: list at least one"),
        ({"attributes": {"colour": COLOUR}, "metrics": "accuracy"}, "did you mean 'metric'"),
        ({"attributes": {"colour": COLOUR}, "metric": "f1"}, "metric='f1' is not one of: macro_f1"),
        (
            {"attributes": {"colour": COLOUR}, "label": ["size"]},
            "must list each attribute once: colour",
        ),
        ({"attributes": {"fold": COLOUR}}, "attribute 'fold'"),
        ({"attributes": {"a b": COLOUR}}, "attribute 'a b'"),
        ({"attributes": {"colour": {"classes": ["red"]}}}, "two or more different names"),
        ({"attributes": {"colour": {"classes": ["red", "red"]}}}, "two or more different names"),
        ({"attributes": {"colour": {"clases": ["a", "b"]}}}, "did you mean 'classes'"),
        ({"attributes": {"colour": {}}}, "give either classes, or values with cuts and names"),
        (
            {"attributes": {"colour": COLOUR | {"per": "people"}}},
            "per='people' is not one of: photo",
        ),
        ({"attributes": {"size": SIZE | {"cuts": [3]}}}, "3 names need 2 cuts"),
        ({"attributes": {"size": SIZE | {"cuts": [0, 6]}}}, "from 1 to 9"),
        ({"attributes": {"size": SIZE | {"values": [9, 0]}}}, "first and the last whole number"),
        ({"attributes": {"colour": COLOUR}, "answer": {"format": "json"}}, "answer: format='json'"),
        ({"attributes": {"worn": {"classes": [False, True]}}}, "False is true or false, not text"),
        ({"attributes": {"size": SIZE | {"names": [1.5, "m", "l"]}}}, "1.5 is a number, not text"),
        ({"attributes": MANY, "answer": {"format": "name"}}, "format='name' is one label"),
    ],
)
def test_a_wrong_definition_is_told_in_one_sentence_with_its_file(values, told):
    message = fault(values)
    assert message.startswith("made.yaml: ")
    assert told in message
    assert "\n" not in message


def test_marginals_of_a_label_table_are_sums():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.dirichlet(np.ones(18), 5), columns=TASK.columns())
    assert tables.parts(table, TASK) == [LABEL]
    for name in TASK.names:
        found = tables.probabilities(table, TASK, name)
        classes = TASK.decode(np.arange(18))[name]
        for k, column in enumerate(TASK.columns(name)):
            np.testing.assert_allclose(found[column], table.to_numpy()[:, classes == k].sum(1))
