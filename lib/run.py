"""``python -m lib.run params/a.yaml [params/b.yaml ...]`` runs notebooks; ``--help`` says more."""

import sys

from lib.runner.chain import main

if __name__ == "__main__":
    sys.exit(main())
