"""A sweep: an optuna study whose trials are ordinary runs of fold 0, shared by any workers.

A worker repeats three steps: claim the next trial, run it, tell the study its score. The study is a
journal file in ``runs/<study>/``; a trial is the run ``runs/<study>-<number>``. While a worker has
a trial, it holds the trial's lock. The lock ends with its process, on any machine that shares the
disk: so a running trial whose lock is free was abandoned, and the next worker continues its run
from the last epoch. Akiba et al. 2019, Optuna: a next-generation hyperparameter optimization
framework.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import optuna
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from lib import PROJECT, artefacts
from lib.errors import ArtefactError, ParameterError
from lib.progress import progress
from lib.runner.kernels import shown
from lib.runner.space import Space
from lib.workers import one_process

JOURNAL = "journal.log"
POLL = 1.0  # seconds between two looks at a training's history
BEFORE_PRUNING = 4  # complete trials, so that there is a median worth the name
REPEATS = 20  # proposals of known parameters in a row, after which the space counts as exhausted
FOLD = 0  # the fold of every trial; its people choose the finalists, so they never judge them


class Claim(NamedTuple):
    """A trial that this worker has, and the lock that says so."""

    trial: Trial
    lock: FileLock


@dataclass(frozen=True)
class Sweep:
    """A study's name and folder of runs, what it searches, and optuna's study."""

    name: str
    runs_dir: str
    space: Space
    study: optuna.Study

    @property
    def folder(self) -> Path:
        """The folder of the journal, and of each trial's parameter file and log."""
        return artefacts.resolve(self.runs_dir) / self.name

    def experiment(self, number: int) -> str:
        """Return the name of a trial's run."""
        return f"{self.name}-{number:03}"

    def run_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return artefacts.resolve(self.runs_dir) / self.experiment(number)

    def lock(self, number: int) -> FileLock:
        """Return the lock of the worker that has a trial."""
        return FileLock(self.folder / f".{self.experiment(number)}.worker.lock")

    def log(self, number: int) -> Path:
        """Return the file of what a trial's training prints."""
        return self.folder / f"{self.experiment(number)}.log"


def open_sweep(name: str, runs_dir: str, space: Space) -> Sweep:
    """Open a study or go on with it; ArtefactError if its name stands for something else."""
    folder = artefacts.resolve(runs_dir) / name
    if (folder / "params.yaml").exists():
        raise ArtefactError(f"study={name!r}: {folder} is a run: give the study another name")
    with one_process(folder / "claim"):
        made = Sweep(name, runs_dir, space, _study(folder, name))
        _check_same(made)
        if not made.study.get_trials(deepcopy=False):
            made.study.enqueue_trial(space.default)
    return made


def _study(folder: Path, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(folder / JOURNAL)
    storage = JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING, n_warmup_steps=1)
    options = {"storage": storage, "study_name": name, "pruner": pruner}
    return optuna.create_study(**options, direction="maximize", load_if_exists=True)


def _check_same(sweep: Sweep) -> None:
    """Refuse to go on with another base or space: scores would not belong together."""
    searched = {name: str(each.distribution) for name, each in sweep.space.searched.items()}
    now = {"base": sweep.space.base, "searched": searched}
    before = sweep.study.user_attrs
    changed = [key for key, value in now.items() if before.get(key, value) != value]
    if changed:
        raise ArtefactError(
            f"study={sweep.name!r} was begun with another {' and '.join(changed)}, nothing is "
            f"overwritten: give the study another name, or delete {sweep.folder} and its runs"
        )
    for key in now.keys() - before.keys():
        sweep.study.set_user_attr(key, now[key])


def claim(sweep: Sweep, trials: int = 0) -> Claim | None:
    """Return the next trial: one that was abandoned, or a new one; None if there is none now.

    ``trials`` is how many the study has at most, repeated parameters aside; 0 for any number.
    """
    with one_process(sweep.folder / "claim"):
        return _abandoned(sweep) or _new(sweep, trials)


def _abandoned(sweep: Sweep) -> Claim | None:
    for number in running(sweep):
        lock = sweep.lock(number)
        with suppress(Timeout):
            lock.acquire(blocking=False)
            if number in running(sweep):  # its worker did not end it just now
                trial_id = sweep.study.get_trials(deepcopy=False)[number]._trial_id
                return Claim(Trial(sweep.study, trial_id), lock)
            lock.release()
    return None


def running(sweep: Sweep) -> list[int]:
    """Return the numbers of the trials that no worker has ended."""
    found = sweep.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return [trial.number for trial in found]


def _new(sweep: Sweep, trials: int) -> Claim | None:
    for _ in range(REPEATS):
        if trials and len(begun(sweep)) >= trials:
            return None
        known = sweep.study.get_trials(deepcopy=False)
        sweep.study.sampler = optuna.samplers.TPESampler(seed=len(known))  # no worker repeats it
        trial = sweep.study.ask(sweep.space.distributions())
        twin = next((old for old in begun(sweep)[:-1] if old.params == trial.params), None)
        if twin is None:
            lock = sweep.lock(trial.number)
            lock.acquire()
            return Claim(trial, lock)
        _repeat(sweep, trial, twin)
    return None


def begun(sweep: Sweep) -> list[FrozenTrial]:
    """Return the trials that are or were run, in their order."""
    found = sweep.study.get_trials(deepcopy=False)
    return [t for t in found if t.state != TrialState.WAITING and "repeats" not in t.user_attrs]


def _repeat(sweep: Sweep, trial: Trial, twin: FrozenTrial) -> None:
    """Tell the score of the earlier trial that has the same parameters: nothing is run."""
    trial.set_user_attr("repeats", twin.number)
    if twin.state == TrialState.COMPLETE:
        sweep.study.tell(trial, twin.value)
    else:
        sweep.study.tell(trial, state=TrialState.FAIL)


def run(
    sweep: Sweep, trial: Trial, after_epoch: Callable[[int], None] = lambda epoch: None
) -> TrialState:
    """Train a trial's fold, reporting each epoch; return complete, pruned or fail.

    A trial that was begun goes on where it stopped. It is pruned, and its training stopped, when
    its best score is below the median of the others at the same epoch.
    """
    with _training(sweep, trial.number, trial.params, [FOLD]) as process:
        while process.poll() is None:
            time.sleep(POLL)
            after_epoch(_report(sweep, trial))
            if trial.should_prune() and process.poll() is None:
                return TrialState.PRUNED
    _report(sweep, trial)
    return TrialState.FAIL if process.returncode else TrialState.COMPLETE


def tell(sweep: Sweep, claimed: Claim, state: TrialState) -> None:
    """Tell the study how a trial ended, its score the best epoch's; give the trial up."""
    complete = state == TrialState.COMPLETE
    score = float(history(sweep, claimed.trial.number)["score"].max()) if complete else None
    sweep.study.tell(claimed.trial, score, None if complete else state)
    claimed.lock.release()


@contextmanager
def _training(
    sweep: Sweep, number: int, found: dict, folds: Sequence[int]
) -> Iterator[subprocess.Popen]:
    """Train folds of a trial's run by ``lib.run`` in a process that ends with this block."""
    path = sweep.folder / f"{sweep.experiment(number)}.yaml"
    names = {"experiment": sweep.experiment(number), "runs_dir": sweep.runs_dir}
    text = yaml.safe_dump(sweep.space.parameters(found) | names, sort_keys=False)
    artefacts.write_text(f"# Trial {number} of the sweep {sweep.name}.\n{text}", path)
    command = [sys.executable, "-m", "lib.runner.trial", str(path), "--stages", "train"]
    with sweep.log(number).open("a") as log:
        process = subprocess.Popen(
            [*command, "-p", f"folds={list(folds)}"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def history(sweep: Sweep, number: int) -> pd.DataFrame:
    """Return the history of a trial's fold, without rows before its first epoch has ended."""
    path = sweep.run_folder(number) / f"fold{FOLD}" / "history.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame({"epoch": [], "score": []})


def _report(sweep: Sweep, trial: Trial) -> int:
    """Report the epochs that the study does not know; return how many have ended."""
    table = history(sweep, trial.number)
    known = sweep.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    for epoch, score in zip(table["epoch"], table["score"], strict=True):
        if epoch not in known:
            trial.report(score, int(epoch))
    return len(table)


def search(sweep: Sweep, trials: int = 0, hours: float = 0.0) -> None:
    """Work on a study until it has ``trials`` or ``hours`` have passed (0: no such limit).

    A trial that has begun is finished. With a limit of trials, the worker waits for the trials of
    other workers, and continues those that they abandon.
    """
    if not trials and not hours:
        raise ParameterError("trials=0 and hours=0.0 would never end: set one of them")
    end = time.monotonic() + (hours * 3600 or math.inf)
    with progress(desc=sweep.name, total=trials or None, unit="trial") as bar:
        while time.monotonic() < end:
            if claimed := claim(sweep, trials):
                show = partial(_show, sweep, bar, claimed.trial.number)
                tell(sweep, claimed, run(sweep, claimed.trial, show))
            elif not running(sweep):
                return
            else:
                time.sleep(POLL)


def _show(sweep: Sweep, bar, number: int, epoch: int) -> None:
    bar.n = len([trial for trial in begun(sweep) if trial.state.is_finished()])
    bar.set_postfix_str(f"{sweep.experiment(number)} epoch {epoch}")


def table(sweep: Sweep) -> pd.DataFrame:
    """Return a row per trial: its state, best score, epochs, minutes, and what is searched."""
    return pd.DataFrame([_row(trial) for trial in begun(sweep)]).set_index("trial")


def _row(trial: FrozenTrial) -> dict:
    end, start = trial.datetime_complete, trial.datetime_start
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "score": max(trial.intermediate_values.values(), default=math.nan),
        "epochs": len(trial.intermediate_values),
        "minutes": (end - start).total_seconds() / 60 if end and start else math.nan,
        **trial.params,
    }


def finalists(sweep: Sweep, count: int) -> list[int]:
    """Return the numbers of the default, 0, and of the best ``count`` complete trials."""
    complete = [trial for trial in begun(sweep) if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=True)[:count]
    if not best:
        raise ArtefactError(f"no trial of {sweep.name!r} was completed: see {shown(sweep.log(0))}")
    return list(dict.fromkeys([0, *(trial.number for trial in best)]))


def finish(sweep: Sweep, numbers: Sequence[int]) -> None:
    """Train the other folds of some trials' runs; several workers share the runs."""
    for blocking in (False, True):  # first those that nobody else trains, then wait for the others
        for number in progress(numbers, "finalists on all folds", unit="run"):
            with suppress(Timeout), sweep.lock(number).acquire(blocking=blocking):
                _finish(sweep, number)


def _finish(sweep: Sweep, number: int) -> None:
    if (sweep.run_folder(number) / "metrics.json").exists():
        return
    found = sweep.study.get_trials(deepcopy=False)[number].params
    with _training(sweep, number, found, []) as process:
        process.wait()
    if process.returncode:
        name = sweep.experiment(number)
        raise ArtefactError(f"{name} failed on all folds: see {shown(sweep.log(number))}")


def write_best(sweep: Sweep, number: int, verdict: str, path: Path) -> None:
    """Write the parameters of a trial as a parameter file that says how sure the choice is."""
    name = sweep.experiment(number)
    found = sweep.study.get_trials(deepcopy=False)[number].params
    names = {"experiment": name, "runs_dir": sweep.runs_dir, "submission": name, "runs": [name]}
    text = yaml.safe_dump(sweep.space.parameters(found) | names, sort_keys=False)
    about = f"# The best of the sweep {sweep.name}, trained already.\n# {verdict}\n"
    artefacts.write_text(about + text, path)
