"""Two trainings of one run: they share its folds, wait for one another, and never mix."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import TASK

from lib import PROJECT, workers
from lib.errors import ArtefactError
from lib.score import runs

pytestmark = pytest.mark.no_cover  # other tests reach these lines; tracing costs a quarter

PARAMS = {"task": "mask", "learn": [], "experiment": "shared", "folds": [], "epochs": 3}
ALONE = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
OTHER = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from test_turns import ALONE, finish, start
from lib.score import runs
place = Path(sys.argv[1])
run = start(place)
for fold in runs.in_turn(run, [0], ALONE):
    (place / "began").touch()
    while not (place / "go").exists():
        time.sleep(0.05)
    finish(run, fold)
"""


def start(place, **changes):
    return runs.start(str(place), PARAMS | {"learn": []} | changes, TASK)


def finish(run, fold):
    table = pd.DataFrame({"p": [1.0]}, pd.Index([f"photo {fold}"], name="key"))
    run.write_fold(fold, table, table)


@pytest.fixture
def other(tmp_path):
    """Start a process that trains fold 0 until there is a file ``go``."""
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT) as process:
        while not (tmp_path / "began").exists():
            assert process.poll() is None
        yield process
        (tmp_path / "go").touch()


class Terminal:
    """Lets the other process go on when it is told that this one waits."""

    def __init__(self, place):
        self.place, self.text = place, ""

    def write(self, text):
        self.text += text
        (self.place / "go").touch()

    def flush(self):
        pass


def test_a_fold_that_another_process_trains_is_waited_for_and_left_to_it(
    other, tmp_path, monkeypatch
):
    terminal = Terminal(tmp_path)
    monkeypatch.setattr(workers, "PATIENCE", 0.2)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(runs.in_turn(start(tmp_path), [0, 1], ALONE)) == [1]
    assert f"shared/fold0 is being made by process {other.pid} on " in terminal.text
    assert "waiting for it" in terminal.text


def test_other_folds_of_the_run_can_be_trained_meanwhile(other, tmp_path):
    assert list(runs.in_turn(start(tmp_path), [1, 2], ALONE)) == [1, 2]
    assert other.poll() is None


def test_the_name_is_taken_from_the_first_step_on(other, tmp_path):
    with pytest.raises(ArtefactError, match="epochs was 3, is 4"):
        start(tmp_path, epochs=4)
    assert other.poll() is None


def test_a_name_that_was_taken_before_the_first_fold_is_refused(tmp_path):
    run = start(tmp_path)
    start(tmp_path, epochs=4)  # nothing was trained yet
    with pytest.raises(ArtefactError, match="epochs was 4, is 3"):
        next(runs.in_turn(run, [0], ALONE))


def test_a_training_that_was_interrupted_holds_nothing(tmp_path):
    run = start(tmp_path)

    def train():
        for fold in runs.in_turn(run, [0], ALONE):
            assert workers.held(run.folder, "fold*") == [f"fold{fold}"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:  # with its frames, as a notebook keeps it
        train()
    assert kept.value.__traceback__ is not None
    assert workers.held(run.folder, "fold*") == []
    assert list(runs.in_turn(run, [0], ALONE)) == [0]


def test_the_processes_of_one_training_take_a_fold_together(tmp_path):
    run, barrier = start(tmp_path), Barrier(2, timeout=60)
    finish(run, 1)

    def train(rank):
        process = SimpleNamespace(is_main_process=rank == 0, wait_for_everyone=barrier.wait)
        taken = []
        for fold in runs.in_turn(run, [0, 1, 2], process):
            taken.append(fold)
            barrier.wait()
            if rank == 0:  # threads of one process, whose files have the same temporary names
                finish(run, fold)
        return taken

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(train, range(2))) == [[0, 2], [0, 2]]


def test_who_holds_a_lock_may_be_gone_before_it_is_told(tmp_path):
    assert workers._told(tmp_path / "gone") == "another process"
