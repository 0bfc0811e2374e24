"""What temperatures change: log loss and calibration error of every part, before and after."""

import pandas as pd

from lib.explain.errors import calibration
from lib.score.metrics import METRICS, predicted, truth
from lib.task.attributes import Task
from lib.task.tables import probabilities


def compared(before: pd.DataFrame, after: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per part and attribute: log loss and calibration error of two tables."""
    tables = {"before": before, "after": after}
    found = {
        (what, when): values
        for when, table in tables.items()
        for what, values in {
            "log loss": log_loss(table, task),
            "calibration error": calibration(table, task)["ece"],
        }.items()
    }
    return pd.DataFrame(found).sort_index(axis=1, ascending=False)


def log_loss(oof: pd.DataFrame, task: Task) -> pd.Series:
    """Return the log loss of each part and attribute of an out-of-fold table."""
    true, guess = truth(oof, task), predicted(oof, task)
    return pd.Series(
        {
            name: -METRICS["log_loss"](
                true[name].to_numpy(),
                guess[name].to_numpy(),
                probabilities(oof, task, name).to_numpy(),
            )
            for name in true
        }
    )
