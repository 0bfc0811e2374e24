"""``python -m lib.unlabelled FOLDER --like RUN --out WORK_DIR``: photos for pseudo-labels."""

import sys

from lib.score.unlabelled import main

if __name__ == "__main__":
    sys.exit(main())
