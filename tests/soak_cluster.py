"""Lose a node of a Ray cluster in the middle of a batch, and compare with a batch run in series.

``make soakcluster`` emulates three nodes on this machine (``ray.cluster_utils.Cluster``), trains
four small runs of three folds each and a submission of them, and kills one node once some folds are
finished. Every table must equal that of the batch in series byte for byte, every unit must have
ended once, and at least one must have been moved to another node. It needs
``requirements-cluster.txt``, takes some minutes, and is not part of ``make test``. With
``--no-shared-disk`` the nodes work in folders of their own.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from conftest import tiny_images, write_tiny_work
from test_kill import artefacts_of

from lib import PROJECT
from lib.runner import parcels

NAMES = ("separate", "joint", "mixed", "smooth")
DIFFER = ({}, {"head": "joint"}, {"mixer": "half_face"}, {"label_smoothing": 0.1})
SETTINGS = {
    "stages": [
        *({"train": {"experiment": n} | more} for n, more in zip(NAMES, DIFFER, strict=True)),
        {"ensemble": {"runs": list(NAMES), "submission": "all", "tta": "none"}},
    ],
    "backbone": ["test_efficientnet"], "pretrained": False, "image_size": [32, 32], "relabel": [],
    "fold_count": 3, "epochs": 6, "batch_size": 16, "dropout": 0.2, "precision": "fp32", "cpus": 1,
}  # fmt: skip
COMPARED = ("*.pt", "oof.parquet", "test.parquet", "history.csv", "all.parquet", "all.csv")
PORTS = (
    "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port",
    "dashboard_agent_listen_port",
)  # fmt: skip
STORE = 100 * 2**20  # bytes


def parameters(place: Path) -> str:
    """Write the parameter file of the batch."""
    folders = {"work_dir": "work", "data_dir": "data"}
    folders |= {f"{name}_dir": f"out/{name}" for name in ("runs", "submissions")}
    (place / "batch.yaml").write_text(yaml.safe_dump(SETTINGS | folders))
    return str(place / "batch.yaml")


def run(file: str, *options: str, **environment: str) -> None:
    """Run the batch in its project."""
    command, place = [sys.executable, "-m", "lib.run", file, *options], Path(file).parent
    with (place / "batch.log").open("a") as log:
        here = os.environ | environment
        subprocess.run(command, cwd=place, env=here, stderr=log, check=True)


def in_series(file: str) -> None:
    """Run the batch by one process; its trainings have one thread as those of units have."""
    run(file, OMP_NUM_THREADS="1")


def emulated(nodes: int):
    """Return a cluster of so many nodes with one core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1} | options())
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1, **options())
    return cluster


def options() -> dict:
    """Return what each node is started with; a busy machine does not find free ports in time."""
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
    ports = {name: each.getsockname()[1] for name, each in sockets.items()}
    for each in sockets.values():
        each.close()
    quiet = {"include_dashboard": False, "include_log_monitor": False}
    return {"object_store_memory": STORE, **quiet, **ports}


def kill_later(cluster, place: Path, folds: int) -> threading.Thread:
    """Kill a node once so many folds are finished, in the middle of whatever it trains."""

    def kill():
        while len(list(place.glob("out/runs/*/fold*/test.parquet"))) < folds:
            time.sleep(0.2)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        print("killed a node", flush=True)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def main() -> int:
    """Run both batches and compare them; return 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=3, help="nodes that are emulated")
    parser.add_argument("--kill-after", type=int, default=3, help="finished folds; 0 kills none")
    parser.add_argument("--no-shared-disk", action="store_true", help="nodes have own folders")
    wanted = parser.parse_args()
    place, seconds = Path(tempfile.mkdtemp(prefix="cluster")), {}
    parcels.copy_code(PROJECT, place)
    write_tiny_work(place / "work", tiny_images())
    file, kept = parameters(place), {}
    for name in ("cluster", "series"):
        start = time.monotonic()
        if name == "cluster":
            on_cluster(file, place, wanted)
        else:
            in_series(file)
        seconds[name] = round(time.monotonic() - start)
        kept[name] = artefacts_of(place / "out", COMPARED)
        (place / "out").rename(place / name)  # both at one place: paths are parameters of a run
    return told(place, kept, seconds)


def on_cluster(file: str, place: Path, wanted: argparse.Namespace) -> None:
    """Run the batch on emulated nodes, and lose one of them."""
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")  # where nodes without a shared disk work
    os.environ["RAY_TMPDIR"] = str(place)  # else `auto` of others on this machine finds this Ray
    cluster = emulated(wanted.nodes)
    print(f"{wanted.nodes} nodes have started", flush=True)
    threads = [kill_later(cluster, place, wanted.kill_after)] if wanted.kill_after else []
    options = ["--no-shared-disk"] * wanted.no_shared_disk
    run(file, "--on", "auto", *options, RAY_ADDRESS=cluster.address)
    for thread in threads:
        thread.join()
    cluster.shutdown()
    copies = place.glob("out/runs/*/fold*/03_train.ipynb")
    made = {json.loads(path.read_text())["metadata"]["papermill"]["output_path"] for path in copies}
    here = place / "cache" if wanted.no_shared_disk else place / "out"
    if not all(Path(path).is_relative_to(here) for path in made):
        raise SystemExit(f"folds were not trained in {here}: {sorted(made)}")


def told(place: Path, kept: dict, seconds: dict) -> int:
    """Print what came out; return 1 if something is not as it should be."""
    units = json.loads((place / "cluster/runs/batch.json").read_text())["units"]
    names = kept["series"].keys() | kept["cluster"].keys()
    unequal = [n for n in sorted(names) if kept["series"].get(n) != kept["cluster"].get(n)]
    ended = [unit["unit"] for unit in units if unit["result"] == "done"]
    print(f"{len(names)} artefacts, unequal: {unequal or 'none'}; seconds: {seconds}")
    print(f"{len(units)} units, {len(ended)} ended, each once")
    wrong = unequal or len(ended) != len(units) or len(set(ended)) != len(ended)
    if not wrong:
        shutil.rmtree(place)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
