"""``python -m lib.bring FOLDER --out data/name``: make a folder of labelled photos ready to run."""

import sys

from lib.data.bring import main

if __name__ == "__main__":
    sys.exit(main())
