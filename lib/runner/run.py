"""Run the notebooks headless, in a chain: ``python -m lib.run params/a.yaml [params/b.yaml ...]``.

papermill and nbconvert are imported when the first notebook starts, so that ``--check`` takes a moment.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lib import PROJECT
from lib.errors import FacefoldError, ParameterError
from lib.runner.parameters import declared, parse_yaml
from lib.runner.stages import STAGES, Step, notebook_of, plan, read_layer

RANK = int(os.environ.get("RANK", 0))  # which of the processes of accelerate launch this is; the first keeps the copies


class StageError(RuntimeError):
    """A notebook stopped at an error of its own."""


def run(steps: Sequence[Step]) -> None:
    """Run the steps one after another, a line on stdout for each; the first failure is a StageError."""
    # The kernels inherit these: `import lib` works unless installed, and the debugger keeps quiet about frozen modules.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    with TemporaryDirectory() as elsewhere:
        for number, step in enumerate(steps, 1):
            line = f"[{number}/{len(steps)}] {step.stage:<8} {_shown(step.notebook)}"
            print(line, "...", file=sys.stderr, flush=True)
            start = time.monotonic()
            html = execute(step if RANK == 0 else step._replace(copy=f"{elsewhere}/{step.stage}"))
            minutes, seconds = divmod(round(time.monotonic() - start), 60)
            print(f"{line}  {minutes}:{seconds:02}  -> {_shown(html)}", flush=True)


def execute(step: Step) -> Path:
    """Run one notebook in a kernel of its own, keep its executed copy and HTML, and return the HTML's path.

    The copy is ``<name>.running.ipynb`` meanwhile, and stays as ``<name>.failed.ipynb`` when a cell raises.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    from lib.artefacts import resolve

    done, running, failed = (resolve(f"{step.copy}{state}.ipynb") for state in ("", ".running", ".failed"))
    done.parent.mkdir(parents=True, exist_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "stderr_file": sys.stderr, "coalesce_streams": True}
    quiet = ["--log-level=CRITICAL"]  # else ipykernel warns of plain TCP at each start, of closed sockets after Ctrl-C
    try:
        execute_notebook(step.notebook, running, step.values, cwd=PROJECT, extra_arguments=quiet, **options)
    except (PapermillExecutionError, DeadKernelError) as error:
        running.replace(failed)
        raise StageError(f"{step.stage} failed, see {_shown(failed)}\n{_explain(error)}") from None
    except KeyboardInterrupt:
        running.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    return _store(running, done)


def _explain(error: Exception) -> str:
    """Return the failing cell's line, the calls below it and the error's text, without colours or context lines."""
    frames = getattr(error, "traceback", None)
    if frames is None:
        return "The kernel died, most often for want of memory: smaller batches, smaller photos or fewer workers help."
    lines = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(frames)).splitlines()
    calls = [line for line in lines if re.match(r"Cell In|File |-+> ", line)]
    return "\n".join([*calls[:2], *calls[2:][-4:], f"{error.ename}: {error.evalue}"])


def _store(running: Path, done: Path) -> Path:
    """Write the HTML of an executed notebook beside its final name, then give it that name; return the HTML's path."""
    from nbconvert import HTMLExporter

    from lib.artefacts import atomic

    html = done.with_suffix(".html")
    text, _ = HTMLExporter().from_filename(str(running), resources={"metadata": {"name": done.stem}})
    with atomic(html) as temporary:
        temporary.write_text(text, encoding="utf-8")
    running.replace(done)
    return html


def _shown(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path


def describe() -> str:
    """Return every stage with its parameters, their defaults and what they mean."""
    lines = []
    for name in (name for name in STAGES if notebook_of(name).is_file()):
        lines.append(f"\n{name}  {_shown(notebook_of(name))}")
        lines += [f"  {key} = {default!r}  # {comment}" for key, (default, comment) in declared(notebook_of(name)).items()]
    return "\n".join(lines).strip()


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib.run", description="Run the notebooks headless, in a chain.")
    parser.add_argument("files", nargs="*", type=Path, metavar="params/x.yaml", help="parameter files, the later wins")
    parser.add_argument("--stages", default="", metavar="A,B", help=f"only these of: {', '.join(STAGES)}")
    parser.add_argument(
        "-p", dest="overrides", action="append", default=[], type=_override, metavar="NAME=VALUE", help="override"
    )
    parser.add_argument("--check", action="store_true", help="check the parameters and print the plan, run nothing")
    parser.add_argument("--list", action="store_true", help="print every stage's parameters and their meaning")
    args = parser.parse_args(argv)
    if not (args.files or args.stages or args.list):
        parser.error("give a parameter file, --stages or --list")
    return args


def _plan(args: argparse.Namespace) -> list[Step]:
    only = [name.strip() for name in args.stages.split(",") if name.strip()]
    overrides = {name: parse_yaml(value, f"-p {name}") for name, value in args.overrides}
    steps = plan([read_layer(path) for path in args.files], only, overrides)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and (others := {step.stage for step in steps} - {"train"}):
        raise ParameterError(f"several processes train together, {', '.join(sorted(others))} runs in one: add --stages train")
    return steps


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 when a notebook failed, 2 for wrong parameters, 130 after Ctrl-C."""
    args = _arguments(argv)
    try:
        if args.list:
            print(describe())
            return 0
        steps = _plan(args)
        if args.check:
            print("\n".join(f"{step.stage:<8} {_shown(step.notebook)}  {step.values}" for step in steps))
            return 0
        run(steps)
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageError as error:
        print(f"{error}\nStages before it are kept. Mend it, then the same command continues.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept: the same command continues.", file=sys.stderr)
        return 130
    return 0
