"""Probability tables: a frame indexed by photo with the columns of one or several parts of a task.

A part is the label of a task, or one attribute; ``Task.parts`` says which a run's table has.
"""

import pandas as pd

from lib.errors import DataError
from lib.task.attributes import LABEL, Task


def parts(table: pd.DataFrame, task: Task) -> list[str]:
    """Return which parts a table has: the label, or attributes; DataError when it has none."""
    names = [LABEL, *task.names] if task.joint else task.names
    found = [name for name in names if set(task.columns(name)) <= set(table.columns)]
    if not found:
        accepted = "; ".join(f"{name}: {task.columns(name)[0]} ..." for name in names)
        raise DataError(
            f"a table of predictions has the columns of a part of task {task.name!r} ({accepted}), "
            f"this one has {list(table.columns)}"
        )
    return found[:1] if found[0] == LABEL else found


def attributes(table: pd.DataFrame, task: Task) -> list[str]:
    """Return the attributes that a table predicts: all of them, where it has the label."""
    found = parts(table, task)
    return task.names if found == [LABEL] else found


def probabilities(table: pd.DataFrame, task: Task, name: str) -> pd.DataFrame:
    """Return the columns of the label or of an attribute, summed from the label where needed."""
    columns = task.columns(name)
    if set(columns) <= set(table.columns):
        return table[columns]
    joint = table[task.columns(LABEL)].to_numpy().reshape(-1, *task.shape)
    others = [axis + 1 for axis, other in enumerate(task.names) if other != name]
    return pd.DataFrame(joint.sum(axis=tuple(others)), table.index, columns)


def normalised(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a table's probabilities, divided so that the columns of each part sum to 1."""
    shares = [probabilities(table, task, part) for part in parts(table, task)]
    return pd.concat([share.div(share.sum(axis=1), axis=0) for share in shares], axis=1)
