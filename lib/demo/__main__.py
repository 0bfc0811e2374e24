"""``python -m lib.demo``: make the demo data, or print the closing table."""

from lib.demo.demo import main

if __name__ == "__main__":
    main()
