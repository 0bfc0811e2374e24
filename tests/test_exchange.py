"""Probabilities as CSV: to other teams and back, and what is refused of those from outside."""

import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib import artefacts
from lib.errors import ArtefactError, DataError, ParameterError
from lib.runner import finished
from lib.runner.stages import plan, read_layer
from lib.score import ensemble, exchange, nested, runs
from lib.task.attributes import parse

KEYS = pd.Index([f"p{person}/mask{k}" for person in range(20) for k in range(3)], name="key")
TESTS = pd.Index([f"{k:040x}.jpg" for k in range(12)], name="key")
PARAMS = {"task": "mask", "learn": [], "experiment": "mine", "seed": 0}


def drawn(keys, seed, task=TASK, parts=("label",)):
    rng = np.random.default_rng(seed)
    tables = [
        pd.DataFrame(rng.dirichlet(np.ones(len(task.columns(p))), len(keys)), keys, task.columns(p))
        for p in parts
    ]
    return pd.concat(tables, axis=1)


@pytest.fixture
def run(tmp_path):
    """Return a finished run of two folds."""
    run = runs.start(str(tmp_path / "runs"), PARAMS, TASK)
    facts = {"label": np.arange(60) % 18, "person": KEYS.str.split("/").str[0]}
    oof = drawn(KEYS, 0).assign(fold=np.arange(60) // 30, **facts)
    artefacts.write_table(oof, run.folder / "oof.parquet")
    test = pd.concat([drawn(TESTS, seed).assign(fold=seed) for seed in (0, 1)])
    artefacts.write_table(test, run.folder / "test.parquet")
    artefacts.write_json({}, run.folder / "metrics.json")
    return run


@pytest.fixture
def other_team(run, tmp_path):
    """Return the folder of another team, which has answered other probabilities."""
    tables = {"oof": drawn(KEYS, 5), "test": drawn(TESTS, 6)}
    exchange.write(tables, TASK, tmp_path / "other_team")
    return tmp_path / "other_team"


def test_a_run_is_written_by_class_names_with_a_row_per_photo(run, tmp_path, capsys):
    assert exchange.main([str(run.folder), "--out", str(tmp_path / "given")]) == 0
    assert "oof.csv, test.csv" in capsys.readouterr().out
    test = pd.read_csv(tmp_path / "given/test.csv")
    assert list(test) == ["ImageID", *TASK.classes()]
    assert test.ImageID.tolist() == list(TESTS)
    expected = run.test().groupby(level=0, sort=False)[TASK.columns()].mean()
    np.testing.assert_allclose(test[[*TASK.classes()]], expected, atol=1e-12)
    oof = pd.read_csv(tmp_path / "given/oof.csv").set_index("ImageID")
    np.testing.assert_allclose(oof, run.oof()[TASK.columns()], atol=1e-12)


def test_an_unfinished_run_is_refused(tmp_path, capsys):
    assert exchange.main([str(tmp_path / "none"), "--out", str(tmp_path / "given")]) == 2
    assert "is not finished" in capsys.readouterr().err


def test_tables_come_back_as_they_were_whatever_the_order_of_rows_and_columns(other_team):
    path = other_team / "oof.csv"
    table = pd.read_csv(path).sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=0)
    path.write_text("\ufeff" + table.to_csv(index=False), "utf-8")
    found = exchange.read(path, TASK, KEYS)
    pd.testing.assert_frame_equal(found[TASK.columns()], drawn(KEYS, 5), atol=1e-12)


def test_attributes_by_themselves_have_columns_of_their_own(tmp_path):
    table = drawn(KEYS, 0, parts=("gender", "age"))
    exchange.write({"oof": table}, TASK, tmp_path)
    header = pd.read_csv(tmp_path / "oof.csv").columns
    assert list(header[:4]) == ["ImageID", "gender male", "gender female", "age <30"]
    found = exchange.read(tmp_path / "oof.csv", TASK, KEYS)
    pd.testing.assert_frame_equal(found[list(table)], table, atol=1e-12)


def test_a_class_may_be_called_like_anything(tmp_path):
    values = {"attributes": {"thing": {"classes": ["key", "fold"]}}}
    task = parse(values, "things", "")
    table = drawn(TESTS, 0, task)
    exchange.write({"test": table}, task, tmp_path)
    pd.testing.assert_frame_equal(exchange.read(tmp_path / "test.csv", task, TESTS), table)


def test_a_member_from_outside_votes_and_is_named_with_the_hash_of_its_files(run, other_team):
    outside = exchange.members([str(other_team)], {"mine": run}, TASK)
    [name] = outside.oof
    assert name.startswith("other_team@")
    for file, digest in outside.hashes[name].items():
        assert digest == artefacts.file_hash(other_team / file)
    oof, test = {"mine": run.oof()} | outside.oof, {"mine": run.test()} | outside.test
    known, voted = ensemble.combine(oof, test, TASK, "soft")
    pd.testing.assert_series_equal(known["label"], run.oof()["label"])
    mine = run.test().groupby(level=0)[TASK.columns()].mean()
    expected = (mine.loc[TESTS] + drawn(TESTS, 6)) / 2
    np.testing.assert_allclose(voted.loc[TESTS, TASK.columns()], expected, atol=1e-12)
    method = nested.Method("greedy", "argmax")
    assert len(nested.estimate(oof, TASK, [method])[method]) == 60
    pd.read_csv(other_team / "test.csv").round(6).to_csv(other_team / "test.csv", index=False)
    assert list(exchange.members([str(other_team)], {"mine": run}, TASK).oof) != [name]


def test_what_is_no_member_is_refused_with_its_reason(run, other_team):
    (other_team / "oof.csv").unlink()
    with pytest.raises(ArtefactError, match="without out-of-fold probabilities nobody knows"):
        exchange.members([str(other_team)], {"mine": run}, TASK)


@pytest.fixture
def ensemble_step(other_team, tmp_path):
    """Return a function that plans an ensemble with the member from outside."""
    path = tmp_path / "outside.yaml"
    path.write_text(f"stages: [ensemble]\nruns: []\noutside: [{other_team}]\n")
    return lambda: plan([read_layer(path)])[0]


def test_a_lacking_table_is_told_before_anything_starts(ensemble_step, other_team):
    assert ensemble_step().settings["outside"] == [str(other_team)]
    (other_team / "test.csv").unlink()
    with pytest.raises(ParameterError, match=r"test\.csv is missing: a member from outside needs"):
        ensemble_step()


def test_a_step_is_not_finished_when_a_table_from_outside_has_changed(ensemble_step, other_team):
    before = finished.key(ensemble_step())
    assert finished.key(ensemble_step()) == before
    (other_team / "oof.csv").write_text("other")
    assert finished.key(ensemble_step()) != before


def changed(table, place, value):
    table = table.astype(object)
    table.iloc[place] = value
    return table


FIRST = "p0/mask0"
FAULTS = {
    "a missing photo": (lambda t: t[1:], rf"1 photos \({FIRST}\) missing: it needs the 60"),
    "an unknown photo": (lambda t: changed(t, (0, 0), "x"), r"missing; 1 photos \(x\) unknown"),
    "a photo twice": (lambda t: pd.concat([t, t[:1]]), rf"\({FIRST}\) repeated"),
    "a gap": (lambda t: changed(t, (0, 1), ""), rf"no probability: '{FIRST}' \(1 in all\)"),
    "nan": (lambda t: changed(t, (0, 1), "nan"), "no probability"),
    "a comma in a number": (lambda t: changed(t, (0, 1), "0,5"), "no probability.*dot"),
    "a number above 1": (lambda t: changed(t, (0, 1), 1.5), "no probability"),
    "a wrong sum": (lambda t: changed(t, (0, slice(1, 19)), 0.5), rf"label are not 1: '{FIRST}'"),
    "a missing column": (lambda t: t.drop(columns=TASK.classes()[3]), "needs 18 columns"),
    "a column too many": (lambda t: t.assign(fold=0), "and has 19 columns"),
    "numbers as classes": (lambda t: t.set_axis(["ImageID", *range(18)], axis=1), r"\(0, 1, 2"),
    "another column of photos": (lambda t: t.rename(columns={"ImageID": "id"}), "column ImageID"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_table_is_refused_in_one_sentence(other_team, fault):
    change, message = FAULTS[fault]
    path = other_team / "oof.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(DataError, match=message) as caught:
        exchange.read(path, TASK, KEYS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_semicolons_are_refused_with_the_fix(other_team):
    path = other_team / "oof.csv"
    pd.read_csv(path).to_csv(path, index=False, sep=";")
    with pytest.raises(DataError, match="separate fields by commas"):
        exchange.read(path, TASK, KEYS)
