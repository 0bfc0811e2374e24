"""The one view of a batch of units: lines in the terminal, and ``batch.json`` for the page of runs.

A unit is waiting, running, done, finished (before), skipped (what it needs is missing) or failed.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lib import artefacts
from lib.runner.batch import Result, duration
from lib.runner.kernels import shown
from lib.runner.unit import Outcome
from lib.runner.units import Plan, Unit

BATCH = "batch.json"  # in the folder of runs; lib/explain/page.py shows it
GOOD = ("done", "finished")
TAIL = 12  # lines of a failed unit's log that are shown


class Board:
    """What became of each unit so far; whoever runs them tells it."""

    def __init__(self, plan: Plan):
        self.units, self.experiments = plan
        self.outcomes: dict[int, Outcome] = {}
        self.running: dict[int, tuple[str, float]] = {}  # where, and since when
        self.start, self.began = time.monotonic(), time.time()

    def waiting(self) -> list[int]:
        """Return the units that are neither running nor ended."""
        known = self.outcomes.keys() | self.running.keys()
        return [number for number in range(len(self.units)) if number not in known]

    def is_ready(self, number: int) -> bool:
        """Tell whether everything that a unit waits for has ended."""
        unit = self.units[number]
        return unit.needs | unit.after <= self.outcomes.keys()

    def missing(self, number: int) -> str:
        """Return in words what a unit needs and cannot have; "" if it has everything."""
        unit = self.units[number]
        lost = [self.units[n].name for n in sorted(unit.needs) if not self._is_good(n)]
        return f"{unit.step.stage} needs {', '.join(lost)}, not made" if lost else ""

    def _is_good(self, number: int) -> bool:
        return self.outcomes[number].result in GOOD

    def runs(self, places: Mapping[int, str]) -> None:
        """Note which units are running now, and where; tell of each that is new."""
        for number, where in places.items():
            if number not in self.outcomes and self.running.get(number, ("", 0))[0] != where:
                self.running[number] = (where, time.monotonic())
                print(f"{self.units[number].name} runs on {where} ...", file=sys.stderr, flush=True)

    def ends(self, number: int, outcome: Outcome) -> None:
        """Note how a unit has ended, and tell it."""
        self.running.pop(number, None)
        self.outcomes[number] = outcome
        line = f"[{len(self.outcomes)}/{len(self.units)}] {self.units[number].name}"
        print(f"{line}  {self._told(number, outcome)}", flush=True)
        if outcome.result == "failed":
            print(_tail(self.units[number].log), file=sys.stderr, flush=True)

    def _told(self, number: int, outcome: Outcome) -> str:
        if outcome.result == "finished":
            return "finished already"
        if outcome.result == "skipped":
            return f"skipped: {outcome.why}"
        place = f"{duration(outcome.seconds)} on {outcome.where}"
        if outcome.result == "failed":
            return f"failed after {place}: {outcome.why}, see {shown(self.units[number].log)}"
        return f"{place}  ({self.progress()})"

    def progress(self) -> str:
        """Return the time since the start, and the end that is expected while units are left."""
        elapsed = f"{duration(time.monotonic() - self.start)} elapsed"
        end = self.expected()
        return f"{elapsed}, end expected {end}" if end else elapsed

    def expected(self) -> str:
        """Return when the last unit should end, "" if all have or none has been run yet.

        The work that is left is done at the speed so far: seconds of work in a second.
        """
        took = defaultdict(list)
        for number, outcome in self.outcomes.items():
            if outcome.result == "done":
                took[_kind(self.units[number])].append(outcome.seconds)
        left = [n for n in range(len(self.units)) if n not in self.outcomes]
        if not left or not took:
            return ""
        now, known = time.monotonic(), [seconds for each in took.values() for seconds in each]
        begun = sum(now - since for _, since in self.running.values())
        wanted = sum(_mean(took.get(_kind(self.units[n]), known)) for n in left)
        speed = (sum(known) + begun) / max(now - self.start, 1e-9)
        end = time.time() + max(wanted - begun, 0.0) / speed
        return time.strftime("%a %H:%M", time.localtime(end))

    def results(self) -> list[Result]:
        """Return what became of each experiment."""
        return [self._result(name, steps) for name, steps in self.experiments]

    def _result(self, name: str, steps: Sequence[Sequence[int]]) -> Result:
        outcomes = [self.outcomes[number] for numbers in steps for number in numbers]
        worst = max(outcomes, key=lambda each: _rank(each.result))
        good = sum(self._is_good(numbers[-1]) for numbers in steps)
        seconds = duration(sum(each.seconds for each in outcomes))
        why = "finished already" if worst.result == "finished" else worst.why
        result = "skipped" if worst.result == "finished" else worst.result
        return Result(name, result, f"{good} of {len(steps)}", seconds, why)

    def write(self, folders: Iterable[Path], state: str) -> None:
        """Write ``batch.json`` into folders of runs: the batch is running, ended or stopped."""
        facts = {
            "state": state,
            "began": time.strftime("%a %H:%M", time.localtime(self.began)),
            "expected": self.expected(),
            "units": [self._row(number) for number in range(len(self.units))],
        }
        for folder in folders:
            artefacts.write_json(facts, folder / BATCH)

    def _row(self, number: int) -> dict:
        outcome = self.outcomes.get(number, Outcome("waiting"))
        if number in self.running:
            where, since = self.running[number]
            outcome = Outcome("running", where, time.monotonic() - since)
        facts = outcome._asdict() | {"seconds": round(outcome.seconds, 1)}
        return {"unit": self.units[number].name, **facts}


def _kind(unit: Unit) -> tuple[str, bool]:
    """Return what units take about the same time."""
    return unit.step.stage, bool(unit.part)


def _rank(result: str) -> int:
    return ["finished", "done", "skipped", "failed"].index(result)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _tail(log: Path) -> str:
    """Return the last lines of a log, "" if there is none on this machine."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(line.rpartition("\r")[2] for line in lines[-TAIL:])
