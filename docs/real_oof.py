"""Print the tables of docs/real_oof.md: ``python docs/real_oof.py FOLDER`` in the repository.

FOLDER holds the out-of-fold tables ``default.parquet`` and ``groups_and_years.parquet``.
"""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.score import decisions, ensemble, intervals, metrics, nested
from lib.score.ensemble import Tables
from lib.task.attributes import LABEL, Task, load

RECIPES = ("default", "groups_and_years")


def recipes(tables: Tables, task: Task) -> pd.DataFrame:
    """Return macro F1 of the label and of each attribute: both recipes and their difference."""
    rows = {}
    for name in (LABEL, *task.names):
        draws = intervals.samples(tables, task, "macro_f1", name)
        scores = {
            run: metrics.by_class(oof, task, name)["f1"].mean() for run, oof in tables.items()
        }
        draws["difference"] = draws[RECIPES[1]] - draws[RECIPES[0]]
        scores["difference"] = scores[RECIPES[1]] - scores[RECIPES[0]]
        limits = intervals.interval(draws)
        rows[name] = {c: told(scores[c], *limits.loc[c], "+" * (c == "difference")) for c in draws}
    return pd.DataFrame(rows).T.rename_axis("macro F1 of")


def told(value: float, low: float, high: float, sign: str = "") -> str:
    """Return a number and its interval in words."""
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def in_sample(tables: Tables, task: Task, method: nested.Method) -> str:
    """Return the score of a method on the people that it learned from."""
    known, seen = ensemble.combine(tables, tables, task, method.vote)
    return f"{metrics.score(decisions.decide(known, seen, task, method.decision), task):.3f}"


def methods(comparison: nested.Comparison, tables: Tables, task: Task) -> pd.DataFrame:
    """Return each method's score in-sample and nested, and its gain over the simplest."""
    table = comparison.table()
    score = [told(*row) for row in table[["score", "low", "high"]].to_numpy()]
    gain = [told(*row, "+") for row in table[["gain", "gain_low", "gain_high"]].to_numpy()]
    seen = [in_sample(tables, task, nested.Method(*key)) for key in table.index]
    columns = {"in-sample": seen, "nested macro F1": score, "nested gain over the first": gain}
    return pd.DataFrame(columns, table.index)


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, its index as the first columns."""
    rows = table.reset_index()
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main(folder: Path) -> None:
    """Print both tables and the recommendation."""
    task = load("mask")
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in RECIPES}
    print(markdown(recipes(tables, task)), end="\n\n")
    wanted = nested.methods(tables, task, nested.Method("soft", "argmax"))
    comparison = nested.compare(nested.estimate(tables, task, wanted), task)
    print(markdown(methods(comparison, tables, task)), comparison.why(), sep="\n\n")


main(Path(sys.argv[1]))
