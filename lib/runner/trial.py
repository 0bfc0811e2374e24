"""``python -m lib.runner.trial FILE ...``: ``lib.run`` of a trial, one process at a time.

A worker that is killed may leave its trial training. Who continues the trial waits for that here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lib.runner import chain
from lib.workers import one_process


def main(argv: Sequence[str]) -> int:
    """Run the command line of ``lib.run`` while no other process runs its first file."""
    with one_process(Path(argv[0])):
        return chain.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
