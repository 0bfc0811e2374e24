"""From the texts of a table to recorded numbers; what a task does not know is refused by name."""

import pandas as pd

from lib.errors import DataError, nearest
from lib.task.attributes import Attribute


def refuse(wrong: pd.Series, what: str, fix: str) -> None:
    """Raise a DataError that names the first few of ``wrong``, if there are any."""
    if len(wrong):
        shown = ", ".join(map(repr, wrong.drop_duplicates().head(5)))
        raise DataError(f"{what}: {shown} ({len(wrong)} in all); {fix}")


def recorded(attribute: Attribute, texts: pd.Series, source: object) -> pd.Series:
    """Return the recorded number of each text: a class name, or a whole number where ordered.

    A number outside the task's range is kept: it belongs to the group at that end.
    """
    texts, name = texts.str.strip(), attribute.name
    if attribute.ordered:
        first, last = attribute.recorded[0], attribute.recorded[-1]
        number = r"-?\d{1,9}" if first < 0 else r"\d{1,9}"
        wrong = texts[~texts.str.fullmatch(number) | (texts == "0") & (first > 0)]
        refuse(wrong, f"{source}: {name} is no whole number", f"write {first} to {last}")
        return texts.astype(int)
    wrong = texts[~texts.isin(attribute.classes)]
    hint = nearest(wrong.iloc[0], attribute.classes) if len(wrong) else ""
    refuse(wrong, f"{source}: unknown {name}", f"use {', '.join(attribute.classes)}{hint}")
    return texts.map(attribute.classes.index).astype(int)
