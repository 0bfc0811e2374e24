"""Where units are run: processes of this machine, or, in ``lib.runner.cluster``, of many."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from subprocess import Popen
from typing import Protocol

from lib.errors import ParameterError
from lib.runner import unit as processes
from lib.runner.unit import Outcome
from lib.runner.units import Unit

PLACES = "local:N (N processes here), ray, auto or ray://HOST:PORT"


class Place(Protocol):
    """Runs units; ``workers`` is how many trainings fit at once."""

    workers: int

    def check(self, units: Sequence[Unit]) -> None:
        """Raise a ParameterError if a unit asks for more than there is anywhere."""

    def submit(self, number: int, unit: Unit) -> "Future[Outcome]":
        """Run a unit as soon as there is room for it."""

    def running(self) -> Mapping[int, str]:
        """Return where each unit that is running runs, by its number."""

    def close(self) -> None:
        """End what is running, and give everything back."""


def open_place(on: str, allow_public: bool = False, shared_disk: bool = True) -> Place:
    """Return the place that ``--on`` names; a ParameterError says what it may be.

    ``allow_public``: an address that the whole network can reach is accepted. ``shared_disk``: the
    nodes of a cluster see this folder.
    """
    if local := re.fullmatch(r"local:([1-9]\d*)", on):
        return Local(int(local[1]))
    if on in ("ray", "auto") or on.startswith("ray://"):
        from lib.runner import cluster

        return cluster.open_ray(on, allow_public, shared_disk)
    raise ParameterError(f"--on {on!r} is not one of: {PLACES}")


class Local:
    """``workers`` processes at a time on this machine; trainings share its cores evenly."""

    def __init__(self, workers: int):
        self.workers = workers
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        self.pool = ThreadPoolExecutor(workers)  # each thread waits for one process
        self.processes: dict[int, Popen] = {}
        self.closed = False

    def check(self, units: Sequence[Unit]) -> None:
        """Accept every unit: what is here is shared."""

    def submit(self, number: int, unit: Unit) -> "Future[Outcome]":
        """Run a unit as soon as there is room for it."""
        return self.pool.submit(self._run, number, unit)

    def _run(self, number: int, unit: Unit) -> Outcome:
        self.processes[number] = processes.start(unit.log, environment(unit, self.threads))
        try:
            if self.closed:
                self.processes[number].terminate()
            return processes.finish(self.processes[number], unit.step, unit.copy)
        finally:
            del self.processes[number]

    def running(self) -> dict[int, str]:
        """Return where each unit that is running runs, by its number."""
        return dict.fromkeys(self.processes.copy(), platform.node())

    def close(self) -> None:
        """End what is running, and wait for its end."""
        self.closed = True
        for process in self.processes.copy().values():
            process.terminate()
        self.pool.shutdown(cancel_futures=True)


def environment(unit: Unit, threads: int) -> dict[str, str]:
    """Return what the process of a training is told: how many threads it has.

    Other stages have all cores, as in a batch without ``--on``, so that they make the same numbers.
    """
    return {"OMP_NUM_THREADS": str(unit.cpus or threads)} if unit.anywhere else {}
