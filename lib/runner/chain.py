"""Run the notebooks headless, in a chain: ``python -m lib.run params/a.yaml [params/b.yaml ...]``.

papermill and nbconvert are imported when the first notebook starts, so that ``--check`` is fast.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lib import PROJECT
from lib.errors import FacefoldError, ParameterError
from lib.runner.parameters import declared
from lib.runner.stages import STAGES, Step, notebook_of, plan, read_layer
from lib.textfiles import parse_yaml

RANK = int(os.environ.get("RANK", 0))  # number of this process of accelerate launch


class StageError(RuntimeError):
    """A notebook stopped at an error of its own."""


def run(steps: Sequence[Step]) -> None:
    """Run the steps one after another, a line on stdout for each; StageError when one fails.

    Of several processes that train together only the first keeps the executed notebook.
    """
    with TemporaryDirectory() as temporary:
        _prepare_kernels(temporary)
        for number, step in enumerate(steps, 1):
            line = f"[{number}/{len(steps)}] {step.stage:<8} {_shown(step.notebook)}"
            print(line, "...", file=sys.stderr, flush=True)
            start = time.monotonic()
            html = execute(step, step.copy if RANK == 0 else f"{temporary}/{step.stage}")
            minutes, seconds = divmod(round(time.monotonic() - start), 60)
            print(f"{line}  {minutes}:{seconds:02}  -> {_shown(html)}", flush=True)


def _prepare_kernels(folder: str) -> None:
    """Let kernels inherit that ``python3`` is this Python, and that ``import lib`` works in it.

    Another python3 on JUPYTER_PATH would win over the one of this environment.
    """
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(f"{folder}/kernels/python3")
    for name, first in {"JUPYTER_PATH": folder, "PYTHONPATH": str(PROJECT)}.items():
        os.environ[name] = os.pathsep.join(filter(None, [first, os.environ.get(name)]))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # no warning about frozen modules


def execute(step: Step, copy: str) -> Path:
    """Run one notebook in a kernel of its own, keep its executed copy and HTML; return the HTML.

    ``copy`` is the copy's path without suffix. It is ``<copy>.running.ipynb`` meanwhile, and stays
    as ``<copy>.failed.ipynb`` when a cell raises. What the kernel prints, progress bars included,
    is shown on stderr.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    from lib.artefacts import resolve

    done, running, failed = (
        resolve(f"{copy}{state}.ipynb") for state in ("", ".running", ".failed")
    )
    done.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "kernel_name": "python3",
        "progress_bar": False,
        "stdout_file": sys.stderr,
        "stderr_file": sys.stderr,
        "coalesce_streams": True,
        "extra_arguments": ["--log-level=CRITICAL"],  # ipykernel warns of TCP at each start
    }
    try:
        execute_notebook(step.notebook, running, step.values, cwd=PROJECT, **options)
    except (PapermillExecutionError, DeadKernelError) as error:
        running.replace(failed)
        raise StageError(f"{step.stage} failed, see {_shown(failed)}\n{_explain(error)}") from None
    except KeyboardInterrupt:
        running.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    return _store(running, done)


def _explain(error: Any) -> str:
    """Return the failing cell's line, the calls below it and the error's text, without colours."""
    frames = getattr(error, "traceback", None)
    if frames is None:
        return (
            "The kernel died, most often because memory ran out: smaller batches, smaller photos "
            "or fewer workers help."
        )
    lines = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(frames)).splitlines()
    calls = [line for line in lines if re.match(r"Cell In|File |-+> ", line)]
    return "\n".join([*calls[:2], *calls[2:][-4:], f"{error.ename}: {error.evalue}"])


def _store(running: Path, done: Path) -> Path:
    """Write the HTML of an executed notebook, give the notebook its final name; return the HTML."""
    from nbconvert import HTMLExporter

    from lib.artefacts import atomic

    _remove_ended_bars(running)
    html = done.with_suffix(".html")
    resources = {"metadata": {"name": done.stem}}
    text, _ = HTMLExporter().from_filename(str(running), resources=resources)
    with atomic(html) as temporary:
        temporary.write_text(text, encoding="utf-8")
    running.replace(done)
    return html


def _remove_ended_bars(path: Path) -> None:
    """Remove streams of white space: all that a progress bar leaves when it has ended."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        outputs[:] = [out for out in outputs if "".join(out.get("text", "shown")).strip()]
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _shown(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path


def describe() -> str:
    """Return every stage with its parameters, their defaults and what they mean."""
    lines = []
    for name in (name for name in STAGES if notebook_of(name).is_file()):
        lines.append(f"\n{name}  {_shown(notebook_of(name))}")
        for key, parameter in declared(notebook_of(name)).items():
            lines.append(f"  {key} = {parameter.default!r}  # {parameter.comment}")
    return "\n".join(lines).strip()


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib.run", description=__doc__.split(":")[0])
    add = parser.add_argument
    files = "parameter files, the later wins"
    add("files", nargs="*", type=Path, metavar="params/x.yaml", help=files)
    add("--stages", default="", metavar="A,B", help=f"only these of: {', '.join(STAGES)}")
    override: dict = {"dest": "overrides", "action": "append", "default": [], "type": _override}
    add("-p", **override, metavar="NAME=VALUE", help="a value that wins over the files")
    add("--check", action="store_true", help="check the parameters, print the plan, run nothing")
    add("--list", action="store_true", help="print every stage's parameters and their meaning")
    args = parser.parse_args(argv)
    if not (args.files or args.stages or args.list):
        parser.error("give a parameter file, --stages or --list")
    return args


def _plan(args: argparse.Namespace) -> list[Step]:
    only = [name.strip() for name in args.stages.split(",") if name.strip()]
    overrides = {name: parse_yaml(value, f"-p {name}") for name, value in args.overrides}
    steps = plan([read_layer(path) for path in args.files], only, overrides)
    others = sorted({step.stage for step in steps} - {"train"})
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and others:
        raise ParameterError(
            f"several processes train together, {', '.join(others)} runs in one: add --stages train"
        )
    return steps


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 (a notebook failed), 2 (wrong parameters), 130 (Ctrl-C)."""
    args = _arguments(argv)
    try:
        if args.list:
            print(describe())
        elif args.check:
            for step in _plan(args):
                print(f"{step.stage:<8} {_shown(step.notebook)}  {step.values}")
        else:
            run(_plan(args))
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageError as error:
        print(f"{error}\nEarlier stages are kept. Fix this one, then the same command continues.",
              file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Finished work is kept: the same command continues.", file=sys.stderr)
        return 130
    return 0
