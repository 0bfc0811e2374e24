"""A batch as units of work: what each one needs, so that all that can run at once does.

A training is divided into its folds, and a unit that runs the same step when they are there: it
puts their predictions together. A sweep is divided into workers that share its study. Steps that
several experiments have in common are one unit.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lib import PROJECT
from lib.learn.checks import possible_folds
from lib.runner.batch import Experiment
from lib.runner.finished import is_finished
from lib.runner.parameters import FILE_NAMES
from lib.runner.stages import STAGES, Step, follows, plan, read_layer, requires


class Unit(NamedTuple):
    """A step, or a part of one, that a process runs; others are named by their numbers.

    ``needs`` must have been made, ``after`` must only have ended. ``makes`` is the file by which a
    part is known to be finished. ``cpus`` and ``gpus`` are what it asks for, 0: no wish.
    """

    experiment: str
    step: Step
    copy: str
    part: str = ""
    makes: str = ""
    needs: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    cpus: int = 0
    gpus: float = 0.0

    @property
    def name(self) -> str:
        """How it is called where it is told about: experiment, stage, what is made, part."""
        made = [self.step.settings.get(key) for key in FILE_NAMES]
        words = [self.experiment, self.step.stage, *made, self.part]
        return " ".join(dict.fromkeys(filter(None, words)))

    @property
    def anywhere(self) -> bool:
        """Whether another machine may run it."""
        return STAGES[self.step.stage].anywhere

    @property
    def log(self) -> Path:
        """The file of what it prints."""
        return PROJECT / Path(f"{self.copy}.log").expanduser()

    def is_finished(self) -> bool:
        """Tell whether there is nothing to do, from the files that are there now."""
        if self.part:
            return bool(self.makes) and (PROJECT / Path(self.makes).expanduser()).is_file()
        return is_finished(self.step)


class Plan(NamedTuple):
    """The units of a batch; for each experiment by step the numbers of its units, the last whole.

    Every unit comes after those that it waits for.
    """

    units: list[Unit]
    experiments: list[tuple[str, list[list[int]]]]


def divide(experiments: Sequence[Experiment], workers: int) -> Plan:
    """Return the units of some experiments; a sweep gets so many ``workers`` at most."""
    units: list[Unit] = []
    steps: list[tuple[Step, list[int]]] = []  # those met so far, with the numbers of their units
    members = []
    for name, listed in experiments:
        found = []
        for step in listed:
            if (known := _known(step, steps)) is None:
                known = list(range(len(units), len(units) + len(_parts(step, workers)) + 1))
                units += _units(name, step, workers, len(units), steps)
                steps.append((step, known))
            found.append(known)
        members.append((name, found))
    return Plan(units, members)


def _known(step: Step, steps: Sequence[tuple[Step, list[int]]]) -> list[int] | None:
    same = [n for s, n in steps if (s.stage, s.settings) == (step.stage, step.settings)]
    return same[0] if same else None


def _units(
    name: str,
    step: Step,
    workers: int,
    number: int,
    steps: Sequence[tuple[Step, list[int]]],
) -> Iterator[Unit]:
    """Yield the parts of a step and the whole, which are numbered from ``number``."""
    needs = frozenset(numbers[-1] for other, numbers in steps if requires(step, other))
    after = frozenset(numbers[-1] for other, numbers in steps if follows(step, other))
    cpus, gpus = _wishes(step)
    whole = Unit(name, step, step.copy, needs=needs, after=after, cpus=cpus, gpus=gpus)
    parts = _parts(step, workers)
    for part in parts:
        yield part._replace(experiment=name, needs=needs, after=after, cpus=cpus, gpus=gpus)
    put_together = {number + place for place, part in enumerate(parts) if part.makes}
    yield whole._replace(needs=needs | put_together)


def _parts(step: Step, workers: int) -> list[Unit]:
    if step.stage == "train":
        return [_fold(step, k) for k in step.settings["folds"] or possible_folds(step.settings)]
    if step.stage == "sweep":
        wanted = min(workers, step.settings["trials"] or workers)
        return [_worker(step, number) for number in range(1, wanted)]
    return []


def _fold(step: Step, fold: int) -> Unit:
    folder = "{runs_dir}/{experiment}".format(**step.settings) + f"/fold{fold}"
    only = {"folds": [fold]}
    alone = Step(step.stage, step.values | only, step.settings | only)
    return Unit("", alone, f"{folder}/03_train", f"fold {fold}", f"{folder}/test.parquet")


def _worker(step: Step, number: int) -> Unit:
    """Return one more worker of a study; the step itself is a worker too, the first one."""
    return Unit("", step, f"{step.copy}_worker{number}", f"worker {number}")


def _wishes(step: Step) -> tuple[int, float]:
    """Return the ``cpus`` and ``gpus`` of a training, or of the trials of a sweep."""
    settings = step.settings
    if step.stage == "sweep":
        layers = [read_layer(PROJECT / Path(path).expanduser()) for path in settings["base"]]
        settings = plan(layers, ["train"])[0].settings
    return settings.get("cpus", 0), settings.get("gpus", 0.0)
