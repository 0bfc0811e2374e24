"""What can be wrong with what a user gives: each message names the value, what is accepted, and the mend."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class FacefoldError(Exception):
    """Base of every error that the user, not the program, can mend."""


class ParameterError(FacefoldError, ValueError):
    """A parameter has a value, a type or a combination that is not accepted."""


class DataError(FacefoldError, ValueError):
    """Photos, tables or labels are not as the competition's layout says."""


class ArtefactError(FacefoldError, RuntimeError):
    """An artefact of an earlier stage is missing, or belongs to other parameters."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of ``names``, or nothing when none is close."""
    close = get_close_matches(str(name), [str(n) for n in names], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """Return ``table[name]``; a wrong name is a ParameterError that lists the choices of ``what``."""
    if name not in table:
        choices = ", ".join(table)
        raise ParameterError(f"{what}={name!r} is not one of: {choices}{nearest(name, table)}")
    return table[name]
