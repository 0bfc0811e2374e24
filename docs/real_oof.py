"""Print the tables of docs/real_oof.md: ``python docs/real_oof.py FOLDER`` in the repository.

FOLDER holds the out-of-fold tables ``default.parquet`` and ``groups_and_years.parquet``.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.score import decisions, ensemble, groups, intervals, metrics, nested, same_person
from lib.score.between import Between
from lib.score.ensemble import Tables
from lib.score.groups import Weights
from lib.task.attributes import LABEL, Task, load

DRAWS = 5  # of misplaced photos
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


def weights_of(people: np.ndarray, certainty: float = 1.0) -> csr_array:
    """Return weights in which each photo counts 1, and ``certainty`` for others of its person."""
    first, second = same_person.pairs(people)
    return same_person.weighed(len(people), first, second, np.full(len(first), certainty))


def misplaced(people: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return people, a share of them exchanged at random between photos."""
    rng, found = np.random.default_rng(seed), people.copy()
    moved = np.flatnonzero(rng.random(len(people)) < share)
    found[moved] = people[rng.permutation(moved)]
    return found


def of_logarithms(oof: pd.DataFrame, task: Task, weights: csr_array) -> pd.DataFrame:
    """Return ``groups.averaged`` with the geometric mean (for the task whose people come last)."""
    joint = oof[task.columns()].to_numpy().reshape(len(oof), task.shape[0], -1)
    mean = np.exp(weights @ np.log(joint.sum(axis=1).clip(ensemble.FLOOR)))
    mean /= mean.sum(axis=1, keepdims=True)
    fitted = groups.fit_marginals(joint, joint.sum(axis=2), mean).reshape(len(oof), -1)
    return oof.assign(**dict(zip(task.columns(), fitted.T, strict=True)))


def errors(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return what averaging gains where a share of the photos is with wrong people."""
    people, before = pd.factorize(oof["person"])[0], metrics.score(oof, task)
    rows = {}
    for share in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
        found: dict[str, list[float]] = {}
        for seed in range(DRAWS):
            mixed = misplaced(people, share, seed)
            for name, certainty in {"1": 1.0, "certainty": (1 - share) ** 2}.items():
                weights = weights_of(mixed, certainty)
                for mean, rule in {"mean": groups.averaged, "log mean": of_logarithms}.items():
                    gain = metrics.score(rule(oof, task, weights), task) - before
                    found.setdefault(f"{mean}, weight {name}", []).append(gain)
        rows[f"{share:.0%}"] = {name: f"{np.mean(gains):+.3f}" for name, gains in found.items()}
    return pd.DataFrame(rows).T.rename_axis("misplaced")


def steps(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the nested gain of true groups and of temperatures, in macro F1 and in log loss."""
    weights = Weights(oof.index, weights_of(pd.factorize(oof["person"])[0]))
    ways = {
        "temperature": Between(True),
        "groups": Between(weights=weights),
        "temperature, groups": Between(True, weights),
    }
    found: dict[tuple[str, str], dict[str, str]] = {}
    for rule in ("argmax", "expected_f1"):
        method = nested.Method("soft", rule)
        tables = {
            name: nested.estimate({"run": oof}, task, [method], (), step)[method]
            for name, step in {"none": nested.PLAIN, **ways}.items()
        }
        for name, table in tables.items():
            effect = nested.effect(tables["none"], table, task)
            row = {"macro F1": f"{effect.after:.3f}", "gain": told(*effect[2:], "+")}
            loss = f"{-metrics.measure(table, task, 'log_loss'):.3f}"
            found[rule, name] = row | {"log loss": loss if rule == "argmax" else ""}
    return pd.DataFrame(found).T.rename_axis(["decision", "before it"])


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, its index as the first columns."""
    rows = table.reset_index()
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main(folder: Path) -> None:
    """Print all tables and the recommendation."""
    task = load("mask")
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in RECIPES}
    print(markdown(recipes(tables, task)), end="\n\n")
    wanted = nested.methods(tables, task, nested.Method("soft", "argmax"))
    comparison = nested.compare(nested.estimate(tables, task, wanted), task)
    print(markdown(methods(comparison, tables, task)), comparison.why(), sep="\n\n", end="\n\n")
    for name, oof in tables.items():
        print(name, markdown(steps(oof, task)), markdown(errors(oof, task)), sep="\n\n", end="\n\n")


main(Path(sys.argv[1]))
