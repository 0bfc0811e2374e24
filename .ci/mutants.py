"""Change one operator or number at a time in the functions below; list what no test notices.

The mutants are cosmic-ray's. Each is tested in a process that is forked after the imports, so that
some hundred take minutes; no file is changed. ``docs/testing.md`` has the command, and explains
the mutants that survive.
"""

import ast
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("cv2", "timm", "sklearn.pipeline", "sklearn.linear_model", "sklearn.model_selection",
         "accelerate", "albumentations", "facenet_pytorch", "ttach", "pyarrow", "hypothesis",
         "scipy.stats")  # fmt: skip
FUNCTIONS = {
    "lib/task/attributes.py": "group checked_cuts encode decode strata groups",
    "lib/data/folds.py": "assign _check_count numbers divide check_disjoint",
    "lib/score/submission.py": "check _read _check_ids _check_classes _check_probabilities _refuse",
    "lib/score/ensemble.py": "join_attributes _label_table _run_by_attribute _key_by_fold align "
    "_check_keys _check_probabilities complete",
}
TESTS = {
    "lib/task/attributes.py": ("tests/test_task.py", "labels or groups or cuts"),
    "lib/data/folds.py": ("tests/test_folds.py", "folds or people"),
    "lib/score/submission.py": (
        "tests/test_submission.py",
        "submission or corruption or photo or negative or moved",
    ),
    "lib/score/ensemble.py": ("tests/test_ensemble.py", "joined or vote or sum"),
}
WORKERS = os.cpu_count() or 1
SECONDS = 200  # after which a mutant counts as noticed
Mutant = tuple[str, int, str]  # operator, line, source


def mutants(module: str) -> Iterator[Mutant]:
    """Yield the different mutants of a module's functions, ``is`` for ``==`` left out."""
    source = (ROOT / module).read_text(encoding="utf-8")
    lines = function_lines(source, FUNCTIONS[module].split())
    seen = set()
    for name in operator_names():
        for code in occurrences(source, name):
            line = first_difference(source, code)
            if line in lines and code not in seen:
                seen.add(code)
                yield name.removeprefix("core/"), line, code


def function_lines(source: str, names: list[str]) -> set[int]:
    """Return the numbers of the lines of functions, methods included."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    if missing := set(names) - {node.name for node in nodes}:
        raise SystemExit(f"no function {missing}: correct FUNCTIONS")
    chosen = [node for node in nodes if node.name in names]
    return {line for node in chosen for line in range(node.lineno, node.end_lineno + 1)}


def occurrences(source: str, name: str) -> Iterator[str]:
    """Yield the source changed by an operator, at one place after the other."""
    with contextlib.suppress(TypeError):  # an operator that needs arguments
        operator, count = get_operator(name)(), 0
        while not name.endswith(("_Is", "_IsNot")):
            if (code := mutate_code(source, operator, count)) is None:
                return
            yield code
            count += 1


def first_difference(source: str, code: str) -> int:
    """Return the number of the first line that differs."""
    pairs = zip(source.splitlines(), code.splitlines(), strict=False)
    return next((number for number, (a, b) in enumerate(pairs, 1) if a != b), 0)


def start(module: str, code: str) -> int:
    """Test a mutant in a process of its own; return the process's number."""
    if child := os.fork():
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(tested(module, code))
    finally:
        os._exit(9)


def tested(module: str, code: str) -> int:
    """Return pytest's exit code with ``code`` in place of a module's source."""
    path, loaded = str(ROOT / module), SourceFileLoader.get_code

    def get_code(loader, name):
        return compile(code, path, "exec") if loader.path == path else loaded(loader, name)

    SourceFileLoader.get_code = get_code
    test, properties = TESTS[module]
    alone = [f"-p no:{plugin}" for plugin in ("cacheprovider", "xdist", "cov")]
    limits = ["-x", "-W", "ignore", "-o", "addopts=", f"--timeout={SECONDS}", *alone]
    return pytest.main([*limits, test]) or pytest.main(
        [*limits, "tests/test_properties.py", "-k", properties]
    )


def survivors(module: str, waiting: list[Mutant]) -> Iterator[Mutant]:
    """Yield the mutants with which all tests pass; ``waiting`` is empty in the end."""
    running = {}
    while waiting or running:
        while waiting and len(running) < WORKERS:
            mutant = waiting.pop()
            running[start(module, mutant[2])] = mutant
        process, status = os.wait()
        mutant = running.pop(process)
        if status == 0:
            yield mutant


def main() -> None:
    """Print every surviving mutant, and how many there were."""
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), "tests"]
    for name in HEAVY:
        importlib.import_module(name)
    for module in sys.argv[1:] or FUNCTIONS:
        source = (ROOT / module).read_text(encoding="utf-8")
        if os.waitpid(start(module, source), 0)[1]:
            sys.exit(f"{module}: its tests fail without a mutant")
        waiting = list(mutants(module))
        count, survived = len(waiting), 0
        for operator, line, code in survivors(module, waiting):
            survived += 1
            print(f"{module}:{line} {operator}: {code.splitlines()[line - 1].strip()}", flush=True)
        print(f"{module}: {count} mutants, {survived} survived", flush=True)


if __name__ == "__main__":
    main()
