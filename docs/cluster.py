"""Print the model of docs/cluster.md: ``python docs/cluster.py`` in the repository.

Forty experiments of five folds, each with a submission, are divided into units as ``--on`` does,
and scheduled on 1 to 400 nodes that train one fold each at a time. The times are those of the demo
on two cores; nothing is run.
"""

import argparse
import heapq
import sys
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.runner.batch import Experiment, duration
from lib.runner.parameters import declared
from lib.runner.stages import Step, notebook_of
from lib.runner.units import Plan, Unit, divide

NODES = (1, 2, 5, 10, 20, 50, 100, 200, 400)
START = 15.0  # s, a kernel, imports and figures of notebook 03, and its page
ENSEMBLE = 46.0  # s
CROPS = 48.0  # MB that a node reads from the shared disk before its first fold
DISK = 1000.0  # MB/s that the shared disk gives to all nodes together: an assumption
POLL = 0.5  # s until the driver sees that a unit has ended, half of ``engine.SECONDS``


def batch(experiments: int, folds: int) -> Plan:
    """Return the units of so many experiments, each with a submission of its own."""
    defaults = {
        stage: {name: each.default for name, each in declared(notebook_of(stage)).items()}
        for stage in ("train", "ensemble")
    }
    listed = []
    for number in range(experiments):
        name = f"run_{number}"
        own = {"experiment": name, "fold_count": folds, "runs": [name], "submission": name}
        settings = {
            stage: default | {key: own[key] for key in own if key in default}
            for stage, default in defaults.items()
        }
        listed.append(Experiment(name, [Step(s, {}, given) for s, given in settings.items()]))
    return divide(listed, 1)


def seconds(unit: Unit, fold: float, nodes: int) -> float:
    """Return how long a unit takes."""
    if unit.step.stage == "ensemble":
        return ENSEMBLE + POLL
    return START + POLL + (fold + CROPS * nodes / DISK if unit.part else 0.0)


def simulate(plan: Plan, nodes: int, on_driver: int, fold: float) -> tuple[float, float]:
    """Return the seconds of a batch, and the share of the nodes' time that was worked."""
    units, ended, worked, now = plan.units, set(), 0.0, 0.0
    waiting, free = deque(range(len(units))), {True: nodes, False: on_driver}
    running: list[tuple[float, int]] = []
    while waiting or running:
        for number in list(waiting):
            unit = units[number]
            if free[unit.anywhere] and unit.needs | unit.after <= ended:
                took = seconds(unit, fold, nodes)
                free[unit.anywhere] -= 1
                worked += took * unit.anywhere
                waiting.remove(number)
                heapq.heappush(running, (now + took, number))
        now, number = heapq.heappop(running)
        free[units[number].anywhere] += 1
        ended.add(number)
    return now, worked / (now * nodes)


def main() -> None:
    """Print a table for folds of some lengths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=40)
    parser.add_argument("--folds", type=int, default=5)
    wanted = parser.parse_args()
    plan = batch(wanted.experiments, wanted.folds)
    print("| nodes | 72 s a fold | busy | one ensemble at a time | 30 min a fold | busy |")
    print("|---|---|---|---|---|---|")
    for nodes in NODES:
        short, busy = simulate(plan, nodes, 8, 72.0)
        narrow, _ = simulate(plan, nodes, 1, 72.0)
        long, busier = simulate(plan, nodes, 8, 1800.0)
        cells = (duration(short), f"{busy:.0%}", duration(narrow), duration(long), f"{busier:.0%}")
        print(f"| {nodes} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
