"""What runs in a process of its own: its seconds and memory, a kernel's start, and the check."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from jupyter_client.manager import start_new_kernel

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
            peak = np.maximum(peak, _resident(process.pid))
            time.sleep(EVERY)
        printed, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, statement)
    seconds = float(printed.splitlines()[-1])
    return {"seconds": seconds, **dict(zip(MEMORY, peak / 2**20, strict=True))}


def _resident(pid: int) -> tuple[int, int]:
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:  # it has just ended
        return 0, 0
    return memory.rss, memory.rss - getattr(memory, "shared", 0)


def kernel_seconds(notebook: Path) -> float:
    """Return the seconds from a kernel's start to the end of a notebook's parameters and imports.

    These are its first two code cells.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return timed(lambda: _run_cells(sources[:2]))[0]


def _run_cells(sources: Sequence[str]) -> None:
    manager, client = start_new_kernel(
        kernel_name="python3", cwd=str(PROJECT), extra_arguments=["--log-level=CRITICAL"]
    )
    run = partial(client.execute_interactive, allow_stdin=False, output_hook=lambda message: None)
    try:
        for source in sources:
            reply = run(source)["content"]
            if reply["status"] != "ok":
                raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def check_seconds(parameter_file: str | Path) -> tuple[float, bool]:
    """Return the seconds of ``lib.run --check`` on a file, and whether it imports torch."""
    command = ["-m", "lib.run", "--check", str(resolve(parameter_file))]
    run = partial(subprocess.run, cwd=PROJECT, check=True, capture_output=True, text=True)
    seconds, _ = timed(lambda: run([sys.executable, *command]))
    imported = run([sys.executable, "-X", "importtime", *command]).stderr
    return seconds, "torch" in (line.rpartition("|")[2].strip() for line in imported.splitlines())
