"""A batch of experiments: what it refuses, what fails alone, what is skipped, and what it tells."""

import re
import signal
import subprocess
import sys
import time

import pytest
from test_run import write_notebook

from lib import PROJECT
from lib.errors import ArtefactError, ParameterError
from lib.runner import batch, chain, finished, parameters, stages

TRAIN = """\
run = Path(runs_dir) / experiment
run.mkdir(parents=True, exist_ok=True)
(run / "times").open("a").write("x")
time.sleep(seconds)
if fail:
    raise ValueError(f"loss is not finite in {experiment}\\nat step 3")
(run / "metrics.json").write_text(experiment)"""
ENSEMBLE = """\
folder = Path(submissions_dir)
folder.mkdir(exist_ok=True)
text = "+".join((Path(runs_dir) / run / "metrics.json").read_text() for run in runs)
for suffix in ("csv", "parquet"):
    (folder / f"{submission}.{suffix}").write_text(text)"""
IMPORTS = "import time\nfrom pathlib import Path\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Notebooks of two stages that take no time, and parameter files a to d."""
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    where = f"runs_dir = '{tmp_path}/runs'  # folder\n"
    train = (
        "experiment = 'demo'  # name\nwork_dir = 'none'  # tables\nrelabel = []  # files\n"
        "seconds = 0.0  # waits\nfail = False  # fails\nworkers = 0  # processes\n"
    )
    submission = (
        f"submissions_dir = '{tmp_path}/submissions'  # folder\nsubmission = 'demo'  # name\n"
    )
    write_notebook(tmp_path / "03_train.ipynb", where + train, IMPORTS + TRAIN)
    write_notebook(
        tmp_path / "04_ensemble_tta.ipynb",
        where + submission + "runs = []  # runs",
        IMPORTS + ENSEMBLE,
    )
    for name, more in {"a": "", "b": "fail: true\n", "d": ""}.items():
        text = (
            f"experiment: {name}\nsubmission: {name}\nruns: [{name}]\nstages: [train, ensemble]\n"
        )
        (tmp_path / f"{name}.yaml").write_text(text + more)
    (tmp_path / "c.yaml").write_text("submission: c\nruns: [a, b]\nstages: [ensemble]\n")
    return tmp_path


def files(place, names):
    first, *others = [str(place / f"{name}.yaml") for name in names]
    return [first, *(word for name in others for word in ("--then", name))]


def outcomes(out):
    """Return the table's rows behind the progress lines: name, result, steps and why."""
    _, _, text = out.partition("experiment  ")
    rows = [re.split(r"  +", line, maxsplit=4) for line in text.splitlines()[1:]]
    return {name: (result, steps, *why) for name, result, steps, _, *why in rows}


# Checked before anything starts


def refused(place, capsys, *argv):
    assert chain.main([*map(str, argv)]) == 2
    assert not (place / "runs").exists()
    return capsys.readouterr().err


def test_every_fault_of_every_experiment_is_told(place, capsys):
    (place / "d.yaml").write_text("experiment: [1]\nsecond: 3\nstages: [train]\n")
    err = refused(place, capsys, *files(place, "ad"), "--then", place / "e.yaml", "-p", "fial=true")
    assert err.startswith("error: 4 faults\n")
    for fault in ("e.yaml: there is no such file", "d.yaml: 'second' is no parameter",
                  "d.yaml: experiment: [1] is a list", "-p: 'fial' is no parameter"):  # fmt: skip
        assert fault in err


def test_one_name_is_made_in_one_way(place, capsys):
    (place / "b.yaml").write_text("experiment: a\nseconds: 1\nstages: [train]\n")
    err = refused(place, capsys, *files(place, "ab"))
    assert "runs/a/metrics.json would be made twice, with seconds 0.0 and 1.0" in err


def test_a_run_may_be_divided_among_experiments(place, capsys):
    (place / "b.yaml").write_text("experiment: a\nworkers: 4\nstages: [train]\n")
    assert chain.main([*files(place, "ab"), "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("b train ")


def test_an_experiment_may_need_an_earlier_one_but_no_later_one(place, capsys):
    assert chain.main(["--check", *files(place, "abc")]) == 0
    assert "runs: 'b' is made by no earlier stage" in refused(place, capsys, *files(place, "acb"))


def test_an_override_need_fit_one_experiment_only(place):
    layers = [[stages.read_layer(place / f"{name}.yaml")] for name in "abc"]
    plans = stages.plan_batch(layers, (), {"seconds": 2})
    assert [step.values.get("seconds") for steps in plans for step in steps] == [2, None] * 2 + [
        None
    ]
    with pytest.raises(ParameterError, match="'seconds' is no parameter of ensemble"):
        stages.plan_batch(layers, ["ensemble"], {"seconds": 2})


# Real kernels


def test_a_batch_survives_its_members_and_continues(place, capsys):
    assert chain.main(files(place, "abcd")) == 1
    captured = capsys.readouterr()
    why = f"train: ValueError: loss is not finite in b (see {place}/runs/b/03_train.failed.ipynb)"
    assert outcomes(captured.out) == {
        "a": ("done", "2 of 2"),
        "b": ("failed", "0 of 2", why),
        "c": ("skipped", "0 of 1", "ensemble needs 'b', which b failed to make"),
        "d": ("done", "2 of 2"),
    }
    lines = captured.out.splitlines()
    assert [line.split()[:3] for line in lines[:4]] == [
        ["[1/7]", "a", "train"], ["[2/7]", "a", "ensemble"],
        ["[6/7]", "d", "train"], ["[7/7]", "d", "ensemble"],
    ]  # fmt: skip
    assert re.search(r"\(0:\d\d elapsed, end expected \w{3} \d\d:\d\d\)$", lines[0])
    assert re.search(r"\(0:\d\d elapsed\)$", lines[3])
    assert "at step 3" in captured.err
    assert captured.err.endswith("Fix what failed, then the same command continues.\n")

    (place / "b.yaml").write_text((place / "b.yaml").read_text().replace("fail: true", ""))
    assert chain.main(files(place, "abcd")) == 0
    table = outcomes(capsys.readouterr().out)
    assert table["a"] == table["d"] == ("skipped", "2 of 2", "finished already")
    assert table["b"] == ("done", "2 of 2")
    assert (place / "submissions/c.csv").read_text() == "a+b"
    assert [(place / f"runs/{name}/times").read_text() for name in "abd"] == ["x", "xx", "x"]


def test_a_stopped_batch_continues_with_what_is_left(place, capsys):
    (place / "b.yaml").write_text("experiment: b\nseconds: 60\nstages: [train]\n")
    code = (
        "import pathlib, sys; from lib.runner import chain, parameters; "
        f"parameters.NOTEBOOKS = pathlib.Path({str(place)!r}); sys.exit(chain.main())"
    )
    command = [sys.executable, "-c", code, *files(place, "ab")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=PROJECT, **pipes)
    while not (place / "runs/b/times").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.endswith("the same command continues.\n")
    assert not list(place.rglob("*.tmp"))
    assert chain.main([*files(place, "ab"), "-p", "seconds=0"]) == 0
    assert outcomes(capsys.readouterr().out)["a"][1] == "2 of 2"


def test_each_stage_writes_the_page_and_what_is_wrong_with_it_stops_nothing(
    place, capfd, monkeypatch
):
    monkeypatch.setattr(stages, "_check_ledger", lambda step: None)  # it breaks while steps run
    (place / "submissions").mkdir()
    assert chain.main([*files(place, "a"), "--stages", "train"]) == 0
    assert (place / "runs/index.html").is_file()
    (place / "runs/index.html").unlink()
    (place / "submissions/ledger.csv").write_text("name;time\n")
    assert chain.main([*files(place, "a"), "--stages", "ensemble"]) == 0
    assert (place / "submissions/a.csv").read_text() == "a"
    assert not (place / "runs/index.html").exists()
    err = capfd.readouterr().err
    assert "separate fields by commas" in err
    assert f"Later: python -m lib.run --index {place}/runs" in err


@pytest.mark.parametrize("option", [[], ["--check"]])
@pytest.mark.parametrize(
    ("text", "said"),
    [("name;time\n", "separate fields by commas"), ("name,time\na,b\n", "has no column runs")],
)
def test_a_broken_ledger_is_refused_before_anything_is_trained(place, capsys, option, text, said):
    (place / "submissions").mkdir()
    (place / "submissions/ledger.csv").write_text(text)
    assert chain.main([*option, *files(place, "a")]) == 2
    assert said in capsys.readouterr().err
    assert not (place / "runs").exists()
    assert chain.main(["--check", *files(place, "a"), "--stages", "train"]) == 0


# Without kernels


@pytest.fixture
def executed(monkeypatch):
    """Replace kernels: a list of the names that were executed, and an exception to raise once."""
    made, faults = [], {}

    def execute(step, copy):
        made.append(step.settings.get("experiment", step.settings.get("submission")))
        if fault := faults.pop(made[-1], None):
            raise fault
        return PROJECT / "x.html"

    monkeypatch.setattr(batch, "execute", execute)
    monkeypatch.setattr(batch, "prepare", lambda folder: None)
    return made, faults


def test_whatever_is_raised_the_others_are_run(place, executed, capsys):
    made, faults = executed
    faults["a"] = OSError(28, "No space left on device")
    assert chain.main(files(place, "ad")) == 1
    assert made == ["a", "d", "d"]
    captured = capsys.readouterr()
    reason = "train: OSError: [Errno 28] No space left on device"
    assert outcomes(captured.out)["a"] == ("failed", "0 of 2", reason)
    assert "Traceback" in captured.err


def test_an_error_that_the_user_can_fix_needs_no_traceback(place, executed, capsys):
    executed[1]["a"] = ArtefactError("the disk is full")
    assert chain.main(files(place, "ad")) == 1
    captured = capsys.readouterr()
    assert outcomes(captured.out)["a"][2] == "train: the disk is full"
    assert captured.err.count("the disk is full") == 1
    assert "Traceback" not in captured.err


def test_what_a_later_experiment_makes_after_all_is_not_missed(place, executed, capsys):
    made, faults = executed
    (place / "c.yaml").write_text("submission: c\nruns: [a]\nstages: [ensemble]\n")
    (place / "e.yaml").write_text("experiment: a\nstages: [train]\n")
    faults["a"] = RuntimeError("once")
    assert chain.main(files(place, "aec")) == 1
    assert made == ["a", "a", "c"]
    results = {name: row[0] for name, row in outcomes(capsys.readouterr().out).items()}
    assert results == {"a": "failed", "e": "done", "c": "done"}


def test_a_single_experiment_has_no_table(place, executed, capsys):
    assert chain.main(files(place, "a")) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_the_end_is_expected_from_steps_of_the_same_stage():
    clock = batch.Clock(
        [stages.Step(stage, {}, {}) for stage in ("crop", "train", "crop", "train", "bench")]
    )
    clock.start -= 70
    clock.ran(10.0)
    clock.ran(60.0)
    now = time.time()
    left = 10 + 60 + 35  # the mean of all for a stage that was not run yet
    assert clock.number() == "[3/5]"
    assert clock.expected() == pytest.approx(now + left, abs=2)
    assert clock.progress().startswith("1:10 elapsed, end expected ")
    clock.leave(3)
    assert clock.progress() == "1:10 elapsed"
    assert batch.duration(3 * 3600 + 312) == "3:05:12"


# What is finished


@pytest.fixture
def step(place):
    """Return a step that reads tables, a file of corrections and a run."""
    (place / "work").mkdir()
    for name in ("images.parquet", "notes.txt"):
        (place / "work" / name).write_text("1")
    (place / "fixes.csv").write_text("1")
    (place / "a.yaml").write_text(
        f"work_dir: {place}/work\nrelabel: ['{place}/fixes.csv']\nstages: [train]\n"
    )
    return plan_one(place)


def plan_one(place, **overrides):
    return stages.plan([stages.read_layer(place / "a.yaml")], (), overrides)[0]


@pytest.mark.parametrize("name", ["work/images.parquet", "fixes.csv", "03_train.ipynb"])
def test_a_step_is_not_finished_when_a_file_that_it_reads_has_changed(place, step, name):
    before = finished.key(step)
    assert finished.key(plan_one(place)) == before
    path = place / name
    path.write_text(path.read_text() + " ")
    assert finished.key(plan_one(place)) != before


def test_a_step_is_not_finished_when_a_parameter_or_the_code_has_changed(place, step, monkeypatch):
    before = finished.key(step)
    assert finished.key(plan_one(place, seconds=1)) != before
    (place / "work/notes.txt").write_text("2")
    assert finished.key(step) == before
    (place / "lib").mkdir()
    (place / "lib/more.py").write_text("")
    monkeypatch.setattr(finished, "PROJECT", place)
    assert finished.key(step) != before


def test_a_step_is_not_finished_when_one_of_its_files_is_gone(place, capsys):
    assert chain.main(files(place, "a")) == 0
    (place / "submissions/a.csv").unlink()
    capsys.readouterr()
    assert chain.main(files(place, "a")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("finished already")
    assert "->" in lines[1]
    assert (place / "submissions/a.csv").read_text() == "a"
