"""A batch as units: how it is divided, what each needs, and what is run at once."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from test_batch import ENSEMBLE as JOINED
from test_batch import IMPORTS, outcomes
from test_run import write_notebook

from lib import PROJECT
from lib.learn.checks import possible_folds
from lib.runner import board, chain, engine, parameters, places, stages, unit, units
from lib.runner.batch import Experiment

TRAIN = (
    IMPORTS
    + """\
run = Path(runs_dir) / experiment
for fold in folds or range(fold_count):
    table = run / f"fold{fold}" / "test.parquet"
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        (table.parent / "begun").touch()
        time.sleep(seconds if fold == 1 else 0)
        if fold in fail:
            raise ValueError(f"loss is not finite in fold {fold}")
        with (table.parent / "times").open("a") as file:
            file.write("x")
        table.write_text(f"{experiment} {fold}")
tables = [run / f"fold{fold}" / "test.parquet" for fold in range(fold_count)]
if all(table.exists() for table in tables):
    (run / "metrics.json").write_text("+".join(table.read_text() for table in tables))"""
)
ENSEMBLE = IMPORTS + JOINED.replace('"+"', '"|"')  # "+" stands between folds


def write_notebooks(place):
    """Write notebooks of three stages that take no time."""
    runs = f"runs_dir = '{place}/runs'  # folder\n"
    work = f"work_dir = '{place}/work'  # folder\ndata_dir = '{place}/data'  # folder\n"
    train = (
        "experiment = 'a'  # name\nsplit = 'kfold'  # who is validated\nfold_count = 2  # folds\n"
        "folds = []  # folds\nextra_data = []  # folders\ninit_from = ''  # run\n"
        "pseudo_labels = ''  # submission\nseconds = 0.0  # fold 1 waits\n"
        "fail = []  # folds that fail\ncpus = 0  # threads\ngpus = 0.0  # GPUs\n"
    )
    answer = f"submissions_dir = '{place}/submissions'  # folder\n"
    write_notebook(place / "01_eda.ipynb", f"{work}each = 2  # photos", "print('ok')")
    write_notebook(place / "02_face_crop.ipynb", f"{work}crop_margin = 0.2  # share", "print(1)")
    write_notebook(place / "03_train.ipynb", runs + work + answer + train, TRAIN)
    names = "submission = 'a'  # name\nruns = ['a']  # runs"
    write_notebook(place / "04_ensemble_tta.ipynb", runs + answer + names, ENSEMBLE)
    write_notebook(place / "06_compare.ipynb", f"{runs}{answer}baseline = 'a'  # run", "print(2)")
    write_notebook(
        place / "07_sweep.ipynb",
        f"{runs}study = 's'  # name\nbase = []  # files\ntrials = 9  # trials",
        "print(3)",
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Notebooks that take no time, and that processes of units find too."""
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    code = (
        "import pathlib, sys; from lib.runner import parameters, unit; "
        f"parameters.NOTEBOOKS = pathlib.Path({str(tmp_path)!r}); sys.exit(unit.main())"
    )
    monkeypatch.setattr(unit, "COMMAND", [sys.executable, "-c", code])
    write_notebooks(tmp_path)
    return tmp_path


ALL = ("eda", "crop", "train", "ensemble")


def experiment(place, name, stages=ALL, **settings):
    """Return the parameter file of an experiment that is named after its run."""
    names = {"experiment": name} if "train" in stages else {}
    names |= {"submission": name, "runs": [name]} if "ensemble" in stages else {}
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"stages": list(stages)} | names | settings))
    return path


def divided(*paths, workers=2):
    plans = stages.plan_batch([[stages.read_layer(path)] for path in paths])
    return units.divide(
        [Experiment(path.stem, steps) for path, steps in zip(paths, plans, strict=True)], workers
    )


def waits(plan, only=""):
    """Return by name what each unit waits for."""
    names = [each.name for each in plan.units]
    return {
        each.name: {names[n] for n in each.needs | each.after}
        for each in plan.units
        if only in each.name
    }


# How it is divided


def test_a_training_is_its_folds_and_a_unit_that_puts_them_together(place):
    plan = divided(experiment(place, "a"))
    before = {"a crop", "a eda"}
    assert waits(plan) == {
        "a eda": set(),
        "a crop": {"a eda"},
        "a train fold 0": before,
        "a train fold 1": before,
        "a train": {*before, "a train fold 0", "a train fold 1"},
        "a ensemble": {"a train"},
    }
    assert [each.step.settings["folds"] for each in plan.units if each.part] == [[0], [1]]
    assert len({each.copy for each in plan.units}) == 6
    assert [each.name for each in plan.units if each.anywhere] == [
        "a train fold 0", "a train fold 1", "a train",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "folds"),
    [
        ({"split": "holdout"}, [0]),
        ({"split": "none"}, [0]),
        ({"folds": [1]}, [1]),
        ({"fold_count": 3}, [0, 1, 2]),
    ],
)
def test_the_folds_of_a_training_follow_from_its_parameters(place, given, folds):
    plan = divided(experiment(place, "a", ["train"], **given))
    assert [each.part for each in plan.units] == [*(f"fold {fold}" for fold in folds), ""]
    params = plan.units[-1].step.settings
    assert set(folds) <= set(possible_folds(params))


def test_equal_steps_are_one_unit_and_others_of_their_folder_follow_each_other(place):
    paths = [experiment(place, "a"), experiment(place, "b"), experiment(place, "c", each=9)]
    plan = divided(*paths)
    assert [each.name for each in plan.units if "eda" in each.name] == ["a eda", "c eda"]
    assert [numbers[0] for _, numbers in plan.experiments][:2] == [[0], [0]]
    assert waits(plan, "c eda") == {"c eda": {"a eda", "a crop"}}
    assert waits(plan, "b train fold 0") == {"b train fold 0": {"a eda", "a crop"}}


def test_what_starts_from_another_run_or_submission_waits_for_it(place):
    plan = divided(
        experiment(place, "a", ["train", "ensemble"]),
        experiment(place, "b", ["train"], init_from="a"),
        experiment(place, "c", ["train"], pseudo_labels="a"),
        experiment(place, "d", ["ensemble"], runs=["a", "b"]),
        experiment(place, "e", ["ensemble"], runs=["*"]),
    )
    assert waits(plan, "b train fold 0") == {"b train fold 0": {"a train"}}
    assert waits(plan, "c train fold 1") == {"c train fold 1": {"a ensemble"}}
    assert waits(plan, "d ens") == {"d ensemble": {"a train", "b train"}}
    assert waits(plan, "e ens") == {"e ensemble": {"a train", "b train", "c train"}}


def test_what_looks_at_all_runs_comes_after_them_but_needs_none(place):
    plan = divided(experiment(place, "a", ["train"]), experiment(place, "b", ["compare"]))
    last = plan.units[-1]
    assert (last.needs, last.after) == (frozenset(), {2})


def test_a_sweep_has_workers_that_run_at_once(place):
    path = experiment(place, "a", ["sweep"], trials=3)
    assert waits(divided(path, workers=9)) == {
        "a sweep s worker 1": set(), "a sweep s worker 2": set(), "a sweep s": set(),
    }  # fmt: skip


# What is run


def command(place, *names, on="local:2"):
    first, *others = [str(place / f"{name}.yaml") for name in names]
    return [first, *(word for name in others for word in ("--then", name)), "--on", on]


def test_a_failed_unit_stops_only_those_that_need_it_and_the_command_continues(place, capfd):
    experiment(place, "a", ["train"], fold_count=1)
    experiment(place, "b", ["train"], fail=[1])
    experiment(place, "c", ["ensemble"], runs=["a", "b"])
    assert chain.main(command(place, "a", "b", "c")) == 1
    captured = capfd.readouterr()
    failed = place / "runs/b/fold1/03_train.failed.ipynb"
    why = f"train: ValueError: loss is not finite in fold 1 (see {failed})"
    assert outcomes(captured.out) == {
        "a": ("done", "1 of 1"),
        "b": ("failed", "0 of 1", why),
        "c": ("skipped", "0 of 1", "ensemble needs b train, not made"),
    }
    assert (place / "runs/b/fold0/times").read_text() == "x"  # the other fold was trained
    assert "loss is not finite in fold 1" in captured.err
    table = (place / "runs/index.html").read_text()
    assert "b train fold 1" in table
    assert "loss is not finite in fold 1" in table

    experiment(place, "b", ["train"])
    assert chain.main(command(place, "a", "b", "c")) == 0
    found = outcomes(capfd.readouterr().out)
    assert found["a"] == ("skipped", "1 of 1", "finished already")
    assert found["b"] == ("done", "1 of 1")
    assert (place / "submissions/c.csv").read_text() == "a 0|b 0+b 1"
    assert [path.read_text() for path in sorted(place.glob("runs/*/fold*/times"))] == ["x"] * 3


def test_a_stopped_batch_stops_its_processes_keeps_what_is_finished_and_continues(place, capfd):
    experiment(place, "a", ["train"], seconds=60)
    code = (
        "import pathlib, sys; from lib.runner import chain, parameters, unit; "
        f"parameters.NOTEBOOKS = pathlib.Path({str(place)!r}); unit.COMMAND = {unit.COMMAND!r}; "
        "sys.exit(chain.main())"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    batch = subprocess.Popen(
        [sys.executable, "-c", code, *command(place, "a")], cwd=PROJECT, **pipes
    )
    wanted = (place / "runs/a/fold0/test.parquet", place / "runs/a/fold1/begun")
    while not all(path.exists() for path in wanted) and batch.poll() is None:
        time.sleep(0.1)
    batch.send_signal(signal.SIGTERM)
    _, err = batch.communicate(timeout=60)
    assert batch.returncode == 143
    assert err.endswith("the same command continues.\n")
    assert not list(place.rglob("*.tmp"))
    assert not running(place)
    assert json.loads((place / "runs/batch.json").read_text())["state"] == "stopped"
    assert chain.main([*command(place, "a"), "-p", "seconds=0"]) == 0
    assert "train a  " in capfd.readouterr().out
    assert "Last batch: ended" in (place / "runs/index.html").read_text()
    assert [path.read_text() for path in sorted(place.glob("runs/a/fold*/times"))] == ["x", "x"]


def running(place):
    """Return the processes of units and kernels that know these notebooks."""
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(place) in line and "pytest" not in line]


def test_a_unit_ends_when_whoever_started_it_is_gone(place):
    path = experiment(place, "a", ["train"], seconds=60)
    one = divided(path).units[1]
    process = unit.start(one.log, {})
    process.stdin.write(unit.told(one.step, one.copy))
    while not (place / "runs/a/fold1/begun").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.stdin.close()
    assert process.wait(30) == 143
    process.stdout.close()
    assert not (place / "runs/a/fold1/test.parquet").exists()


def test_a_process_that_dies_is_a_failure_with_its_exit_code(place, monkeypatch):
    monkeypatch.setattr(unit, "COMMAND", [sys.executable, "-c", "raise SystemExit(9)"])
    one = divided(experiment(place, "a", ["train"])).units[0]
    outcome = unit.finish(unit.start(one.log, {}), one.step, one.copy)
    assert (outcome.result, outcome.why) == (
        "failed", "train: its process ended by itself, exit code 9",
    )  # fmt: skip


# The view of it


def test_the_end_is_expected_from_the_speed_so_far(place, capsys):
    view = board.Board(divided(experiment(place, "a", ["train"], fold_count=4)))
    assert view.expected() == ""
    view.start -= 100
    for number in (0, 1):
        view.ends(number, unit.Outcome("done", "here", 100.0))
    view.runs({2: "here", 3: "here"})
    now = time.time()  # 200 s of work in 100 s; 2 folds and the whole are left: 300 s
    ends = {time.strftime("%a %H:%M", time.localtime(now + 150 + more)) for more in (-2, 0, 2)}
    assert view.expected() in ends
    assert "[2/5] a train fold 1  1:40 on here  (1:40 elapsed" in capsys.readouterr().out


@pytest.mark.parametrize("on", ["local", "local:0", "local:-1", "lokal:2", "10.0.0.1:6379"])
def test_another_place_is_refused_before_anything_starts(place, capsys, on):
    experiment(place, "a")
    assert chain.main(command(place, "a", on=on)) == 2
    assert "is not one of: local:N" in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_trainings_share_the_cores_and_other_stages_have_all(place, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    local = places.Local(3)
    local.close()
    by_name = {each.name: each for each in divided(experiment(place, "a")).units}
    told = {name: places.environment(each, local.threads) for name, each in by_name.items()}
    assert told["a train fold 0"] == {"OMP_NUM_THREADS": "2"}
    assert told["a eda"] == told["a ensemble"] == {}
    wish = divided(experiment(place, "a", cpus=5)).units[-2]
    assert places.environment(wish, local.threads) == {"OMP_NUM_THREADS": "5"}


def test_what_a_place_cannot_do_fails_one_unit(place, capsys):
    class Broken(places.Local):
        def _run(self, number, unit):
            raise OSError("no more processes")

    path = experiment(place, "a", ["train"])
    steps = stages.plan_batch([[stages.read_layer(path)]])[0]
    results = engine.run([Experiment("a", steps)], Broken(1))
    assert results[0][:3] == ("a", "failed", "0 of 1")
    assert results[0].why == "train: OSError: no more processes"
