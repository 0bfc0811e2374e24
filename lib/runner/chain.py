"""The command ``python -m lib.run``: it runs notebooks, checks, lists, cleans, writes the page."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lib.errors import FacefoldError, Faults, ParameterError
from lib.runner import batch, repeats, stops
from lib.runner.batch import Experiment
from lib.runner.kernels import shown
from lib.runner.parameters import declared
from lib.runner.stages import STAGES, Layer, notebook_of, plan_batch, read_layer
from lib.textfiles import parse_yaml

RANK = int(os.environ.get("RANK", 0))  # number of this process of accelerate launch
ABOUT = """\
Run the notebooks of an experiment headless. Its files are layers: a later one wins over an earlier
one, -p wins over all. Each --then adds an experiment with layers of its own, as if it were another
command; --stages and -p hold for all. Everything is checked before anything starts, and every fault
is told. An experiment that fails does not stop the others."""
EPILOG = """\
At the end of several experiments a table says what became of each: done, skipped (finished already,
or it needs what another failed to make) or failed, and why. A train or ensemble step is finished
when nothing that it reads has changed since: parameters, notebook, lib/, tables, earlier runs.
The same command continues what was stopped or failed.

exit codes:
  0    all done, or finished already
  1    a notebook failed; its copy <name>.failed.ipynb shows where
  2    something is wrong with parameters, files or the command line; nothing was started
  129  stopped by SIGHUP (the terminal was closed; not with nohup)
  130  stopped by SIGINT (Ctrl-C)
  143  stopped by SIGTERM"""


def describe() -> str:
    """Return every stage with its parameters, their defaults and what they mean."""
    lines = []
    for name in (name for name in STAGES if notebook_of(name).is_file()):
        lines.append(f"\n{name}  {shown(notebook_of(name))}")
        for key, parameter in declared(notebook_of(name)).items():
            lines.append(f"  {key} = {parameter.default!r}  # {parameter.comment}")
    return "\n".join(lines).strip()


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lib.run",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    files: dict = {"type": Path, "metavar": "params/x.yaml", "default": []}
    add("files", **files, nargs="*", help="parameter files, the later wins")
    add("--then", **files, nargs="+", action="append", help="the files of one more experiment")
    add("--stages", default="", metavar="A,B", help=f"only these of: {', '.join(STAGES)}")
    override: dict = {"dest": "overrides", "action": "append", "default": [], "type": _override}
    add("-p", **override, metavar="NAME=VALUE", help="a value that wins over the files")
    on = "run all that can be run at once: local:N, ray, auto or ray://HOST:PORT (docs/cluster.md)"
    add("--on", default="", metavar="PLACE", help=on)
    public = "accept a Ray that the whole network can reach: whoever does can run programs there"
    add("--allow-public", action="store_true", help=public)
    ship = "nodes do not see this folder: send them what folds read, fetch what they leave"
    add("--no-shared-disk", action="store_true", help=ship)
    add("--check", action="store_true", help="check the parameters, print the plan, run nothing")
    add("--list", action="store_true", help="print every stage's parameters and their meaning")
    clean = "list what can be deleted: a run; of a work folder the crops that no run in runs needs"
    add("--clean", type=Path, nargs="+", metavar="runs/x", help=clean)
    index = "write the page of all runs and submissions, index.html in that folder (default: runs)"
    add("--index", type=Path, nargs="?", const=Path("runs"), metavar="RUNS_DIR", help=index)
    add("--yes", action="store_true", help="with --clean: delete it")
    args = parser.parse_args(argv)
    for option, known in (("clean", "runs_dir"), ("index", "submissions_dir")):
        others = {name for name, _ in args.overrides} - {known}
        if getattr(args, option) and (args.files or args.then or args.stages or others):
            parser.error(
                f"--{option} runs nothing: the only parameter that it knows is -p {known}=FOLDER"
            )
    if args.allow_public and not args.on:
        parser.error("--allow-public goes with --on")
    if args.no_shared_disk and not args.on.startswith(("auto", "ray://")):
        parser.error("--no-shared-disk goes with --on auto or ray://HOST:PORT")
    if args.yes and not args.clean:
        parser.error("--yes goes with --clean")
    if not (args.files or args.stages or args.list or args.clean or args.index):
        parser.error("give a parameter file, --stages, --list, --index or --clean")
    return args


def _experiments(args: argparse.Namespace) -> list[Experiment]:
    """Return what the command line asks for; a ParameterError tells everything that is wrong."""
    faults = Faults()
    groups = [args.files, *args.then]
    layers = [read for paths in groups if (read := _read(paths, faults)) is not None]
    only = [name.strip() for name in args.stages.split(",") if name.strip()]
    overrides = {}
    for name, value in args.overrides:
        with faults.collected():
            overrides[name] = parse_yaml(value, f"-p {name}")
    plans = plan_batch(layers, only, overrides, faults)
    _check_processes({step.stage for steps in plans for step in steps}, args.on)
    names = [" ".join(path.stem for path in paths) or "defaults" for paths in groups]
    names = names if args.then else [""]  # one experiment needs no name
    return [Experiment(*pair) for pair in zip(names, plans, strict=True)]


def _read(paths: Sequence[Path], faults: Faults) -> list[Layer] | None:
    """Return the layers of one experiment, None if one of its files is faulty."""
    layers = []
    for path in paths:
        with faults.collected():
            layers.append(read_layer(path))
    return layers if len(layers) == len(paths) else None


def _check_processes(stages: set[str], on: str) -> None:
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    if on:
        raise ParameterError(f"several processes train together: each would start --on {on}")
    if others := sorted(stages - {"train"}):
        raise ParameterError(
            f"several processes train together, {', '.join(others)} runs in one: add --stages train"
        )


def _tell_repeats(experiments: Sequence[Experiment]) -> None:
    steps = [step for _, steps in experiments for step in steps if step.stage == "train"]
    for told in filter(None, dict.fromkeys(repeats.told(step.settings) for step in steps)):
        print(f"warning: {told}", file=sys.stderr)


def _check(experiments: Sequence[Experiment]) -> int:
    lines = [
        f"{name} {step.stage:<8} {shown(step.notebook)}  {step.values}".lstrip()
        for name, steps in experiments
        for step in steps
    ]
    return _tell("\n".join(lines))


def _tell(text: str) -> int:
    """Print a text; a reader that has seen enough of it, such as ``head``, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what Python has still to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(experiments: Sequence[Experiment], args: argparse.Namespace) -> int:
    if args.on:
        from lib.runner import engine, places

        place = places.open_place(args.on, args.allow_public, not args.no_shared_disk)
        results = engine.run(experiments, place)
    else:
        results = batch.run(experiments, keep=RANK == 0)
    if len(results) > 1:
        print(batch.table(results))
    if not any(result.result == "failed" for result in results):
        return 0
    print("Earlier stages are kept. Fix what failed, then the same command continues.",
          file=sys.stderr)  # fmt: skip
    return 1


def _command(args: argparse.Namespace) -> int:
    if args.list:
        return _tell(describe())
    if args.clean:
        from lib.runner.clean import clean

        return clean(args.clean, Path(dict(args.overrides).get("runs_dir", "runs")), args.yes)
    if args.index:
        from lib.explain import page

        submissions = dict(args.overrides).get("submissions_dir", "submissions")
        print(shown(page.write(args.index, submissions)))
        return 0
    experiments = _experiments(args)
    _tell_repeats(experiments)
    return _check(experiments) if args.check else _run(experiments, args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return an exit code of those that ``--help`` lists."""
    args = _arguments(argv)
    try:
        with stops.listening():
            return _command(args)
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except stops.Stopped as stop:
        with suppress(OSError):  # a terminal that was closed shows nothing
            print(f"\nStopped by {stop.name}. Finished work is kept: the same command continues.",
                  file=sys.stderr)  # fmt: skip
        return stop.code
