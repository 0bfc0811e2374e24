"""``python -m lib.submission check FILE --sample INFO``: check a submission before upload."""

import sys

from lib.score.submission import main

if __name__ == "__main__":
    sys.exit(main())
