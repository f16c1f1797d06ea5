"""Fine-tune a segmenter on a small dataset with this library and with torchvision's parts, equally long.

``python scripts/compare_segmentation.py --weights FILE --root FOLDER [--minutes 10] [--seeds 3] [--json FILE]``

The dataset is in VOC's layout with VOC's classes. All sides have the same network, start from the same backbone, and
have batches of 8 and one process that loads them; the minutes are those of training with the validations on the way, on
the wall's clock. torchvision's schedule ends with its minutes, however long a step takes; ours ends with its epochs
(``--epochs``), or is cut off.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import torchvision_segmentation
from benchmarks.comparison import compare, fine_tune, last_and_best, make_parser

CONFIG = Path(__file__).parents[1] / "configs/segmentation/deeplabv3_mobilenet_v2_finetune.yaml"
FIGURES = ["val/miou", "val/pixel_accuracy"]


def main() -> None:
    """Run the comparison."""
    parser = make_parser(__doc__, ("ours", "torchvision", "torchvision-frozen"), minutes=10.0)
    parser.add_argument("--epochs", type=int, help="of our schedule, default: the configuration's")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="torchvision's, default: %(default)s")
    parser.add_argument("--crop", type=int, default=321, help="torchvision's, default: %(default)s")
    given = parser.parse_args()

    def ours(seed: int) -> dict[str, Any]:
        epochs = {} if given.epochs is None else {"trainer.max_epochs": given.epochs}
        done = fine_tune(CONFIG, {"data.num_workers": 1, **epochs}, given, seed)
        end = {"epochs": int(done["validations"][-1]["epoch"]) + 1}
        return {**last_and_best(done["validations"], FIGURES), **end, "seconds": done["seconds"]}

    def torchvision(seed: int, *, frozen: bool) -> dict[str, Any]:
        # A process of its own, as ours has: what an earlier one left in memory is not the next one's.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            options = {name: getattr(given, name) for name in ("minutes", "crop", "learning_rate")}
            train = torchvision_segmentation.train
            done = pool.submit(train, given.root, given.weights, seed=seed, frozen=frozen, **options).result()
        return {**last_and_best(done.pop("validations"), FIGURES), **done}

    compare(given, lambda side, seed: ours(seed) if side == "ours" else torchvision(seed, frozen="frozen" in side))


if __name__ == "__main__":
    main()
