"""The whole chain as a newcomer runs it, by papermill: from synthetic photos to a submission."""

import json

import pandas as pd
import pytest
import yaml

from lib.artefacts import file_hash
from lib.runner import chain
from lib.score import ledger, runs, submission
from lib.task.attributes import load

SMALL = {
    "people": 20,
    "eval_people": 6,
    "compare": 6,
    "image_size": [48, 48],
    "fold_count": 2,
    "epochs": 3,
    "batch_size": 16,
    "precision": "fp32_channels_last",
    "stages": ["demo", "eda", "crop", "train", "ensemble"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Run the chain once in a folder of its own."""
    folder = tmp_path_factory.mktemp("chain")
    folders = {
        f"{name}_dir": str(folder / name) for name in ("data", "work", "runs", "submissions")
    }
    (folder / "small.yaml").write_text(yaml.safe_dump({**SMALL, **folders}))
    assert chain.main([str(folder / "small.yaml")]) == 0
    return folder


def test_every_stage_leaves_its_notebook_and_its_page(place):
    copies = [
        "work/00_demo_data",
        "work/01_eda",
        "work/02_face_crop",
        "runs/demo/03_train",
        "submissions/demo",
    ]
    for copy in copies:
        assert (place / f"{copy}.html").stat().st_size > 10_000
        assert json.loads((place / f"{copy}.ipynb").read_text())["cells"]


def test_the_same_seed_gives_the_same_tables_byte_for_byte(place, capsys):
    options = ["--stages", "train", "-p", f"runs_dir={place}/again"]
    assert chain.main([str(place / "small.yaml"), *options]) == 0
    assert "corrections changed nothing (no such id: " in capsys.readouterr().err
    for name in ("oof.parquet", "test.parquet", "fold0/best.pt"):
        first, second = (place / runs / "demo" / name for runs in ("runs", "again"))
        assert first.read_bytes() == second.read_bytes(), name


def test_out_of_fold_scores_every_person_once(place):
    oof = runs.load(str(place / "runs"), "demo").oof()
    assert oof.index.is_unique
    assert len(oof) == 20 * 7
    assert (oof.groupby("person")["fold"].nunique() == 1).all()


def test_submission_is_in_the_samples_order_and_in_the_ledger(place):
    path = place / "submissions/demo.csv"
    sample = pd.read_csv(place / "data/eval/info.csv")
    submission.check(path, sample["ImageID"].tolist(), load("mask"))
    assert pd.read_csv(path)["ImageID"].tolist() == sample["ImageID"].tolist()
    row = ledger.read(place / "submissions").iloc[0]
    assert (row["name"], row["runs"], row["sha256"]) == ("demo", "demo", file_hash(path))


def test_the_page_of_all_runs_leads_to_every_notebook_of_the_chain(place):
    text = (place / "runs/index.html").read_text()
    for link in ("demo/03_train", "../submissions/demo", "../work/01_eda", "../work/02_face_crop"):
        assert f'href="{link}.html"' in text


def test_again_changes_nothing(place):
    kept = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("best.pt")}
    digest = file_hash(place / "submissions/demo.csv")
    assert chain.main([str(place / "small.yaml"), "--stages", "train,ensemble"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("best.pt")} == kept
    assert file_hash(place / "submissions/demo.csv") == digest
    assert len(ledger.read(place / "submissions")) == 1


def test_other_parameters_need_another_name(place, capsys):
    assert (
        chain.main([str(place / "small.yaml"), "--stages", "train", "-p", "learning_rate=0.002"])
        == 1
    )
    assert "learning_rate was 0.001, is 0.002" in capsys.readouterr().err
