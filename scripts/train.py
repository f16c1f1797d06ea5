"""Train from one configuration file: ``python scripts/train.py CONFIG [--trainer.max_epochs 10 ...]``.

The same as ``mobilevision fit --config CONFIG ...``.
"""

import sys

from mobilevision.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: train.py CONFIG [OVERRIDES ...]")
    sys.exit(main(["fit", "--config", *sys.argv[1:]]))
