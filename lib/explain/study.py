"""A study: runs that differ from a baseline in one ingredient each, variants by seeds."""

import re
from collections import defaultdict
from collections.abc import Mapping

import pandas as pd

from lib import artefacts
from lib.errors import ArtefactError, nearest
from lib.explain import paired
from lib.score import decisions, ensemble, intervals, metrics, predict, runs
from lib.score.runs import Run
from lib.task.attributes import Task

Runs = Mapping[tuple[str, int], Run]  # by (variant, seed)
Tables = dict[tuple[str, int], pd.DataFrame]  # out-of-fold tables by (variant, seed)
JOINED = "one run per attribute"  # the variant that single-attribute runs are joined to
DECISION = "expected_f1"  # a variant of the baseline that learns nothing


def find(runs_dir: str, baseline: str) -> tuple[Runs, Task]:
    """Return finished runs ``<variant>_<seed>`` and their task; ArtefactError without baseline."""
    paths = sorted(artefacts.resolve(runs_dir).glob("*/metrics.json"))
    parsed = [re.fullmatch(r"(.+)_(\d+)", path.parent.name) for path in paths]
    found = {(m[1], int(m[2])): runs.load(runs_dir, m[0]) for m in parsed if m}
    variants = {variant for variant, _ in found}
    if baseline not in variants:
        raise ArtefactError(
            f"{runs_dir} has no finished run of baseline={baseline!r}, such as {baseline}_0; its "
            f"variants: {', '.join(sorted(variants)) or 'none'}{nearest(baseline, variants)}"
        )
    return found, next(run.task for (variant, _), run in found.items() if variant == baseline)


def tables(found: Runs, task: Task, baseline: str, tta: str) -> Tables:
    """Return the out-of-fold table of each variant and seed, on the official labels.

    Runs that learn some of the attributes only are joined to one variant. Variants that need no
    training are ``<baseline> + <tta>``, its models through the views of ``tta``, and ``<baseline> +
    expected_f1``, its probabilities by that decision, where the task's metric is macro F1.
    """
    table: dict = {}
    single: defaultdict[int, dict] = defaultdict(dict)
    for (variant, seed), run in found.items():
        if task.learned(run.params["learn"]) == task.names:
            table[variant, seed] = run.oof()
        else:
            single[seed][run.name] = run.oof()
        if variant == baseline:
            table[f"{baseline} + {tta}", seed] = predict.viewed(run, "oof", tta)
            if DECISION in decisions.sensible(task, "soft"):
                oof = run.oof()
                decided = decisions.decide(oof, oof, task, DECISION)
                table[f"{baseline} + {DECISION}", seed] = decided
    joined = {(JOINED, seed): ensemble.join_attributes(one, task) for seed, one in single.items()}
    return table | joined


def scores(tables: Tables, task: Task) -> pd.DataFrame:
    """Return a row per variant and seed: the task's metric, accuracy, the metric by attribute."""
    rows = {key: metrics.summary(oof, task) for key, oof in tables.items()}
    return pd.DataFrame(rows).T.rename_axis(["variant", "seed"]).reset_index()


def overview(tables: Tables, scores: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per variant: the metric of each seed, their ``mean``, its ``low`` and ``high``.

    The interval is over people (``lib.score.intervals``).
    """
    by_seed = scores.pivot(index="variant", columns="seed", values=task.metric)
    drawn = _drawn(tables, task).T.groupby("variant").mean().T
    return by_seed.assign(mean=by_seed.mean(axis=1)).join(intervals.interval(drawn))


def differences(scores: pd.DataFrame, task: Task, baseline: str) -> pd.DataFrame:
    """Return the metric minus the baseline's of the same seed: variants (rows) by seeds."""
    by_seed = scores.pivot(index="variant", columns="seed", values=task.metric)
    return (by_seed - by_seed.loc[baseline]).drop(index=baseline)


def summary(tables: Tables, scores: pd.DataFrame, task: Task, baseline: str) -> pd.DataFrame:
    """Return a row per variant but the baseline, best first.

    ``difference`` from the baseline is the mean over seeds and ``spread`` its range over them, NaN
    of a single seed, which shows nothing. Its intervals over people are those of
    ``paired.against``; ``shown`` asks that the one for all variants together leaves out 0, and that
    the difference is larger than its spread.
    """
    apart = differences(scores, task, baseline)
    drawn = _drawn(tables, task)
    drawn = drawn.sub(drawn[baseline], level="seed").drop(columns=baseline, level="variant")
    compared = paired.against(apart.mean(axis=1), drawn.T.groupby("variant").mean().T)
    spread = (apart.max(axis=1) - apart.min(axis=1)).where(apart.count(axis=1) > 1)
    compared.insert(1, "spread", spread)
    compared["shown"] &= compared["difference"].abs() > compared["spread"]
    return compared.sort_values("difference", ascending=False)


def _drawn(tables: Tables, task: Task) -> pd.DataFrame:
    """Return the metric in each draw of people: (draws, (variant, seed))."""
    drawn = intervals.samples({f"{run}_{seed}": oof for (run, seed), oof in tables.items()}, task)
    return drawn.set_axis(pd.MultiIndex.from_tuples(tables, names=["variant", "seed"]), axis=1)
