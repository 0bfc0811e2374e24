"""Run experiments one after another: one that fails stops no other, and a table tells the end."""

import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lib import PROJECT
from lib.errors import FacefoldError
from lib.runner.finished import is_finished
from lib.runner.kernels import StageError, execute, prepare, shown
from lib.runner.stages import Step, needs


class Experiment(NamedTuple):
    """The steps of one experiment; ``name`` is how it is called where there are several."""

    name: str
    steps: list[Step]


class Result(NamedTuple):
    """What became of an experiment: done, skipped or failed; ``why`` is one line."""

    experiment: str
    result: str
    steps: str = ""
    time: str = ""
    why: str = ""


class Clock:
    """Knows which step of how many it is, and expects an end from the steps that were run."""

    def __init__(self, steps: Sequence[Step]):
        self.left = [step.stage for step in steps]
        self.count, self.start = len(steps), time.monotonic()
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def number(self) -> str:
        """Return which of how many the next step is: ``[2/8]``."""
        return f"[{self.count - len(self.left) + 1}/{self.count}]"

    def ran(self, seconds: float) -> None:
        """Count the next step as run, in so many seconds."""
        self.seconds[self.left[0]].append(seconds)
        self.leave()

    def leave(self, count: int = 1) -> None:
        """Count the next steps without having run them."""
        del self.left[:count]

    def expected(self) -> float:
        """Return when the last step should end, by steps of the same stage or else of all."""
        known = [seconds for stage in self.seconds.values() for seconds in stage]
        return time.time() + sum(_mean(self.seconds[stage] or known) for stage in self.left)

    def progress(self) -> str:
        """Return the time since the start, and the end that is expected while steps are left."""
        elapsed = f"{duration(time.monotonic() - self.start)} elapsed"
        if not self.left:
            return elapsed
        end = time.strftime("%a %H:%M", time.localtime(self.expected()))
        return f"{elapsed}, end expected {end}"


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def duration(seconds: float) -> str:
    """Return seconds as ``0:12`` or ``3:05:12``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def run(experiments: Sequence[Experiment], keep: bool = True) -> list[Result]:
    """Run every experiment, a line on stdout for each step; return what became of each.

    Without ``keep`` the executed notebooks are thrown away: of several processes that train
    together only the first one keeps them.
    """
    clock = Clock([step for experiment in experiments for step in experiment.steps])
    lost: dict[str, str] = {}  # paths that were not made, by the experiment that failed to
    with TemporaryDirectory() as temporary:
        prepare(temporary)
        copies = "" if keep else temporary
        return [_run(experiment, clock, lost, copies) for experiment in experiments]


def _run(experiment: Experiment, clock: Clock, lost: dict[str, str], copies: str) -> Result:
    """Run an experiment to its end, or to the first step that fails or lacks what it needs."""
    start, outcomes, why = time.monotonic(), [], ""
    for step in experiment.steps:
        outcome, why = _missing(step, lost) or _attempt(step, experiment.name, clock, copies)
        outcomes.append(outcome)
        if outcome != "skipped" and not copies:
            write_page(step)
        if why:
            break
        for path in step.makes:
            lost.pop(path, None)
    count, done = len(experiment.steps), len(outcomes) - bool(why)
    clock.leave(count - done)
    for step in experiment.steps[done:]:
        lost |= dict.fromkeys(step.makes, experiment.name)
    result = outcomes[-1] if why else max(outcomes, key=["skipped", "done"].index)
    why = why or ("finished already" if result == "skipped" else "")
    passed = duration(time.monotonic() - start)
    return Result(experiment.name, result, f"{done} of {count}", passed, why)


def _missing(step: Step, lost: Mapping[str, str]) -> tuple[str, str] | None:
    missing = [
        f"{name!r}, which {lost[p]} failed to make" for _, name, p in needs(step) if p in lost
    ]
    return ("skipped", f"{step.stage} needs {'; '.join(missing)}") if missing else None


def _attempt(step: Step, name: str, clock: Clock, copies: str) -> tuple[str, str]:
    """Run a step unless it is finished; return done, skipped or failed, and why it failed."""
    line = f"{clock.number()} {name}{' ' * bool(name)}{step.stage:<8} {shown(step.notebook)}"
    try:
        if is_finished(step):
            clock.leave()
            print(f"{line}  finished already", flush=True)
            return "skipped", ""
        print(line, "...", file=sys.stderr, flush=True)
        start = time.monotonic()
        html = execute(step, f"{copies}/{step.stage}" if copies else step.copy)
        seconds = time.monotonic() - start
        clock.ran(seconds)
        print(f"{line}  {duration(seconds)}  -> {shown(html)}  ({clock.progress()})", flush=True)
        return "done", ""
    except Exception as error:  # noqa: BLE001, whatever it is: the other experiments are run
        return "failed", reason(step, error)


def reason(step: Step, error: Exception) -> str:
    """Tell on stderr why a step failed, with the calls where it is our fault; return it in a line.

    Call it where the error is handled.
    """
    if isinstance(error, StageError):
        print(error, file=sys.stderr)
        return error.reason
    if isinstance(error, FacefoldError):
        print(f"{step.stage} failed: {error}", file=sys.stderr)
        return f"{step.stage}: {error}".partition("\n")[0]
    traceback.print_exc()
    return f"{step.stage}: {type(error).__name__}: {error}".partition("\n")[0]


def write_page(step: Step) -> None:
    """Write the page of all runs, where the step knows their folder and it is there.

    Another process does it and tells what is wrong: nothing there can stop the steps here.
    """
    if "runs_dir" not in step.settings:
        return
    runs_dir = PROJECT / Path(step.settings["runs_dir"]).expanduser()
    if not runs_dir.is_dir():
        return
    submissions_dir = step.settings.get("submissions_dir", "submissions")
    options = ["--index", str(runs_dir), "-p", f"submissions_dir={submissions_dir}"]
    command = [sys.executable, "-m", "lib.run", *options]
    made = subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    if made.returncode:
        print(f"The page of all runs was not written (see above). Later: python -m lib.run --index "
              f"{shown(runs_dir)}", file=sys.stderr)  # fmt: skip


def table(results: Sequence[Result]) -> str:
    """Return what became of each experiment as aligned text."""
    rows = [Result._fields, *results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
