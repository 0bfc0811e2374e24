"""What happens to combined probabilities before classes are chosen: temperature, then groups."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lib.errors import ParameterError
from lib.score import groups, temperature
from lib.score.ensemble import COUNTED
from lib.score.groups import Weights
from lib.task.attributes import Task
from lib.task.tables import parts


def check_between(
    task: Task, vote: str, calibrate: bool, group_test: str, finals: Sequence[str] = ()
) -> None:
    """Raise a ParameterError for a step that has no meaning for a task or a vote."""
    if finals and vote in COUNTED:
        raise ParameterError(
            f"vote={vote!r} gives shares of votes, and finals add probabilities: take soft"
        )
    temperature.check(vote, calibrate)
    groups.check(task, group_test)


class Between(NamedTuple):
    """Whether temperatures are learned, and how photos of one person are averaged (if at all)."""

    calibrate: bool = False
    weights: Weights | None = None

    def facts(self) -> dict[str, object]:
        """Return what a submission's JSON says about these steps."""
        grouping = "none" if self.weights is None else "appearance"
        return {"calibrate": self.calibrate, "group_test": grouping}

    def apply(
        self, known: pd.DataFrame, table: pd.DataFrame, task: Task
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return both tables changed; temperatures are learned from ``known`` rows with labels.

        The photos of both are averaged together, so that people can be confused across tables.
        """
        tables = [known, table]
        if self.calibrate:
            temperatures = temperature.fit(known, task)
            tables = [temperature.apply(each, task, temperatures) for each in tables]
        if self.weights is not None:
            tables = _averaged(tables, task, self.weights)
        return tables[0], tables[1]


def _averaged(tables: list[pd.DataFrame], task: Task, weights: Weights) -> list[pd.DataFrame]:
    columns = [column for part in parts(tables[1], task) for column in task.columns(part)]
    photos = pd.concat([table[columns] for table in tables])
    photos = photos[~photos.index.duplicated(keep="last")]
    found = groups.averaged(photos, task, weights.of(photos.index))
    return [table.assign(**found.loc[table.index]) for table in tables]
