"""``python sweep_worker.py RUNS_DIR SPACE TRIALS SECONDS``: a worker whose trainings are pretended.

A training is a process that writes a history with a row per epoch, each after so many seconds. Its
score is ten times the learning rate, and it fails where that is below 0.01.
"""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.runner import space, sweep

TRAINING = """
import os, sys, time
from pathlib import Path
folder, score, seconds = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
with (folder.parent / "started").open("a") as file:
    file.write("x")
path = folder / "history.csv"
rows = path.read_text().splitlines() if path.exists() else ["epoch,score"]
for epoch in range(len(rows), 5):
    time.sleep(seconds)
    rows.append(f"{epoch},{score * epoch / 4}")
    (folder / "new").write_text("\\n".join(rows))
    os.replace(folder / "new", path)
sys.exit(score < 0.01)
"""


def pretended(seconds: float):
    """Return what stands in for ``sweep._training``."""

    @contextmanager
    def training(made, number, found, folds):
        fold, score = made.run_folder(number) / "fold0", float(found["learning_rate"]) * 10
        arguments = [str(fold), str(score), str(seconds)]
        process = subprocess.Popen([sys.executable, "-S", "-c", TRAINING, *arguments])
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    return training


def main(runs_dir: str, path: str, trials: str, seconds: str) -> None:
    """Work on the study ``s``."""
    sweep._training, sweep.POLL = pretended(float(seconds)), 0.05
    made = sweep.open_sweep("s", runs_dir, space.read(Path(path)))
    sweep.search(made, int(trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
