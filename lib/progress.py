"""The progress bar of the whole project: one line of text that disappears when its work is done."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

SECONDS_BETWEEN_UPDATES = 0.5


def progress(
    iterable: Iterable | None = None, desc: str = "", total: int | None = None, unit: str = "it"
) -> tqdm:
    """Return a tqdm bar over ``iterable``; without one, ``update`` moves it, and ``with`` ends it.

    In a notebook it is written to stdout, since Jupyter shows all of stderr on red like an error.
    """
    in_notebook = "ipykernel.kernelapp" in sys.modules
    return tqdm(
        iterable,
        desc,
        total,
        unit=unit,
        leave=False,
        mininterval=SECONDS_BETWEEN_UPDATES,
        file=sys.stdout if in_notebook else sys.stderr,
    )
