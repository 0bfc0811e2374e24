"""Runs that an experiment would only repeat: they are named before anything is trained."""

import json
from collections.abc import Mapping
from pathlib import Path

from lib import PROJECT
from lib.errors import FacefoldError
from lib.learn.checks import NAMES_OF_A_RUN, NOT_PART_OF_A_RUN
from lib.textfiles import read_yaml


def told(params: Mapping) -> str:
    """Return a sentence on the earlier runs with the same parameters; "" if there are none.

    ``params`` are those of notebook 03. The runs are those in its ``runs_dir``.
    """
    folder = PROJECT / Path(params["runs_dir"]).expanduser()
    wanted = _decisive(params)
    same = [
        path.parent
        for path in sorted(folder.glob("*/params.yaml"))
        if path.parent.name != params["experiment"] and _decisive(_read(path)) == wanted
    ]
    found = " and ".join(f"{run.name!r} ({_score(run)})" for run in same)
    return found and f"experiment={params['experiment']!r} repeats the parameters of run {found}"


def _decisive(params: Mapping) -> dict:
    """Return the parameters that decide what comes out."""
    other = (*NAMES_OF_A_RUN, *NOT_PART_OF_A_RUN)
    return {key: value for key, value in params.items() if key not in other}


def _read(path: Path) -> dict:
    """Return a run's parameters; none of a file that is damaged, nothing can be said of it."""
    try:
        return read_yaml(path)
    except FacefoldError:
        return {}


def _score(run: Path) -> str:
    path = run / "metrics.json"
    if not path.exists():
        return "not finished"
    scores = json.loads(path.read_text())
    value = scores.get("oof_score")
    return "without a score" if value is None else f"{scores['metric']} {value:.3f} out-of-fold"
