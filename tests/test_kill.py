"""A training that is killed by SIGKILL ends, when it is run again, as if it had not been."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib import PROJECT
from lib.learn.checkpoints import TIMES

pytestmark = pytest.mark.no_cover  # other tests reach these lines; tracing costs a quarter

TESTS = Path(__file__).parent
PARAMETERS = {
    "backbone": ["test_efficientnet"], "pretrained": False, "image_size": [32, 32],
    "relabel": [], "augment": ["light"], "mixer": "half_face", "dropout": 0.2, "fold_count": 2,
    "epochs": 3, "batch_size": 16, "max_batches": 3, "precision": "fp32", "size_from": 0.5,
    "soup_epochs": 2, "bn_batches": 2,
}  # fmt: skip
MOMENTS = {  # what the killed process runs before the notebook: a function that dies at its moment
    "in an epoch": """
from lib.learn import loop
step = loop._step
calls = []
def dies(*arguments):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)
loop._step = dies
""",
    "between folds": """
from lib.score import runs
write = runs.Run.write_fold
def dies(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
runs.Run.write_fold = dies
""",
    "while a checkpoint is written": """
from pathlib import Path
write = Path.write_bytes
calls = []
def dies(path, data):
    if ".pt." in path.name:
        calls.append(1)
        if len(calls) == 4:
            write(path, bytes(data)[:1000])
            os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
Path.write_bytes = dies
""",
    "while a table is written": """
import pandas as pd
write = pd.DataFrame.to_parquet
def dies(frame, path):
    write(frame, path)
    if "test.parquet" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
pd.DataFrame.to_parquet = dies
""",
}


def train(work, runs, before=""):
    """Run notebook 03's cells in a process of its own; return its exit code."""
    code = (
        f"import os, signal, sys\nsys.path.insert(0, {str(TESTS)!r})\n{before}\n"
        "from conftest import run_cells\n"
        f"run_cells('03_train', work_dir={str(work)!r}, runs_dir={str(runs)!r}, **{PARAMETERS!r})"
    )
    here = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=PROJECT, env=here, capture_output=True).returncode


def content(path):
    """Return a file's bytes; of a history without how long things took."""
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns=TIMES).to_csv().encode()
    return path.read_bytes()


def artefacts_of(folder, patterns=("*",)):
    """Return the content of the files below a folder, by their path."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): content(path) for path in sorted(found)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a work folder, and the artefacts of a run that nobody killed."""
    from conftest import tiny_images, write_tiny_work

    folder = tmp_path_factory.mktemp("kill")
    write_tiny_work(folder / "work", tiny_images())
    assert train(folder / "work", folder / "runs") == 0
    whole = artefacts_of(folder / "runs/demo")
    shutil.rmtree(folder / "runs")
    return folder, whole


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_byte_for_byte_as_an_undisturbed_one(undisturbed, moment):
    (folder, expected), runs = undisturbed, undisturbed[0] / "runs"
    assert train(folder / "work", runs, MOMENTS[moment]) == -signal.SIGKILL
    assert not (runs / "demo/metrics.json").exists()
    assert train(folder / "work", runs) == 0
    found = artefacts_of(runs / "demo")
    shutil.rmtree(runs)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
