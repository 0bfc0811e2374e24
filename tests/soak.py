"""Kill a chain of runs at random moments and compare what it leaves with an undisturbed chain.

``make soak`` trains four small runs and a submission on synthetic people, once undisturbed and once
killed by SIGKILL again and again, until both are finished; every table and checkpoint must be equal
byte for byte. It takes about 15 minutes on two cores and is not part of ``make test``.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from test_kill import artefacts_of

from lib import PROJECT
from lib.demo.people import make

NAMES = ("separate", "joint", "values", "mixed")
SETTINGS = {
    "stages": [
        "eda",
        "crop",
        {"train": {"experiment": "separate"}},
        {"train": {"experiment": "joint", "head": "joint"}},
        {"train": {"experiment": "values", "ordered_head": "values"}},
        {"train": {"experiment": "mixed", "mixer": "half_face", "augment": ["aug_0"]}},
        "ensemble",
    ],
    "runs": list(NAMES), "submission": "soak", "image_size": [64, 64], "fold_count": 2,
    "epochs": 4, "batch_size": 16, "compare": 6, "each": 1,
}  # fmt: skip
COMPARED = ("*.pt", "*.parquet", "history.csv", "soak.csv")


def chain(folder: Path, data: Path) -> subprocess.Popen:
    """Start the chain in a process group of its own."""
    places = {f"{name}_dir": str(folder / name) for name in ("work", "runs")}
    places |= {"data_dir": str(data), "submissions_dir": str(folder / "submissions")}
    (folder / "soak.yaml").write_text(yaml.safe_dump(SETTINGS | places))
    log = (folder / "log").open("a")
    command = [sys.executable, "-m", "lib.run", str(folder / "soak.yaml")]
    options = {"cwd": PROJECT, "stdout": log, "stderr": log, "start_new_session": True}
    return subprocess.Popen(command, **options)


def disturbed(folder: Path, data: Path, kills: int, longest: float, seed: int) -> int:
    """Run the chain to its end, killing it up to ``kills`` times; return how often it was."""
    moments, killed = random.Random(seed), 0
    while True:
        process = chain(folder, data)
        try:
            wait = moments.uniform(1, longest) if killed < kills else None
            if process.wait(wait) != 0:
                raise SystemExit(f"the chain failed, see {folder / 'log'}")
            return killed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            print(f"killed {killed} of {kills} times", flush=True)


def main() -> int:
    """Run both chains and compare them; return 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="how often the chain is killed")
    parser.add_argument("--longest", type=float, default=30, help="most seconds between two kills")
    parser.add_argument("--seed", type=int, default=0, help="which moments")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="soak"))
    data, start = make(place / "data", people=24, eval_people=6), time.monotonic()
    kept = {}
    for name, kills in {"undisturbed": 0, "disturbed": options.kills}.items():
        folder = place / "chain"  # both at one place: paths are part of a run's parameters
        folder.mkdir()
        killed = disturbed(folder, data, kills, options.longest, options.seed)
        print(f"{name}: finished, killed {killed} times", flush=True)
        kept[name] = artefacts_of(folder, COMPARED)
        folder.rename(place / name)
    names = kept["undisturbed"].keys() | kept["disturbed"].keys()
    unequal = [n for n in sorted(names) if kept["undisturbed"].get(n) != kept["disturbed"].get(n)]
    minutes = (time.monotonic() - start) / 60
    print(f"{len(names)} artefacts compared in {minutes:.0f} minutes; unequal: {unequal or 'none'}")
    if not unequal:
        shutil.rmtree(place)
    return int(bool(unequal))


if __name__ == "__main__":
    sys.exit(main())
