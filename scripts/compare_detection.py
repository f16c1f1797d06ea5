"""Fine-tune a detector on a small dataset with this library and with torchvision's parts, and compare COCO's figures.

``python scripts/compare_detection.py --weights FILE --root FOLDER [--minutes 10] [--seeds 3] [--json FILE]``

Both sides have the same network, the same backbone weights, batches of 16 and one process that loads them. The minutes
are those of training with the validations on the way, on the wall's clock. torchvision's schedule ends with its
minutes, however long a step takes; ours ends with its epochs: set as many as the minutes hold (``--epochs``). ``ended``
tells whether it did; if not, ``last`` is the last validation before the minutes were over.
"""

from pathlib import Path
from typing import Any

import yaml
from benchmarks import torchvision_finetuning
from benchmarks.comparison import compare, fine_tune, last_and_best, make_parser

CONFIG = Path(__file__).parents[1] / "configs/detection/ssdlite_mobilenet_v2_finetune.yaml"
EPOCHS = yaml.safe_load(CONFIG.read_text())["trainer"]["max_epochs"]
FIGURES = ["val/map", "val/map_50"]


def main() -> None:
    """Run the comparison."""
    parser = make_parser(__doc__, ("ours", "torchvision"), minutes=10.0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of our schedule, default: %(default)s")
    parser.add_argument("--learning_rate", type=float, default=0.015, help="torchvision's, default: %(default)s")
    given = parser.parse_args()

    def ours(seed: int) -> dict[str, Any]:
        done = fine_tune(CONFIG, {"trainer.max_epochs": given.epochs}, given, seed)
        epochs = int(done["validations"][-1]["epoch"]) + 1
        ended = {"epochs": epochs, "ended": epochs == given.epochs}
        return {**last_and_best(done["validations"], FIGURES), **ended, "seconds": done["seconds"]}

    def torchvision(seed: int) -> dict[str, Any]:
        options = {"minutes": given.minutes, "seed": seed, "learning_rate": given.learning_rate}
        done = torchvision_finetuning.train(given.root, given.weights, **options)
        return {**last_and_best(done.pop("validations"), FIGURES), **done}

    compare(given, lambda side, seed: ours(seed) if side == "ours" else torchvision(seed))


if __name__ == "__main__":
    main()
