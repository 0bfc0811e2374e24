"""Make the demo data, or print the scores of a run and its submission.

python -m lib.demo make --data data/demo
python -m lib.demo report --run runs/demo --submission submissions/demo.csv --data data/demo
"""

import argparse
from collections.abc import Sequence

from lib.demo.leaderboard import closing_table
from lib.demo.people import make
from lib.demo.planted import sentence

NOTE = "macro F1 on synthetic people: it shows that the workflow runs, and nothing about real faces"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m lib.demo", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="make the synthetic people")
    maker.add_argument("--data", default="data/demo")
    reporter = commands.add_parser("report", help="print the scores of a run and its submission")
    for name in ("--run", "--submission", "--data"):
        reporter.add_argument(name, required=True)
    chosen = parser.parse_args(arguments)
    if chosen.command == "make":
        print(make(chosen.data))
        return
    table = closing_table(chosen.run, chosen.submission, chosen.data)
    print(NOTE, table.to_string(float_format="{:.3f}".format), sep="\n")
    print(sentence(chosen.run, chosen.data))


if __name__ == "__main__":
    main()
