"""Parameters: what a notebook declares, and which values fit, whichever way they come in."""

import json

import pytest

from lib.errors import ArtefactError, ParameterError
from lib.runner import parameters
from lib.runner.parameters import Parameter, checked, collect, convert, declared
from lib.textfiles import parse_yaml

CELL = """
task = "mask"  # file of the task
learn = []  # attributes that are learned, empty for all
cuts = {}  # other cuts by attribute
drop = {}  # recorded values left out, by attribute
experiment = "demo"  # name of the run
shuffle = False  # honesty check
rate = 0.1  # learning rate
augment = ["light"]  # applied in this order: none | light | flip
loss = {"ce": 1.0}  # weights by loss: ce | focal
"""


def write(path, source):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source}
    path.write_text(json.dumps({"cells": [cell]}))
    return path


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Return the variables of a kernel that has run the parameters cell of notebook "n"."""
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    write(tmp_path / "n.ipynb", CELL)
    variables = {"In": ["", CELL]}
    exec(CELL, variables)
    return variables


def papermill(kernel, **given):
    """Return the kernel's variables after the cell that papermill injects."""
    cell = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in given.items())
    return {**kernel, **given, "In": [*kernel["In"], cell]}


# What a notebook declares


def test_defaults_comments_and_choices_are_read(tmp_path):
    lines = ["a = [1]  # count", "# --- a heading", 'b = "x"  # way:', "#   x | y z | none"]
    lines += ['sign = "#é漢"  # näher # twice: é漢 | x, y']
    assert declared(write(tmp_path / "n.ipynb", "\n".join(lines))) == {
        "a": Parameter([1], "count", ()),
        "b": Parameter("x", "way: x | y z | none", ("x", "y z", "none")),
        "sign": Parameter("#é漢", "näher # twice: é漢 | x, y", ("é漢", "x, y")),
    }


def test_computed_default_and_missing_notebook_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="a literal"):
        declared(write(tmp_path / "n.ipynb", "a = 1 + len('x')"))
    with pytest.raises(ArtefactError, match="missing"):
        declared(tmp_path / "none.ipynb")


# Types


@pytest.mark.parametrize(
    ("value", "default", "wanted"),
    [
        (3, 0.5, 3.0),
        (True, False, True),
        ("a", ["b"], ["a"]),
        (2, [1.5], [2.0]),
        ([1, 2], [1.5], [1.0, 2.0]),
        ("a", [], ["a"]),
        (57, [], [57]),
        ([0.5], [], [0.5]),
        ({"a": 1}, {}, {"a": 1}),
        ({"b": 1}, {"a": 0.5}, {"b": 1.0}),
        ("1e-4", 0.1, 0.0001),
        ("1.5E3", 0.1, 1500.0),
        ("12", 3, 12),
        ("[a, b]", ["c"], ["a", "b"]),
        ("[112, 112]", [96, 96], [112, 112]),
        ("{a: 1}", {"b": 2.0}, {"a": 1.0}),
    ],
)
def test_accepted_values(value, default, wanted):
    result = convert(value, default)
    assert result == wanted
    assert type(result) is type(wanted)
    if isinstance(wanted, list):
        assert [type(item) for item in result] == [type(item) for item in wanted]


@pytest.mark.parametrize(
    ("text", "default", "fix"),
    [
        ("fast", 0.1, "write a number"),
        ("1.2.3", 0.1, "write a number"),
        ("on", "name", "put quotes around it"),
        ("010", "name", "put quotes around it"),
        ("true", 3, "write a whole number"),
        ("3.0", 3, "write a whole number"),
        ("1", False, "write true or false"),
        ("'false'", True, "write true or false"),
        ("true", 0.1, "write a number"),
        ("[a]", "a", "put quotes around it"),
        ("[a, 3]", ["b"], "put quotes around it"),
        ("true", [], "write a list"),
        ("[[a]]", [], "write a list"),
        ("[1]", {}, "write a mapping"),
        ("{a: high}", {"b": 1.0}, "write a number"),
        ("", "", "write text"),
        ("2024-01-01", 3, "write a whole number"),
    ],
)
def test_refused_values_name_the_fix(text, default, fix):
    with pytest.raises(TypeError, match=fix):
        convert(parse_yaml(text, "-p"), default)


# Choices


@pytest.mark.parametrize("value", ["soft", ["soft", "hard"], {"hard": 1}])
def test_choices_are_values_elements_or_keys(value):
    parameter = Parameter(type(value)(), "", ("soft", "hard"))
    assert checked(value, parameter, "f: vote") == value


@pytest.mark.parametrize("value", ["sfot", ["soft", "sfot"], {"sfot": 1}])
def test_a_wrong_choice_is_refused_with_the_nearest(value):
    parameter = Parameter(type(value)(), "", ("soft", "hard"))
    with pytest.raises(ParameterError) as caught:
        checked(value, parameter, "f: vote")
    assert str(caught.value) == ("f: vote: 'sfot' is not one of: soft, hard (did you mean 'soft'?)")


# In the notebook


def test_a_notebook_collects_what_it_declares(kernel):
    values = collect("n", papermill(kernel, rate="1e-4", augment="flip", loss="{focal: 2}"))
    assert list(values) == list(declared(parameters.NOTEBOOKS / "n.ipynb"))
    assert (values["rate"], values["augment"], values["loss"]) == (0.0001, ["flip"], {"focal": 2.0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shuffle": "false"}, "n: shuffle: 'false' is text"),
        ({"experiment": 901}, "n: experiment: 901 is a whole number"),
        ({"shufle": True}, "n: 'shufle' is no parameter (did you mean 'shuffle'?)"),
        ({"augment": ["flpi"]}, "n: augment: 'flpi' is not one of"),
        ({"experiment": "a/b"}, "n: experiment='a/b' names a file"),
        ({"task": "maks"}, "did you mean 'mask'"),
        ({"learn": ["agee"]}, "n: learn: task 'mask' has no attribute 'agee'"),
        ({"cuts": {"age": [30]}}, "n: cuts: cuts of age"),
        ({"cuts": {"age": 30}}, "n: cuts: age: 30 is a whole number: write a list, [30]"),
        ({"drop": {"age": [99]}}, "n: drop: age: '99' is not accepted"),
    ],
)
def test_what_papermill_hands_over_is_checked(kernel, given, message):
    with pytest.raises(ParameterError) as caught:
        collect("n", papermill(kernel, **given))
    assert message in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once(kernel):
    with pytest.raises(ParameterError) as caught:
        collect("n", papermill(kernel, shufle=True, lerning=1, rate="high"))
    first, *told = str(caught.value).splitlines()
    assert first == "3 faults"
    starts = ["n: 'shufle'", "n: 'lerning'", "n: rate: 'high'"]
    assert [line.strip()[: len(start)] for line, start in zip(told, starts, strict=True)] == starts


def test_a_cell_edited_by_hand_is_checked(kernel):
    with pytest.raises(ParameterError, match="n: rate: 'high' is text"):
        collect("n", kernel | {"rate": "high"})
    del kernel["rate"]
    with pytest.raises(ParameterError, match="n: rate is not set"):
        collect("n", kernel)
