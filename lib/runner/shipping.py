"""Folds on nodes that share no disk: what they read is sent there, and what they leave comes back.

Code travels as Ray's working directory; tables, crops and whatever else a fold reads as parcels. On
the node, a fold runs in a folder that is named by all that it reads, so that it goes on in it when
it is started again. The fold's own folder comes back as an archive. All else is run here.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from lib import PROJECT, artefacts
from lib.errors import ParameterError
from lib.runner import finished, parcels
from lib.runner import unit as processes
from lib.runner.cluster import RETRIES, Cluster, node_name
from lib.runner.parcels import Parcel
from lib.runner.places import environment
from lib.runner.stages import NEEDS, Step, needs
from lib.runner.unit import Outcome
from lib.runner.units import Unit


class Shipping(Cluster):
    """A Ray cluster whose nodes run the folds, each in a folder of its own."""

    def __init__(self, ray: Any):
        super().__init__(ray)
        self.work, self.lock = ray.remote(work), Lock()
        self.pool = ThreadPoolExecutor(self.workers)  # each thread waits for one fold
        self.parcels: dict[tuple[Path, int], Parcel] = {}  # what was sent, by file and time
        self.sent: dict[int, str] = {}  # the folds that nodes have been asked for

    @staticmethod
    @contextmanager
    def runtime() -> Iterator[dict]:
        """Yield what Ray is told about the code: a folder that nodes get a copy of."""
        with TemporaryDirectory() as folder:
            parcels.copy_code(PROJECT, Path(folder))
            yield {"working_dir": folder}

    def check(self, units: Sequence[Unit]) -> None:
        """Raise a ParameterError if a fold asks for what no node has, or cannot be sent."""
        super().check(units)
        for unit in filter(is_sent, units):
            check_sendable(unit)

    def submit(self, number: int, unit: Unit) -> "Future[Outcome]":
        """Run a unit as soon as there is room for it."""
        if not is_sent(unit):
            return self.driver.submit(number, unit)
        return self.pool.submit(self._run, number, unit)

    def _run(self, number: int, unit: Unit) -> Outcome:
        sent = self._send(unit.step)
        self.sent[number] = "the cluster"
        wish = {"num_cpus": unit.cpus or 1, "num_gpus": unit.gpus, "max_retries": RETRIES}
        task = self.work.options(name=unit.name, **wish)
        made = task.remote(unit, sent, environment(unit, 1))
        outcome, archive, digest = self.ray.get(made)
        parcels.unpack(archive, digest, (PROJECT / unit.makes).parent)
        return outcome

    def _send(self, step: Step) -> list[Parcel]:
        """Open the run here, which refuses a name that is taken; return what its fold reads."""
        with self.lock:
            prepare(step.settings)
            return [self._parcel(path) for path in reads(step)]

    def _parcel(self, path: Path) -> Parcel:
        key = path, path.stat().st_mtime_ns
        if key not in self.parcels:
            self.parcels[key] = parcels.send(self.ray, path)
        return self.parcels[key]

    def running(self) -> dict[int, str]:
        """Return where each unit that is running runs, by its number."""
        return self.sent | self.driver.running()

    def close(self) -> None:
        """End what is running; Ray ends too if it was started here."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        super().close()


def is_sent(unit: Unit) -> bool:
    """Tell whether a unit leaves one folder that can be sent: a fold does, a sweep does not."""
    return unit.anywhere and bool(unit.makes)


def check_sendable(unit: Unit) -> None:
    """Refuse what means something else on another machine, or is measured there."""
    settings = unit.step.settings
    if settings["precision"] == "auto":
        raise ParameterError(
            f"{unit.name}: precision='auto' is measured once for all folds of a run, and without a "
            "shared disk each node would measure: name one, such as fp32_channels_last"
        )
    for name, value in settings.items():
        given = value if isinstance(value, list) else [value]
        for text in (text for text in given if isinstance(text, str)):
            if text.startswith(("/", "~", "..")):
                raise ParameterError(
                    f"{unit.name}: {name}={text!r} is outside the project's folder: without a "
                    "shared disk, write it relative to that folder"
                )


def prepare(settings: Mapping) -> None:
    """Open the run of a fold here, and make its crops if they are new."""
    from lib.learn import training_set  # torch, only where it is used
    from lib.score import runs
    from lib.task import attributes

    task = attributes.load(settings["task"])
    runs.start(settings["runs_dir"], settings, task)
    training_set.load(settings, task)


def reads(step: Step) -> list[Path]:
    """Return the files that a training reads, photos and what travels as code apart."""
    from lib.face.crops import cache_folder, geometry

    settings, found = step.settings, list(finished.files(step))
    sets = [settings["work_dir"], settings["pseudo_data"], *settings["extra_data"]]
    for folder in filter(None, sets):
        found += cache_folder(folder, **geometry(settings)).glob("*")
    for parameter, _, path in needs(step):
        made, is_run = artefacts.resolve(path), NEEDS[parameter][0] == "train"
        found += made.parent.rglob("*") if is_run else made.parent.glob(f"{made.stem}.*")
    return [path for path in dict.fromkeys(found) if path.is_file() and _is_data(path)]


def _is_data(path: Path) -> bool:
    return path.relative_to(PROJECT).parts[0] not in parcels.CODE and path.name[0] != "."


def work(unit: Unit, sent: Sequence[Parcel], told: Mapping[str, str]) -> tuple[Outcome, bytes, str]:
    """Run a fold on the node of this worker; return its outcome, archive and the archive's hash."""
    import ray

    code, read = PROJECT.name, sorted(parcel[:2] for parcel in sent)  # Ray's copy: named by a hash
    project = parcels.CACHE / "units" / artefacts.fingerprint(unit.step, code, read)
    parcels.copy_code(PROJECT, project)
    for parcel in sent:
        with artefacts.atomic(project / parcel.path) as link:
            link.symlink_to(parcels.fetch(ray, parcel))
    here = {**told, "PYTHONPATH": str(project)}
    process = processes.start(project / f"{unit.copy}.log", here, project)
    outcome = processes.finish(process, unit.step, unit.copy)._replace(where=node_name())
    made = parcels.pack((project / unit.makes).parent)
    if outcome.result == "done":
        shutil.rmtree(project)
    return outcome, *made
