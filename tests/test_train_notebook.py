"""Notebook 03 on colours that tell the label: what it leaves, and what it learns."""

import functools

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
import yaml
from conftest import TASK, run_cells, tiny_images, write_tiny_work

from lib.data import leaks
from lib.errors import ArtefactError, ParameterError
from lib.learn import loop, models
from lib.score import runs

torch.set_num_threads(1)
QUICK = {
    "backbone": ["test_efficientnet"], "pretrained": False, "image_size": [32, 32],
    "relabel": [], "augment": ["none"], "fold_count": 3, "epochs": 10, "batch_size": 16,
    "learning_rate": 0.005, "dropout": 0.0, "ema_decay": 0.8, "precision": "fp32",
}  # fmt: skip


@pytest.fixture
def notebook(tiny_work, tmp_path):
    """Return a function that runs notebook 03 on the tiny set."""
    yield lambda **changes: run_cells(
        "03_train", work_dir=str(tiny_work), runs_dir=str(tmp_path / "runs"), **QUICK | changes
    )
    plt.close("all")


def test_it_learns_and_a_second_run_trains_nothing(notebook, tmp_path, monkeypatch, capsys):
    first = notebook()
    folder = tmp_path / "runs" / "demo"
    assert first["scores"]["oof_score"] > 0.8
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    left = {path.relative_to(folder).as_posix() for path in files}
    each = {
        f"fold{fold}/{name}"
        for fold in range(3)
        for name in ("best.pt", "history.csv", "oof.parquet", "test.parquet")
    }
    assert left == each | {
        "params.yaml",
        "task.yaml",
        "origin.json",
        "precision.csv",
        "oof.parquet",
        "test.parquet",
        "metrics.json",
    }
    assert yaml.safe_load((folder / "params.yaml").read_text())["learning_rate"] == 0.005

    run = runs.load(str(tmp_path / "runs"), "demo")
    assert len(run.oof()) == run.oof().index.nunique() == 126
    assert (run.oof().groupby("person")["fold"].nunique() == 1).all()
    assert (run.test().groupby("key").size() == 3).all()

    monkeypatch.setattr(loop, "fit", None)
    assert notebook(why="a note", expect="the same")["scores"] == first["scores"]
    assert "No other run in runs_dir has these parameters." in capsys.readouterr().out
    with pytest.raises(TypeError):  # it would be trained
        notebook(experiment="again")
    score = f"{first['scores']['oof_score']:.3f}"
    assert f"repeats the parameters of run 'demo' (macro_f1 {score}" in capsys.readouterr().out
    with pytest.raises(ArtefactError, match=r"dropout was 0\.0, is 0\.5"):
        notebook(dropout=0.5)


def test_corrections_without_effect_are_counted(notebook, tmp_path, capsys):
    rows = [
        "id,field,from,to",
        "000000,gender,male,female",
        "000001,gender,male,female",
        "9,age,1,2",
    ]
    rows[-1] = "000099,age,22,30"
    (tmp_path / "r.csv").write_text("\n".join(rows))
    quick = {"epochs": 1, "warmup_epochs": 0, "max_batches": 1, "split": "holdout"}
    made = notebook(relabel=[str(tmp_path / "r.csv")], **quick)
    assert made["run"].metrics()["corrections_without_effect"] == 2
    said = "2 of 3 corrections changed nothing (already female: 1, no such id: 1)"
    assert said in capsys.readouterr().out


def test_leaks_are_shown_with_what_the_best_epoch_is_worth(notebook, monkeypatch):
    shown = {}
    for name in ("report", "epoch_choice"):
        function = getattr(leaks, name)
        keep = functools.partial(lambda f, name, *a: shown.setdefault(name, f(*a)), function, name)
        monkeypatch.setattr(leaks, name, keep)
    made = notebook(epochs=2, warmup_epochs=0, max_batches=2)
    found = shown["report"].set_index("kind")["count"]
    assert found[found > 0].to_dict() == {"best epochs chosen on scored people": 3}
    choice = shown["epoch_choice"]
    assert (choice["nested"] <= choice["best"]).all()
    best = [history["score"].max() for history in made["run"].histories().values()]
    assert choice["best"].tolist() == best


def test_without_test_photos_out_of_fold_is_the_end(tmp_path, capsys):
    work, folders = tmp_path / "work", {"runs_dir": str(tmp_path / "runs")}
    write_tiny_work(work, tiny_images(test_photos=0))
    quick = {"epochs": 1, "warmup_epochs": 0, "max_batches": 1}
    run_cells("03_train", work_dir=str(work), **folders, **QUICK | quick)
    assert len(runs.load(folders["runs_dir"], "demo").oof()) == 126
    folders["submissions_dir"] = str(tmp_path / "submissions")
    run_cells("04_ensemble_tta", runs=["demo"], **folders)
    assert "no test photos: the scores above stand, and no submission" in capsys.readouterr().out
    assert not list(tmp_path.glob("submissions/*.csv"))
    plt.close("all")


def test_shuffled_labels_score_at_chance(notebook):
    assert notebook(shuffle_labels=True, fold_count=2, epochs=4)["scores"]["oof_score"] < 0.2


def test_a_killed_run_continues_to_the_same_predictions(notebook, tmp_path, monkeypatch):
    short = {
        "epochs": 2,
        "fold_count": 2,
        "mixer": "half_face",
        "dropout": 0.2,
        "freeze": "first",
        "augment": ["light"],
    }
    whole = notebook(experiment="whole", **short)
    trained = []
    epoch_of = loop.train_epoch

    def killed(learner, batches, description):
        trained.append(description)
        if len(trained) == 4:  # the second epoch of the second fold
            raise KeyboardInterrupt
        return epoch_of(learner, batches, description)

    monkeypatch.setattr(loop, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        notebook(experiment="killed", **short)
    run = runs.Run(tmp_path / "runs" / "killed", {}, TASK)
    assert run.folds == [0]
    assert not (run.folder / "metrics.json").exists()
    continued = notebook(experiment="killed", **short)
    assert len(trained) == 4 + 1
    pd.testing.assert_frame_equal(continued["run"].oof(), whole["run"].oof())
    pd.testing.assert_frame_equal(continued["run"].test(), whole["run"].test())


def test_folds_may_be_trained_one_by_one(notebook):
    quick = {"epochs": 1, "warmup_epochs": 0, "max_batches": 1, "fold_count": 2}
    assert notebook(folds=[1], **quick)["scores"] == {}
    assert [row["fold"] for row in notebook(folds=[0], **quick)["scores"]["folds"]] == [0, 1]


def test_a_run_starts_from_another(notebook, monkeypatch):
    quick = {"epochs": 1, "warmup_epochs": 0, "max_batches": 1, "fold_count": 2}
    notebook(experiment="before", **quick)
    started = []
    start = models.start_from
    monkeypatch.setattr(
        models, "start_from", lambda model, folder: started.append(folder) or start(model, folder)
    )
    notebook(experiment="after", init_from="before", ordered_head="ordinal", **quick)
    assert [(folder.parent.name, folder.name) for folder in started] == [
        ("before", "fold0"),
        ("before", "fold1"),
    ]


def test_a_branch_of_a_frozen_trunk_learns_one_attribute(notebook, tmp_path):
    quick = {"epochs": 2, "max_batches": 2, "fold_count": 2, "folds": [0]}
    whole = {**quick, "folds": []}
    notebook(experiment="trunk", head="joint", **whole)
    branch = {"init_from": "trunk", "freeze": "always", "frozen_layers": 0.7, "learn": ["age"]}
    made = notebook(experiment="branch", **branch, **quick)
    trunk, own = (torch.load(tmp_path / f"runs/{run}/fold0/best.pt") for run in ("trunk", "branch"))
    changed = {name for name in own if name in trunk and not torch.equal(own[name], trunk[name])}
    body = [name for name in own if name.startswith("backbone.")]
    first = min(k for k, name in enumerate(body) if name in changed)
    assert 0 < first < len(body)
    free = {n for n, p in made["learner"].model.named_parameters() if p.requires_grad}
    assert {name for name in changed if "running" not in name and "num_b" not in name} <= free
    assert {name for name in free if name.startswith("backbone.")} <= changed


def test_size_soup_and_mixing_within_a_class_combine(notebook):
    made = notebook(
        epochs=3, max_batches=3, size_from=0.5, soup_epochs=2, bn_batches=3, mixer="mixup",
        mix_within={"age": [">=60"]}, fold_count=2,
    )  # fmt: skip
    assert made["learner"].soup.n_averaged == 2
    assert next(iter(made["batches"](0)))[0].shape[2:] == (16, 16)
    assert len(made["run"].oof()) == 126


@pytest.mark.parametrize(("split", "learn"), [("holdout", ["age"]), ("none", [])])
def test_every_split_ends_in_test_predictions(notebook, split, learn):
    made = notebook(epochs=1, warmup_epochs=0, max_batches=1, split=split, learn=learn)
    run = made["run"]
    assert (run.test().groupby("key").size() == 1).all()
    assert len(run.oof()) == (42 if split == "holdout" else 0)
    assert (made["scores"]["oof_score"] is None) == (split == "none")


def test_nonsense_leaves_no_run_behind(notebook, tmp_path):
    with pytest.raises(ParameterError, match="no ordered attribute of its own"):
        notebook(head="joint", ordered_head="values")
    assert not (tmp_path / "runs").exists()
