"""``python -m mobilevision``: the command line without an installed command."""

import sys

from mobilevision.cli import main

if __name__ == "__main__":
    sys.exit(main())
