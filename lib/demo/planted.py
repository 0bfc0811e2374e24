"""How many of the label errors that were planted in the demo's people are found."""

from pathlib import Path

import pandas as pd

from lib.artefacts import resolve
from lib.data.index import load_images
from lib.demo.leaderboard import read_private
from lib.explain import labels
from lib.score import runs

PER_ERROR = 3  # candidates that somebody looks at, for each planted error


def recall(found: pd.DataFrame, planted: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many planted errors are among the first candidates, of how many, and the first.

    ``planted`` has columns person and field; an exchange, which has two rows, is one error.
    """
    errors = set(zip(planted.person, planted.field, strict=True))
    first = found.head(PER_ERROR * len(errors))
    hits = errors & set(zip(first.person, first.field, strict=True))
    return len(hits), len(errors), PER_ERROR * len(errors)


def sentence(run_dir: str | Path, data_dir: str | Path) -> str:
    """Say how many planted errors the candidates of a run's out-of-fold table contain."""
    folder = resolve(run_dir)
    run = runs.load(str(folder.parent), folder.name)
    found = labels.candidates(run.oof(), load_images(run.params["work_dir"]), run.task)
    hits, errors, first = recall(found, read_private(data_dir, "planted.csv"))
    share = f"{hits / errors:.2f}" if errors else "none to find"
    return f"label errors: {hits} of {errors} are among the first {first} candidates ({share})"
