"""``python -m lib.package SUBMISSION --out DIR``: make a package; ``--help`` says more."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.errors import FacefoldError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    purpose = "Make a folder that reproduces a submission of the ledger without network."
    parser = argparse.ArgumentParser("python -m lib.package", description=purpose)
    add = parser.add_argument
    add("submission", metavar="SUBMISSION", help="its name in the ledger")
    add("--out", type=Path, metavar="DIR", required=True, help="the folder that is made")
    ways = "fewer models: the N best folds of each run, or their soup (uniform, greedy)"
    add("--slim", default="", metavar="N", help=ways)
    add("--answers", type=Path, metavar="CSV", help="true answers of test photos, to score --slim")
    add("--wheels", action="store_true", help="fetch the wheels of what inference imports")
    add("--onnx", action="store_true", help="write the models for onnxruntime as well")
    add("--submissions", default="submissions", metavar="DIR", help="folder of the ledger")
    add("--runs", default="runs", metavar="DIR", help="folder of the runs")
    o = parser.parse_args(arguments)
    try:
        from lib.package import build  # torch takes seconds

        places = (o.out, o.submissions, o.runs)
        facts = build.make(o.submission, *places, o.slim, o.answers, o.wheels, o.onnx)
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    models = sum(len(paths) for paths in facts["checkpoints"].values())
    folded = sum(count > 0 for count in facts["folded"].values())
    print(f"{o.out}: {models} models, BatchNorm folded in {folded} of them; README.md says more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
