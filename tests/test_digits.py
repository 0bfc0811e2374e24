"""The shipped proof that another competition runs: digits through the whole chain."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from lib.data.photos import read
from lib.demo import digits
from lib.errors import ArtefactError
from lib.runner import chain
from lib.score import runs, submission
from lib.task.attributes import load


def test_written_digits_are_scikit_learns(tmp_path):
    folder = digits.make(tmp_path / "data", photos=60)
    train, answers = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "private/answers.csv")
    assert (len(train), len(answers)) == (48, 12)
    assert pd.read_csv(folder / "test.csv").columns.tolist() == ["path"]
    originals = load_digits().images
    for row in pd.concat([train, answers]).head(20).itertuples():
        small = read(folder / "images" / row.path)[2::4, 2::4, 0] / 255 * 16
        nearest = np.abs(originals - small).sum((1, 2)).argmin()
        assert load_digits().target[nearest] == row.digit
    assert digits.make(tmp_path / "data", photos=60) == folder
    with pytest.raises(ArtefactError, match="choose another data_dir"):
        digits.make(tmp_path / "data", photos=61)


def test_the_whole_chain_runs_in_its_small_form(tmp_path):
    here = [f"{name}_dir={tmp_path / name}" for name in ("data", "work")]
    kept = [f"{name}_dir={tmp_path / name}" for name in ("runs", "submissions")]
    small = ["photos=600", "epochs=6", "batch_size=32", "fold_count=2", "each=1", *here, *kept]
    assert chain.main(["params/digits.yaml", *(word for p in small for word in ("-p", p))]) == 0
    run = runs.load(str(tmp_path / "runs"), "digits")
    assert run.metrics()["metric"] == "accuracy"
    assert run.metrics()["oof_score"] > 0.8
    task = load("digits")
    answers = pd.read_csv(tmp_path / "submissions/digits.csv", dtype=str)
    assert answers.columns.tolist() == ["path", "digit"]
    assert set(answers["digit"]) <= set(task.classes())
    submission.check(tmp_path / "submissions/digits.csv", answers["path"], task)
    truth = pd.read_csv(tmp_path / "data/private/answers.csv", dtype=str)
    right = answers.merge(truth, on="path", suffixes=("", "_true"))
    assert (right["digit"] == right["digit_true"]).mean() > 0.8
