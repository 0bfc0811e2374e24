"""What runs in a process of its own: its seconds and memory, a kernel's start, and the check."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from jupyter_client.manager import run_kernel

from lib.artefacts import PROJECT, resolve
from lib.bench.turns import timed

MEMORY = ["megabytes", "own"]  # all that is resident, and the same without pages of files
EVERY = 0.02  # seconds between two measurements of a process's memory


def alone(imports: str, statement: str) -> dict[str, float]:
    """Run a statement in a new Python process; return its ``seconds`` and its peak memory.

    The seconds are those of the statement without the imports. ``megabytes`` is what the process
    has resident, ``own`` the same without pages of files, which the system takes back when it needs
    them (only Linux counts them separately). CalledProcessError when the statement fails.
    """
    code = (
        f"import time\n{imports}\nstart = time.perf_counter()\n{statement}\n"
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        peak = np.zeros(2)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):  # it may have just ended
                memory = psutil.Process(process.pid).memory_info()
                own = memory.rss - getattr(memory, "shared", 0)
                peak = np.maximum(peak, (memory.rss, own))
            time.sleep(EVERY)
        printed, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, statement)
    seconds = float(printed.splitlines()[-1])
    return {"seconds": seconds, **dict(zip(MEMORY, peak / 2**20, strict=True))}


def kernel_seconds(notebook: Path) -> float:
    """Return the seconds of a kernel's start and a notebook's first two cells of code."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return timed(lambda: _run_cells(sources[:2]))[0]


def _run_cells(sources: Sequence[str]) -> None:
    with run_kernel(cwd=str(PROJECT), extra_arguments=["--log-level=CRITICAL"]) as client:
        for source in sources:
            quiet = {"allow_stdin": False, "output_hook": lambda message: None}
            reply = client.execute_interactive(source, **quiet)["content"]
            if reply["status"] != "ok":
                raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")


def check_seconds(parameter_file: str | Path) -> tuple[float, bool]:
    """Return the seconds of ``lib.run --check`` on a file, and whether it imports torch."""
    command = ["-m", "lib.run", "--check", str(resolve(parameter_file))]
    run = partial(subprocess.run, cwd=PROJECT, check=True, capture_output=True, text=True)
    seconds, _ = timed(lambda: run([sys.executable, *command]))
    imported = run([sys.executable, "-X", "importtime", *command]).stderr
    return seconds, "torch" in (line.rpartition("|")[2].strip() for line in imported.splitlines())
