"""A comparison of runs that differ in one ingredient each: variants by seeds, scored out-of-fold on official labels."""

from collections.abc import Sequence

import pandas as pd

from lib.score import ensemble, metrics, predict, runs

Tables = dict[tuple[str, int], pd.DataFrame]  # out-of-fold tables by (variant, seed)


def collect(
    runs_dir: str, variants: Sequence[str], single_tasks: Sequence[str], seeds: Sequence[int], baseline: str, tta: str
) -> Tables:
    """Return the out-of-fold table of each variant and seed; runs are named ``<variant>_<seed>``.

    ``three_models`` joins the single-task runs; ``<baseline> + <tta>`` is the baseline through the views of ``tta``.
    """
    tables = {}
    for seed in seeds:
        tables |= {(name, seed): runs.load(runs_dir, f"{name}_{seed}").oof() for name in variants}
        single = {name: runs.load(runs_dir, f"{name}_{seed}").oof() for name in single_tasks}
        tables["three_models", seed] = ensemble.join_attributes(single)
        tables[f"{baseline} + {tta}", seed] = predict.viewed(runs.load(runs_dir, f"{baseline}_{seed}"), "oof", tta)
    return tables


def scores(tables: Tables) -> pd.DataFrame:
    """Return a row a variant and seed: macro F1, accuracy, macro F1 by attribute."""
    return pd.DataFrame([{"variant": variant, "seed": seed, **metrics.summary(oof)} for (variant, seed), oof in tables.items()])


def summary(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return a row a variant, best first: mean and spread (largest less smallest) over seeds, difference from the baseline.

    The difference is the mean over seeds of differences from the baseline of the same seed, with its own spread.
    """
    by_seed = scores.pivot(index="variant", columns="seed", values="macro_f1")
    apart = by_seed - by_seed.loc[baseline]
    columns = {"macro_f1": by_seed.mean(axis=1), "spread": _range(by_seed), "difference": apart.mean(axis=1)}
    return pd.DataFrame({**columns, "difference_spread": _range(apart)}).sort_values("macro_f1", ascending=False)


def _range(table: pd.DataFrame) -> pd.Series:
    return table.max(axis=1) - table.min(axis=1)
