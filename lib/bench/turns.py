"""Calls that take turns, and what a row of the benchmark's table says.

What is compared takes turns, so that a slow moment of the machine slows both, and the median over
turns counts. A ``peer`` is a library as people use it, a ``limit`` the same computation alone.
"""

import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

COLUMNS = ["measure", "ours", "peer", "limit", "ratio", "bar", "reached", "conditions"]
DIRECTIONS = {"≥": operator.ge, "≤": operator.le}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def take_turns(calls: Mapping[str, Callable[[], object]], turns: int) -> pd.DataFrame:
    """Return the seconds of each call (columns) in each turn (rows), after one turn of warming up.

    Every other turn goes backwards, so that a machine that becomes slower or faster favours none.
    """
    orders = [list(calls.items())[:: (-1) ** turn] for turn in range(turns + 1)]
    rows = [{name: timed(call)[0] for name, call in order} for order in orders]
    return pd.DataFrame(rows[1:], columns=list(calls))


def result(
    measure: str, bar: str, ours: float, conditions: str, peer=np.nan, limit=np.nan, ratio=np.nan
) -> dict:
    """Return a row; ``bar``, such as "≥ 8", judges the ratio, or ``ours`` where there is none."""
    sign, value = bar.split()
    reached = bool(DIRECTIONS[sign](ours if np.isnan(ratio) else ratio, float(value)))
    values = (measure, ours, peer, limit, ratio, bar, reached, conditions)
    return dict(zip(COLUMNS, values, strict=True))


def compared(
    measure: str, bar: str, seconds: pd.DataFrame, photos: int, other: str, conditions: str
) -> dict:
    """Return a row of photos per second, from turns of ``photos`` each.

    ``seconds`` has the columns "ours" and ``other``, which is "peer" or "limit".
    """
    rates = photos / seconds[["ours", other]].median()
    ratio = (seconds[other] / seconds["ours"]).median()
    return result(measure, bar, rates["ours"], conditions, ratio=ratio, **{other: rates[other]})


def threads() -> str:
    """Return how many threads torch has."""
    return f"{torch.get_num_threads()} threads"
