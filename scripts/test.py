"""Measure a checkpoint on the test split: ``python scripts/test.py CONFIG CHECKPOINT [--data.root FOLDER ...]``.

The same as ``mobilevision test --config CONFIG --ckpt_path CHECKPOINT ...``.
"""

import sys

from mobilevision.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 3 or any(argument.startswith("-") for argument in sys.argv[1:3]):
        sys.exit("usage: test.py CONFIG CHECKPOINT [OVERRIDES ...]")
    sys.exit(main(["test", "--config", sys.argv[1], "--ckpt_path", *sys.argv[2:]]))
