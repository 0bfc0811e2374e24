"""``python -m lib.run params/a.yaml [params/b.yaml ...]`` runs the notebooks headless."""

import sys

from lib.runner.chain import main

if __name__ == "__main__":
    sys.exit(main())
