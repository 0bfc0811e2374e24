"""``python -m lib.runner.unit``: run one step, handed over on stdin, in a process of its own.

The first line of stdin is the step and the path of its executed copy, as JSON. The last line of
stdout is its ``Outcome``. Stdin stays open: when it is closed, whoever started the step is gone,
and so the step ends too. What the kernel prints goes to stderr.
"""

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple, cast

from lib import PROJECT
from lib.runner import stops
from lib.runner.batch import reason
from lib.runner.kernels import execute, prepare
from lib.runner.stages import Step

COMMAND = [sys.executable, "-m", "lib.runner.unit"]


class Outcome(NamedTuple):
    """What became of a step: done, skipped or failed, where, in how many seconds, and why."""

    result: str
    where: str = ""
    seconds: float = 0.0
    why: str = ""


def start(log: Path, environment: Mapping[str, str], project: Path = PROJECT) -> Popen:
    """Start the process of a step in a project's folder; what it prints is added to ``log``.

    Signals of the terminal do not reach it: whoever started it decides when it ends.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        pipes: dict = {"stdin": PIPE, "stdout": PIPE, "stderr": file, "bufsize": 0}
        here = os.environ | dict(environment)
        return Popen(COMMAND, cwd=project, env=here, start_new_session=True, **pipes)


def finish(process: Popen, step: Step, copy: str) -> Outcome:
    """Hand a step to its process and wait for its end."""
    begun, where = time.monotonic(), platform.node()
    with process:  # its stdin is closed at the end of this block, however it ends
        stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        with suppress(BrokenPipeError):  # it has ended already
            stdin.write(told(step, copy))
        lines = stdout.read().splitlines()
    if lines:
        return Outcome(*json.loads(lines[-1]))
    why = f"{step.stage}: its process ended by itself, exit code {process.returncode}"
    return Outcome("failed", where, time.monotonic() - begun, why)


def told(step: Step, copy: str) -> bytes:
    """Return the line by which a process is told what to run."""
    return f"{json.dumps([*step, copy])}\n".encode()


def run(step: Step, copy: str) -> Outcome:
    """Run a step here and return what became of it."""
    begun, result, why = time.monotonic(), "done", ""
    try:
        with TemporaryDirectory() as temporary:
            prepare(temporary)
            execute(step, copy)
    except Exception as error:  # noqa: BLE001, whatever it is: whoever started this is told
        result, why = "failed", reason(step, error)
    return Outcome(result, platform.node(), time.monotonic() - begun, why)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin: a thread must not hold it at the end
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run the step that stdin names; return 0, or the exit code of the signal that ended it."""
    *step, copy = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with stops.listening():
            print(json.dumps(run(Step(*step), copy)), flush=True)
    except stops.Stopped as stop:
        return stop.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
