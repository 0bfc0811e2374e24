"""From the tables of runs to the table of a submission, as notebook 04 does it."""

from collections.abc import Mapping

import pandas as pd

from lib.score import ensemble
from lib.score.between import Between
from lib.score.ensemble import Tables
from lib.task.attributes import Task


def voted(
    facts: Mapping, oof: Tables, test: Tables, task: Task, between: Between
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the (out-of-fold, test) tables of the vote, before classes are chosen.

    ``facts`` has vote, weights, finals, and the number of models that a final run is added to.
    """
    finals = {name: test[name] for name in facts["finals"]}
    members = {name: table for name, table in test.items() if name not in finals}
    known, unseen = (ensemble.complete(tables, task) for tables in (oof, members))
    known, table = ensemble.combine(known, unseen, task, facts["vote"], facts["weights"])
    table = ensemble.with_finals(table, facts["models"], finals, task)
    return between.apply(known, table, task)
