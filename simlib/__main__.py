"""``python -m simlib`` is the same as ``sendlab``."""

import sys

from simlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
