"""Fine-tune a classifier plainly and as the recipes do, from the same weights and for as long, and compare the results.

``python scripts/compare_finetuning.py --weights FILE --root FOLDER [--minutes 3] [--seeds 3] [--json FILE]``

The plain side is what is usually done: a randomly initialized head, SGD at one rate for everything, the batch's own
statistics, ImageNet's crops. It runs in this library too, so that it has its speed.
"""

from pathlib import Path
from typing import Any

from benchmarks.comparison import compare, fine_tune, last_and_best, make_parser

CONFIGS = Path(__file__).parents[1] / "configs/classification"
PLAIN = {
    "model.fit_head": "false",
    "model.optimizer": "sgd",
    "model.learning_rate": "0.01",
    "model.weight_decay": "4e-5",
    "model.backbone_rate": "1",
    "model.freeze_norm": "false",
    "model.norm_momentum": "0.1",
    "model.schedule": "constant",
    "model.warmup_steps": "0",
    "data.min_crop_area": "0.08",
    "data.brightness": "0",
    "data.contrast": "0",
    "data.saturation": "0",
    "trainer.callbacks": "[]",
    "trainer.max_epochs": "-1",
}
SIDES: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("mobilenet_v2_finetune.yaml", PLAIN),
    "finetune": ("mobilenet_v2_finetune.yaml", {}),
    "head": ("mobilenet_v2_finetune_head.yaml", {}),
}


def main() -> None:
    """Run the comparison."""
    given = make_parser(__doc__, SIDES, minutes=3.0).parse_args()

    def run(side: str, seed: int) -> dict[str, Any]:
        config, changes = SIDES[side]
        done = fine_tune(CONFIGS / config, changes, given, seed)
        return {**last_and_best(done["validations"], ["val/top1"]), "seconds": done["seconds"]}

    compare(given, run)


if __name__ == "__main__":
    main()
