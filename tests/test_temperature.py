"""Temperatures: what they are, that they are found, and that nobody chooses their own."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from lib.errors import DataError, ParameterError
from lib.explain import calibration
from lib.score import between, metrics, nested, temperature
from lib.score.between import Between
from lib.task.attributes import LABEL, load, parse
from lib.task.tables import probabilities

TASK = load("mask")
ONE = parse({"attributes": {"kind": {"classes": list("abc")}}}, "kinds", "kinds.yaml")
PEOPLE, PHOTOS = 200, 3


def frame_of(task, tables, label):
    person = np.repeat([f"{k:03d}" for k in range(PEOPLE)], PHOTOS)
    keys = pd.Index([f"{p}/{k}" for k, p in enumerate(person)], name="key")
    table = pd.DataFrame(tables, keys, task.columns())
    return table.assign(label=label, person=person, fold=np.repeat(np.arange(PEOPLE) % 5, PHOTOS))


def sharpened(chances, power):
    found = chances**power
    return found / found.sum(axis=1, keepdims=True)


def drawn(size, seed):
    """Probabilities that are right, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(size, 2), PEOPLE * PHOTOS)
    return chances, (chances.cumsum(axis=1) < rng.random((len(chances), 1))).sum(axis=1)


def label_table(powers, seed=0):
    """A table of labels whose attributes are too sure by ``powers``, which differ."""
    found = {n: drawn(len(TASK[n].classes), seed + k) for k, n in enumerate(TASK.names)}
    joint = np.ones((PEOPLE * PHOTOS, 1))
    for name, (chances, _) in found.items():
        joint = (joint[:, :, None] * sharpened(chances, powers[name])[:, None]).reshape(
            len(joint), -1
        )
    return frame_of(TASK, joint, TASK.encode({name: true for name, (_, true) in found.items()}))


def test_one_attribute_has_the_best_temperature_of_a_line_search():
    chances, true = drawn(3, 0)
    oof = frame_of(ONE, sharpened(chances, 2.5), true)

    def loss(temperature):
        return log_loss(true, sharpened(oof[ONE.columns()].to_numpy(), 1 / temperature))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
    found = temperature.fit(oof, ONE)["kind"]
    assert found == pytest.approx(best, rel=1e-3)
    assert found == pytest.approx(2.5, rel=0.15)
    scaled = temperature.apply(oof, ONE, {"kind": 2.5})[ONE.columns()].to_numpy()
    assert scaled == pytest.approx(chances, abs=1e-4)


def test_each_attribute_of_a_label_has_a_temperature_of_its_own():
    powers = {"mask": 0.5, "gender": 2.0, "age": 3.0}
    oof = label_table(powers)
    found = temperature.fit(oof, TASK)
    assert {name: found[name] for name in powers} == pytest.approx(powers, rel=0.2)
    after = temperature.apply(oof, TASK, found)
    assert after[TASK.columns()].sum(axis=1).to_numpy() == pytest.approx(1)
    for name in TASK.names:  # the attributes are independent, so each is scaled by itself
        before = probabilities(oof, TASK, name).to_numpy()
        expected = sharpened(before, 1 / found[name])
        assert probabilities(after, TASK, name).to_numpy() == pytest.approx(expected, abs=1e-4)
    assert temperature.apply(oof, TASK, dict.fromkeys(TASK.names, 1.0))[
        TASK.columns()
    ].to_numpy() == pytest.approx(oof[TASK.columns()].to_numpy(), abs=1e-6)


def test_the_gradient_is_that_of_differences():
    oof = label_table({"mask": 2, "gender": 2, "age": 2})
    arguments = (*temperature._logs(oof, TASK, LABEL, TASK.names), oof["label"].to_numpy())
    point, step = np.array([0.7, 1.1, 0.4]), 1e-6
    _, gradient = temperature._loss(point, *arguments)
    for k in range(3):
        low, high = (
            temperature._loss(point + sign * step * np.eye(3)[k], *arguments)[0] for sign in (-1, 1)
        )
        assert gradient[k] == pytest.approx((high - low) / 2 / step, abs=1e-5)


def test_the_nested_estimate_learns_from_the_people_of_other_folds(monkeypatch):
    oof = label_table({"mask": 2, "gender": 2, "age": 2})
    seen, fit = [], temperature.fit
    monkeypatch.setattr(temperature, "fit", lambda o, t: seen.append(set(o["fold"])) or fit(o, t))
    method = nested.Method("soft", "argmax")
    before, after = (
        nested.estimate({"run": oof}, TASK, [method], (), step)[method]
        for step in (Between(), Between(calibrate=True))
    )
    assert sorted(map(sorted, seen)) == [sorted(set(range(5)) - {k}) for k in (4, 3, 2, 1, 0)]
    effect = nested.effect(before, after, TASK, "log_loss")
    assert effect.gain == pytest.approx(
        metrics.measure(after, TASK, "log_loss") - metrics.measure(before, TASK, "log_loss")
    )
    assert effect.low > 0
    shown = calibration.compared(before, after, TASK)
    assert list(shown.index) == [LABEL, *TASK.names]
    assert (shown["log loss", "after"] < shown["log loss", "before"]).all()
    expected = log_loss(before["label"], before[TASK.columns()])
    assert shown.loc[LABEL, ("log loss", "before")] == pytest.approx(expected)


def test_what_has_no_temperature_is_refused():
    oof = label_table({"mask": 2, "gender": 2, "age": 2})
    with pytest.raises(ParameterError, match="calibrate=true: vote='hard' gives shares"):
        between.check_between(TASK, "hard", True, "none")
    between.check_between(TASK, "hard", False, "none")
    with pytest.raises(DataError, match="set calibrate=false"):
        temperature.fit(oof[:0], TASK)
    method, few = nested.Method("soft", "argmax"), oof[oof["person"] < "010"]
    with pytest.raises(DataError, match="at least 20 validated people.*calibrate=false"):
        nested.estimate({"run": few}, TASK, [method], (), Between(calibrate=True))
