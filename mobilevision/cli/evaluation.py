"""``mobilevision validate`` and ``mobilevision test``: measure a network on a split of a dataset."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn

from mobilevision.cli.processes import ending_together
from mobilevision.cli.run_folder import find_checkpoint
from mobilevision.cli.tables import print_line, print_report, report_to_json
from mobilevision.cli.training import TrainingCLI, plain_errors
from mobilevision.files import write_json
from mobilevision.weights.file import locate_weights

PACKAGES = ("mobilevision", "torch", "torchvision", "lightning", "torchmetrics")


def validate(arguments: list[str]) -> None:
    """Measure the configured network on the validation split."""
    _evaluate("validate", "metrics.json", arguments)


def test(arguments: list[str]) -> None:
    """Measure the configured network on the test split."""
    _evaluate("test", "metrics_test.json", arguments)


def _evaluate(subcommand: Literal["validate", "test"], file_name: str, arguments: list[str]) -> None:
    with plain_errors():
        cli = EvaluationCLI(subcommand, arguments)
        cli.model.details = cli.config["details"]
        run = cli.trainer.validate if subcommand == "validate" else cli.trainer.test
        with ending_together(cli.trainer):
            run(cli.model, datamodule=cli.datamodule, verbose=False)
    report = cli.model.report
    if not cli.trainer.is_global_zero or report is None:
        return
    output = Path(cli.config["output"] or cli.root / file_name)
    print_report(report, subcommand)
    write_json(
        output,
        {
            **report_to_json(report),
            "weights": cli.weights and {"path": str(cli.weights), "sha256": _sha256(cli.weights)},
            "command": ["mobilevision", subcommand, *arguments],
            "versions": {**{name: version(name) for name in PACKAGES}, "python": platform.python_version()},
        },
    )
    print_line(f"figures: {output}")


class EvaluationCLI(TrainingCLI):
    """Evaluation of the configured weights, without log and checkpoints."""

    def before_instantiate_classes(self) -> None:
        """Find the weights, which describe their network.

        Raises:
            FileNotFoundError: There are none where they should be.
        """
        name = self.config["ckpt_path"]
        path = find_checkpoint(name, self.root) if name else None
        if path is not None:
            self.start_from(path)
        elif name:
            raise FileNotFoundError(f"no run in {self.root} has a checkpoint called {name}")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the configured trainer without the callbacks that only training needs."""
        source = self.model.hparams.get("pretrained")
        if source is None:
            rank_zero_warn(
                "neither --ckpt_path nor --model.pretrained is given: the network has randomly initialized weights"
            )
        self.weights = locate_weights(source) if source else None
        callbacks = [
            callback for callback in self.configured_callbacks if not isinstance(callback, Checkpoint | WeightAveraging)
        ]
        return super().instantiate_trainer(callbacks=callbacks, logger=False, enable_checkpointing=False, **kwargs)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
