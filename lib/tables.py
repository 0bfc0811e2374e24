"""``python -m lib.tables RUN --out FOLDER``: a run's probabilities as CSV, for other ensembles."""

import sys

from lib.score.exchange import main

if __name__ == "__main__":
    sys.exit(main())
