"""``python -m lib.run params/a.yaml [params/b.yaml ...]``: run the notebooks headless, in a chain."""

import sys

from lib.runner.run import main

if __name__ == "__main__":
    sys.exit(main())
