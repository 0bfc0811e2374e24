"""Run all recipes, each with ``params/tiny.yaml`` on top, to see that each ends in a submission.

``python -m lib.runner.recipes`` runs ``params/recipes/*.yaml`` one after the other and ends with a
table; exit code 1 if one failed.
A recipe's terminal output goes to ``runs/tiny/<recipe>.log``.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib import PROJECT
from lib.progress import progress

RECIPES = sorted((PROJECT / "params/recipes").glob("*.yaml"))
TINY = PROJECT / "params/tiny.yaml"
LOGS = PROJECT / "runs/tiny"


def run(recipe: Path) -> dict:
    """Run one recipe tiny; return a row: recipe, result, seconds, and what its origin line says."""
    start = time.monotonic()
    with (LOGS / f"{recipe.stem}.log").open("w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "lib.run", recipe, TINY], cwd=PROJECT, stdout=log, stderr=log
        ).returncode
    result = (
        "valid submission" if code == 0 else f"failed ({code}), see runs/tiny/{recipe.stem}.log"
    )
    return {
        "recipe": recipe.stem,
        "result": result,
        "seconds": round(time.monotonic() - start),
        "origin": origin(recipe),
    }


def origin(recipe: Path) -> str:
    """Return the origin that a recipe's header names."""
    return next(
        line for line in recipe.read_text().splitlines() if line.startswith("# Origin: ")
    ).removeprefix("# Origin: ")


def main(argv: Sequence[str] | None = None) -> int:
    """Run all recipes and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    description = __doc__.replace("``", "")
    parser = argparse.ArgumentParser(
        prog="python -m lib.runner.recipes", description=description, formatter_class=form
    )
    parser.parse_args(argv)
    shutil.rmtree(LOGS, ignore_errors=True)  # finished runs would be skipped
    LOGS.mkdir(parents=True)
    table = pd.DataFrame([run(recipe) for recipe in progress(RECIPES, "recipes", unit="recipe")])
    print(table.to_string(index=False))
    return int((table["result"] != "valid submission").any())


if __name__ == "__main__":
    sys.exit(main())
