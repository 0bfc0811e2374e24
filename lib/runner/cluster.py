"""Units on the machines of a Ray cluster; optional, see ``requirements-cluster.txt``.

Every node sees the project's folder at the same path, on a shared disk; ``lib.runner.shipping``
needs none. Trainings run anywhere; everything else, and so everything that votes, validates and
writes the ledger, runs on this machine (the driver). A unit is a process below Ray's worker: when
the worker is lost, the process ends, and Ray starts the unit again elsewhere. There it goes on from
its fold's last checkpoint.
Moritz et al. 2018, Ray: a distributed framework for emerging AI applications.
"""

import ipaddress
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib import PROJECT, artefacts
from lib.errors import ParameterError
from lib.runner import unit as processes
from lib.runner.places import Local, environment
from lib.runner.unit import Outcome
from lib.runner.units import Unit

RETRIES = 3  # times that a unit is started again when its node is lost
LOOPBACK = "127.0.0.1"
STORE = 100 * 2**20  # bytes of Ray's object store when it is started here: units leave files


def open_ray(on: str, allow_public: bool, shared_disk: bool = True) -> "Cluster":
    """Start Ray here (``ray``), or connect to the cluster that ``auto`` or an address names.

    A ParameterError says what is missing, why Ray does not start, or that an address is public.
    """
    ray = _ray(on)
    kind = Cluster if shared_disk else _shipping()
    with kind.runtime() as environment:
        _connect(ray, on, allow_public, environment)
    return kind(ray)


def _ray(on: str) -> Any:
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # who asks Ray after its end starts no other one
    try:
        import ray

        return ray
    except ImportError:
        raise ParameterError(
            f"--on {on} needs Ray: pip install -r requirements-cluster.txt (local:N does not)"
        ) from None


def _shipping() -> "type[Cluster]":
    from lib.runner.shipping import Shipping  # which is a Cluster, so it cannot be imported above

    return Shipping


def _connect(ray: Any, on: str, allow_public: bool, environment: dict) -> None:
    if on.startswith("ray://"):
        check_private(on.removeprefix("ray://").rpartition(":")[0], allow_public)
    quiet: dict = {"log_to_driver": False, "logging_level": "ERROR"}
    options = {"runtime_env": environment, **quiet}
    try:
        _start_here(ray, options) if on == "ray" else ray.init(address=on, **options)
    except Exception as error:  # Ray raises Exception itself when it cannot start
        ray.shutdown()
        reason = str(error).strip().partition("\n")[0]
        raise ParameterError(
            f"--on {on}: {_failed(on)} ({type(error).__name__}: {reason})"
        ) from error
    try:
        check_private(ray.get_runtime_context().gcs_address.rpartition(":")[0], allow_public)
    except ParameterError:
        ray.shutdown()
        raise


def _failed(on: str) -> str:
    """Return what to do when Ray does not start, or no Ray answers."""
    if on == "ray":
        return "Ray does not start here, local:N needs none"
    return "no Ray answers: start it first, and set RAY_AUTH_MODE=token if it asks for a token"


def _start_here(ray: Any, options: dict) -> None:
    """Start a Ray that only this machine can reach, and that reports to nobody.

    ``ray.init`` replaces a loopback address by the machine's own, and then listens on all
    networks. So its function that does this is replaced.
    """
    from ray._private import services

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    services.resolve_ip_for_localhost = lambda host: host
    here = {"_node_ip_address": LOOPBACK, "include_dashboard": False, "object_store_memory": STORE}
    ray.init(address="local", **here, **options)


def check_private(host: str, allow_public: bool) -> None:
    """Refuse an address that the whole network can reach, unless that is allowed."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ParameterError(f"--on: {host!r} is no address ({error})") from None
    public = [each for each in sorted(found) if ipaddress.ip_address(each).is_global]
    if public and not allow_public:
        raise ParameterError(
            f"--on: {host} is a public address ({', '.join(public)}). Whoever can use a Ray can "
            "run programs there, and its traffic is not encrypted. Use a private network or an SSH "
            "tunnel, or say --allow-public"
        )


class Cluster:
    """A Ray cluster, and processes here for what only the driver may do."""

    def __init__(self, ray: Any):
        self.ray, self.driver = ray, Local(max(1, (os.cpu_count() or 1) // 2))
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.work = ray.remote(work)
        self.notes: dict[int, Path] = {}  # files in which units tell where they run

    @staticmethod
    @contextmanager
    def runtime() -> Iterator[dict]:
        """Yield what Ray's workers need to find the project's code, on the shared disk."""
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        yield {"env_vars": {"PYTHONPATH": path}}

    def check(self, units: Sequence[Unit]) -> None:
        """Raise a ParameterError if a unit asks for more than any node has."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for unit in (unit for unit in units if unit.anywhere):
            if not any(_fits(unit, node) for node in nodes):
                raise ParameterError(
                    f"{unit.name}: no node of the cluster has cpus={unit.cpus} and "
                    f"gpus={unit.gpus}: lower them, or add such a node"
                )

    def submit(self, number: int, unit: Unit) -> "Future[Outcome]":
        """Run a unit as soon as there is room for it."""
        if not unit.anywhere:
            return self.driver.submit(number, unit)
        wish = {"num_cpus": unit.cpus or 1, "num_gpus": unit.gpus, "max_retries": RETRIES}
        self.notes[number] = note = unit.log.with_suffix(".where")
        note.unlink(missing_ok=True)
        task = self.work.options(name=unit.name, **wish)
        return task.remote(unit, note, environment(unit, 1)).future()

    def running(self) -> dict[int, str]:
        """Return where each unit was started last, by its number."""
        told = {n: note.read_text() for n, note in self.notes.items() if note.is_file()}
        return told | self.driver.running()

    def close(self) -> None:
        """End what is running; Ray ends too if it was started here."""
        self.driver.close()
        self.ray.shutdown()
        for note in self.notes.values():
            note.unlink(missing_ok=True)


def _fits(unit: Unit, node: dict) -> bool:
    return node.get("CPU", 0) >= (unit.cpus or 1) and node.get("GPU", 0) >= unit.gpus


def work(unit: Unit, note: Path, told: dict[str, str]) -> Outcome:
    """Run a unit on the node of this worker, in a process that ends with the worker."""
    where = node_name()
    artefacts.write_text(where, note)
    outcome = processes.finish(processes.start(unit.log, told), unit.step, unit.copy)
    return outcome._replace(where=where)


def node_name() -> str:
    """Return how the node of this worker is told about: its host, and the start of Ray's name."""
    import ray

    return f"{platform.node()}:{ray.get_runtime_context().get_node_id()[:4]}"
