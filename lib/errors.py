"""What can be wrong with what a user gives: a message names value, what is accepted, and fix."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class FacefoldError(Exception):
    """Base of every error that the user, not the program, can fix."""


class ParameterError(FacefoldError, ValueError):
    """A parameter has a value, a type or a combination that is not accepted."""


class DataError(FacefoldError, ValueError):
    """Photos, tables or labels are not as their layout says."""


class ArtefactError(FacefoldError, RuntimeError):
    """An artefact of an earlier stage is missing, or belongs to other parameters."""


class Faults:
    """Faults of what a user gives, collected so that all are told at once."""

    def __init__(self):
        self.found: list[str] = []

    def add(self, fault: str) -> None:
        """Keep a fault."""
        self.found.append(fault)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the fault that ends this block."""
        try:
            yield
        except FacefoldError as error:
            self.add(str(error))

    def tell(self) -> None:
        """Raise a ParameterError with all faults, each once, if there are any."""
        found = list(dict.fromkeys(self.found))
        if len(found) > 1:
            raise ParameterError(f"{len(found)} faults\n  " + "\n  ".join(found))
        if found:
            raise ParameterError(found[0])


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of ``names``, or "" when none is close."""
    close = get_close_matches(str(name), [str(n) for n in names], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(names: Iterable[str], name: str, what: str) -> str:
    """Return ``name`` if it is one of ``names``; else a ParameterError lists them."""
    names = list(names)
    if name not in names:
        choices = ", ".join(names)
        raise ParameterError(f"{what}={name!r} is not one of: {choices}{nearest(name, names)}")
    return name


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """Return ``table[name]``; a wrong name is a ParameterError that lists the choices."""
    return table[one_of(table, name, what)]


def some(values: Iterable, what: str) -> str:
    """Return how many different values there are, and the first five: ``2 keys (a, b)``."""
    shown = list(dict.fromkeys(values))
    more = ", …" if len(shown) > 5 else ""
    return f"{len(shown)} {what} ({', '.join(map(str, shown[:5]))}{more})"
