"""The runner: what it refuses, which value wins, and what it leaves behind."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lib import PROJECT
from lib.errors import ParameterError
from lib.runner import chain, parameters, recipes, stages

PARAMETERS = {
    "00_demo_data": ["people = 5  # people made"],
    "01_eda": ["bins = 10  # bins"],
    "02_face_crop": ["crop_margin = 0.3  # fraction"],
    "03_train": [
        'runs_dir = "{folder}/runs"  # folder',
        'experiment = "baseline"  # name',
        "lr = 1.0e-3  # rate",
        "epochs = 2  # count",
        "ema = False  # averaged weights",
        'backbone = ["resnet18"]  # timm names',
        "drop = []  # left out",
        "weights = {{}}  # by loss",
    ],
    "04_ensemble_tta": [
        'submissions_dir = "{folder}/submissions"  # folder',
        'submission = "first"  # name',
        'runs_dir = "{folder}/runs"  # folder',
        "runs = []  # runs",
        'vote = "soft"  # how members are combined: soft | hard',
    ],
}


def write_notebook(path: Path, *sources: str) -> None:
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source}
        for i, source in enumerate(sources)
    ]
    cells = [cell | {"outputs": [], "execution_count": None} for cell in cells]
    cells[0]["metadata"]["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Notebooks of their own for every stage; those that look at photos share ``work_dir``."""
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    for name, lines in PARAMETERS.items():
        shared = ['work_dir = "{folder}/work"  # tables'] if name < "04" else []
        cell = "\n".join([*shared, *lines]).format(folder=tmp_path)
        write_notebook(tmp_path / f"{name}.ipynb", cell, "print('ok')")
    return tmp_path


def plan_of(folder, text="", only=(), **overrides):
    (folder / "a.yaml").write_text(text or "stages: []\n")
    return stages.plan([stages.read_layer(folder / "a.yaml")], only, overrides)


def fault(folder, text="", only=(), **overrides):
    with pytest.raises(ParameterError) as caught:
        plan_of(folder, text, only, **overrides)
    return str(caught.value)


# Precedence


def test_default_stages(folder):
    assert [step.stage for step in plan_of(folder)] == ["eda", "crop", "train", "ensemble"]


def test_each_notebook_is_handed_only_its_own_keys(folder):
    steps = plan_of(folder, "work_dir: w\nlr: 0.5\nexperiment: a\nruns: [a]\n")
    assert [step.values for step in steps] == [{"work_dir": "w"}] * 2 + [
        {"work_dir": "w", "lr": 0.5, "experiment": "a"},
        {"runs": ["a"]},
    ]


def test_file_then_later_file_then_entry_then_p(folder):
    (folder / "b.yaml").write_text("epochs: 7\nlr: 0.2\nbackbone: [b]\nweights: {ce: 1}\n")
    text = (
        "epochs: 6\nlr: 0.1\nexperiment: a\nweights: {focal: 1}\n"
        "stages: [train: {lr: 0.3, backbone: entry}]\n"
    )
    (folder / "a.yaml").write_text(text)
    layers = [stages.read_layer(folder / name) for name in ("a.yaml", "b.yaml")]
    (step,) = stages.plan(layers, (), {"backbone": "p"})
    wanted = {"epochs": 7, "lr": 0.3, "experiment": "a", "weights": {"ce": 1}, "backbone": ["p"]}
    assert step.values == wanted


def test_one_stage_several_times_each_with_its_copy(folder):
    text = (
        "epochs: 1\nstages:\n- train: {experiment: m}\n- train: {experiment: g}\n"
        "- ensemble: {runs: [m, g]}\n"
    )
    steps = plan_of(folder, text)
    assert [step.values.get("experiment") for step in steps] == ["m", "g", None]
    assert [step.copy.removeprefix(str(folder)) for step in steps] == [
        "/runs/m/03_train",
        "/runs/g/03_train",
        "/submissions/first",
    ]


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (["train"], [("train", {"lr": 0.1}), ("train", {"experiment": "b"})]),
        (["crop", "train"], [("crop", {}), ("train", {"lr": 0.1}), ("train", {"experiment": "b"})]),
        (["ensemble", "eda"], [("ensemble", {}), ("eda", {})]),
        (["eda"], [("eda", {})]),
    ],
)
def test_stages_option_keeps_the_entries_of_the_file(folder, only, wanted):
    text = "stages: [train: {lr: 0.1}, ensemble, train: {experiment: b}]\n"
    assert [(step.stage, step.values) for step in plan_of(folder, text, only)] == wanted


def test_narrowing_does_not_make_the_files_keys_wrong(folder):
    steps = plan_of(folder, "people: 3\nstages: [demo, train]\n", ["train"])
    assert [step.values for step in steps] == [{}]


# Wrong keys


def test_unknown_key_names_the_nearest(folder):
    message = fault(folder, "epocs: 3\n")
    assert "a.yaml: 'epocs'" in message
    assert "did you mean 'epochs'?" in message
    assert "--list" in message


def test_key_of_a_stage_that_is_not_run_names_its_owner(folder):
    assert "but of demo: add that stage" in fault(folder, "people: 3\n")


def test_p_and_entries_must_fit_the_notebooks_they_are_for(folder):
    assert fault(folder, "stages: [train, ensemble]\n", ["ensemble"], lr=0.1).startswith(
        "-p: 'lr' is no parameter of ensemble"
    )
    assert "a.yaml: stage train: 'bins'" in fault(folder, "stages: [eda, train: {bins: 3}]\n")


def test_repeated_key_at_any_depth(folder):
    assert "line 2: 'lr' is given twice" in fault(folder, "lr: 0.1\nlr: 0.2\n")
    assert "'ce' is given twice" in fault(folder, "weights: {ce: 1, ce: 2}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [trian]", "did you mean 'train'"),
        ("stages: train", "'train' is text: write ["),
        ("stages: [train: 3]", "write a stage's name"),
        ("stages: [{train: {}, eda: {}}]", "write a stage's name"),
        ("# nothing", "is empty"),
        ("- lr", "holds a list"),
        ("lr: [1", "a.yaml: while parsing"),
    ],
)
def test_malformed_file(folder, text, message):
    assert message in fault(folder, text)


def test_missing_file_and_misspelt_stages_option(folder):
    with pytest.raises(ParameterError, match="no such file"):
        stages.read_layer(folder / "none.yaml")
    assert "did you mean 'crop'" in fault(folder, "", ["crpo"])


# Wrong values


def test_wrong_value_names_file_and_key(folder):
    assert "a.yaml: lr: 'fast' is text" in fault(folder, "lr: fast\n")
    assert "a.yaml: stage train: epochs:" in fault(folder, "stages: [train: {epochs: two}]\n")
    assert fault(folder, "", experiment=8).startswith("-p: experiment: 8 is a whole number")


# What only the last stage uses


def test_a_wrong_choice_of_the_last_stage_is_refused_first(folder):
    message = fault(folder, "stages: [train, ensemble]\n", vote="sfot")
    assert message == "-p: vote: 'sfot' is not one of: soft, hard (did you mean 'soft'?)"


def test_a_name_that_is_no_file_name_is_refused(folder):
    for name in ("my sub", "", "../up"):
        assert f"ensemble: submission={name!r} names a file" in fault(folder, submission=name)
    assert "ensemble: submission='Ledger' would take the place" in fault(
        folder, submission="Ledger"
    )


def test_a_run_is_made_by_an_earlier_stage_or_is_there(folder):
    text = "stages: [train: {experiment: m}, ensemble: {runs: [m]}]\n"
    assert len(plan_of(folder, text)) == 2
    assert "runs: 'n' is made by no earlier stage" in fault(folder, text.replace("[m]", "[m, n]"))
    backwards = "stages: [ensemble: {runs: [m]}, train: {experiment: m}]\n"
    assert "metrics.json is missing" in fault(folder, backwards)
    (folder / "runs/m").mkdir(parents=True)
    (folder / "runs/m/metrics.json").touch()
    assert len(plan_of(folder, backwards)) == 2


# The command line


def test_check_runs_nothing_and_says_what_would_run(folder, capsys):
    (folder / "a.yaml").write_text("lr: 1\n")
    assert (
        chain.main([str(folder / "a.yaml"), "--stages", "train", "-p", "epochs=9", "--check"]) == 0
    )
    assert "{'lr': 1.0, 'epochs': 9}" in capsys.readouterr().out
    assert not (folder / "runs").exists()


def test_wrong_parameter_is_one_line_and_exit_code_2(folder, capsys):
    assert chain.main(["--stages", "train", "-p", "epoch=9"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "did you mean 'epochs'" in captured.err


@pytest.mark.parametrize("argv", [[], ["--stages", "train", "-p", "lr"]])
def test_command_line_without_meaning(folder, argv):
    with pytest.raises(SystemExit, match="2"):
        chain.main(argv)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "lib.run", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_list_shows_every_parameter_with_its_meaning(folder, capsys):
    assert chain.main(["--list"]) == 0
    listing = capsys.readouterr().out
    assert "  epochs = 2  # count" in listing
    assert "  runs = []  # runs" in listing


def test_checking_imports_nothing_heavy():
    heavy = ["torch", "papermill", "pandas", "numpy", "nbformat", "nbconvert"]
    code = f"import sys, lib.runner.chain; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# Real kernels


def test_chain_leaves_notebooks_and_html_then_stops_at_a_failure(folder, capfd):
    work = folder / "work"
    bar = "from lib.progress import progress\nfor i in progress(range(50), 'bar'): pass"
    write_notebook(
        folder / "01_eda.ipynb",
        f"work_dir = '{work}'  # tables\nbins = 10  # bins",
        bar,
        "print(bins * 2)",
    )
    broken = "low = 0\nratio = crop_margin / low\nnever = 1"
    write_notebook(
        folder / "02_face_crop.ipynb",
        f"work_dir = '{work}'  # tables\ncrop_margin = 0.3  # fraction",
        broken,
    )

    assert chain.main(["--stages", "eda,crop,train", "-p", "bins=21"]) == 1
    out, err = capfd.readouterr()
    assert out.startswith("[1/3] eda ")
    assert out.count("\n") == 1
    assert "\rbar:" in err
    assert "----> 2 ratio = crop_margin / low" in err
    assert "ZeroDivisionError: float division by zero" in err
    assert "\x1b" not in err
    assert "the same command continues" in err

    names = ["01_eda.html", "01_eda.ipynb", "02_face_crop.failed.ipynb"]
    assert sorted(path.name for path in work.iterdir()) == names
    assert not (folder / "runs").exists()
    assert "ZeroDivisionError" in (work / names[2]).read_text()
    assert ">42\n" in (work / names[0]).read_text()
    streams = [
        out["text"]
        for cell in json.loads((work / names[1]).read_text())["cells"]
        for out in cell["outputs"]
    ]
    assert ["".join(text).strip() for text in streams] == ["42"]

    write_notebook(
        folder / "02_face_crop.ipynb",
        f"work_dir = '{work}'  # tables",
        "import lib.errors, os",
        "os.getcwd()",
    )
    assert chain.main(["--stages", "crop"]) == 0
    assert sorted(path.name for path in work.iterdir()) == [
        *names[:2],
        "02_face_crop.html",
        "02_face_crop.ipynb",
    ]
    assert repr(str(PROJECT)) in (work / "02_face_crop.ipynb").read_text()


def test_notebooks_run_in_this_python_whatever_jupyter_finds_first(folder, monkeypatch):
    (folder / "kernels/python3").mkdir(parents=True)
    kernel = {
        "argv": ["/none/python", "{connection_file}"],
        "display_name": "",
        "language": "python",
    }
    (folder / "kernels/python3/kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    cells = f"work_dir = '{folder}/work'  # tables", "import sys; sys.executable"
    write_notebook(folder / "01_eda.ipynb", *cells)
    assert chain.main(["--stages", "eda"]) == 0
    assert sys.executable in (folder / "work/01_eda.ipynb").read_text()


def test_dead_kernel_is_a_failure_with_a_reason(folder, capfd):
    write_notebook(
        folder / "01_eda.ipynb", f"work_dir = '{folder}'  # tables", "import os; os._exit(9)"
    )
    assert chain.main(["--stages", "eda"]) == 1
    assert "memory" in capfd.readouterr().err


ENDS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def waiting_chain(folder, *ignored):
    """Start a chain in a process that ignores some signals; return it once its kernel works."""
    started = folder / "kernel.pid"
    wait = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    write_notebook(folder / "01_eda.ipynb", f"work_dir = '{folder}/work'  # tables", wait)
    code = (
        "import pathlib, sys; from lib.runner import chain, parameters; "
        f"parameters.NOTEBOOKS = pathlib.Path({str(folder)!r}); "
        "sys.exit(chain.main(['--stages', 'eda']))"
    )

    def ignore():  # as a shell does before it starts a command in the background, and nohup
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            handler = signal.SIG_IGN if name in ignored else signal.SIG_DFL
            signal.signal(getattr(signal, name), handler)

    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=ignore,
    )
    while not (started.is_file() and started.read_text()) and process.poll() is None:
        time.sleep(0.1)
    return process, int(started.read_text())


@pytest.mark.skipif(os.name == "nt", reason="a Windows console sends Ctrl-C in another way")
@pytest.mark.parametrize(
    ("name", "ignored"),
    [("SIGINT", []), ("SIGINT", ["SIGINT", "SIGHUP"]), ("SIGTERM", ["SIGINT"]), ("SIGHUP", [])],
)
def test_interrupt_stops_the_kernel_and_says_how_to_go_on(folder, name, ignored):
    process, kernel = waiting_chain(folder, *ignored)
    process.send_signal(getattr(signal, name))
    process.send_signal(getattr(signal, name))  # impatience changes nothing
    _, err = process.communicate(timeout=60)
    assert process.returncode == ENDS[name]
    assert err.endswith(f"Stopped by {name}. Finished work is kept: the same command continues.\n")
    assert "Traceback" not in err, err
    assert list((folder / "work").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_a_killed_chain_left_goes_when_the_stage_starts_again(folder):
    process, kernel = waiting_chain(folder)
    (left,) = (folder / "work").iterdir()
    assert left.name == f".01_eda.ipynb.{platform.node()}.{process.pid}.tmp"
    process.kill()
    process.wait()
    process.stderr.close()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(kernel) and time.monotonic() < deadline:  # it looks for its parent
        time.sleep(0.1)
    assert not psutil.pid_exists(kernel)
    write_notebook(folder / "01_eda.ipynb", f"work_dir = '{folder}/work'  # tables", "1")
    assert chain.main(["--stages", "eda"]) == 0
    assert sorted(path.name for path in (folder / "work").iterdir()) == [
        "01_eda.html",
        "01_eda.ipynb",
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_nohup_keeps_a_chain_alive_when_its_terminal_is_closed(folder):
    process, _ = waiting_chain(folder, "SIGINT", "SIGHUP")
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=60) == 143
    process.stderr.close()


def test_signals_mean_what_they_meant_after_a_command(folder):
    before = signal.getsignal(signal.SIGTERM)
    assert chain.main(["--stages", "eda", "--check"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_documents_exit_codes(folder, capsys):
    with pytest.raises(SystemExit, match="0"):
        chain.main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {code} ", text, re.MULTILINE) for code in (0, 1, 2, 129, 130, 143))


def test_help_of_the_recipes_starts_nothing(capsys):
    with pytest.raises(SystemExit, match="0"):
        recipes.main(["--help"])
    assert "usage: python -m lib.runner.recipes" in capsys.readouterr().out


def test_a_star_names_runs_that_are_there_or_that_the_chain_makes(folder):
    text = "stages: [train, ensemble]\nruns: ['base*']\n"
    assert plan_of(folder, text)[-1].settings["runs"] == ["base*"]
    assert "ensemble: runs: 'odd*' is made by no earlier stage" in fault(
        folder, text, runs=["odd*"]
    )
    for name in ("odd_1", "odd_0"):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "metrics.json").write_text("{}")
    (step,) = plan_of(folder, text, ["ensemble"], runs=["odd*"])
    found = [path for _, _, path in stages.needs(step)]
    assert found == [f"{folder}/runs/{name}/metrics.json" for name in ("odd_0", "odd_1")]
