"""Lightning's command line with this library's defaults, for ``fit``, ``validate`` and ``test``."""

import logging
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.task import ClassificationTask
from mobilevision.cli.tables import print_line
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.task import DetectionTask
from mobilevision.multitask.datamodule import MultiTaskDataModule
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.datamodule import MaskFolderDataModule, VocDataModule
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.task import Task

TASKS = (ClassificationTask, DetectionTask, SegmentationTask, MultiTaskTask)
DATA_MODULES = (ImageNetDataModule, CocoDataModule, VocDataModule, MaskFolderDataModule, MultiTaskDataModule)
"""Imported so that a configuration may name them without their module."""

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # ours shuffles by (seed, epoch) and can be resumed
    "default_root_dir": "runs",
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}
SEED = 0
TERMINATED = 143

NO_TYPE_FITS = "Does not validate against any of the Union subtypes"
WRONG_CLASS_ARGUMENT = re.compile(
    r'^Parser key "(?P<key>\w+)":.*Problem with given class_path \'(?:\w+\.)*(?P<owner>\w+)\':\s*(?P<problem>.*?)'
    r"\s*(?:- Expected a <class 'NoneType'>.*)?$",
    re.DOTALL,
)


class TrainingCLI(LightningCLI):
    """Command line of a task, its data module and its trainer, from configuration files and options.

    Options of the model that nobody gives are not passed on, so that the weights and the data can supply them.

    Args:
        subcommand: ``fit``, ``validate`` or ``test``.
        arguments: What follows the subcommand.

    Raises:
        ValueError: A wrong option or value.
    """

    description: ClassVar[str | None] = None
    """The first sentence of the subcommand's help."""

    model: Task
    datamodule: ImageDataModule

    def __init__(self, subcommand: str, arguments: list[str]) -> None:
        super().__init__(
            Task,
            ImageDataModule,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=SEED,
            parser_kwargs={
                "exit_on_error": False,
                "prog": f"mobilevision {subcommand}",
                "description": self.description,
            },
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            # The tasks save their own scalars, and a checkpoint describes its network by its card.
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add options that belong to no class: all subcommands have them, so that a saved configuration serves all."""
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Checkpoint to resume (fit) or weights to evaluate (validate, test): a file, or last or best of the "
            "newest run in trainer.default_root_dir. To evaluate, every weights file will do.",
        )
        parser.add_argument(
            "--output",
            type=str | None,
            help="File that validate and test write the figures to. Default: metrics.json and metrics_test.json in "
            "trainer.default_root_dir.",
        )
        parser.add_argument(
            "--details",
            type=bool,
            default=False,
            help="Whether validate and test also analyze the errors: confusions, curves, kinds of errors.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args`` alone, whatever the process was started with."""
        self.config = parser.parse_args(args)
        given = parser.parse_args(args, defaults=False)
        self.config["model"]["init_args"] = given["model"].get("init_args") or Namespace()  # type: ignore[no-untyped-call]

    def start_from(self, path: Path) -> None:
        """Start the task from a file, instead of from those that the configuration names, which may be gone."""
        arguments = self.config["model"]["init_args"]
        arguments["pretrained"], arguments["backbone_weights"] = str(path), None

    @property
    def root(self) -> Path:
        """The folder of the runs."""
        return Path(self.config["trainer"]["default_root_dir"])

    @property
    def configured_callbacks(self) -> list[L.Callback]:
        """The callbacks that the configuration asks for."""
        callbacks = self.config_init["trainer"]["callbacks"]
        return list(callbacks) if isinstance(callbacks, list) else [callbacks] if callbacks else []


class StartReports(L.Callback):
    """Printing of what the data was recognized as, and of the outcome of loading weights for its classes."""

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print a line for every dataset, and for every file, unless the run is resumed from a checkpoint."""
        assert isinstance(pl_module, Task)
        data = trainer.datamodule  # type: ignore[attr-defined]
        for module in dict.fromkeys(data.for_head(name) for name in pl_module.network.heads):
            if module.recognized:
                print_line(module.recognized)
        if trainer.ckpt_path is None:
            for report in pl_module.load_reports:
                print_line(str(report))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn Lightning's errors into those of every subcommand, and silence its notes.

    Raises:
        ValueError: Where the configuration is wrong.
        KeyboardInterrupt: Where Lightning exits because of one.
        SystemExit: With the code of a terminated process, where Lightning shuts down for that reason.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore", PossibleUserWarning)
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    # It is about sharding, which nobody does here: the network is built in configure_model, for the data.
    warnings.filterwarnings("ignore", ".*WeightAveraging callback with a model that overrides the configure_model")
    try:
        yield
    except (ArgumentError, MisconfigurationException) as error:
        raise ValueError(explain(str(error))) from error
    except ValueError as error:
        # The class's own message, without the list of all types that were tried and all its arguments.
        cause = error.__cause__
        raise cause if cause is not None and str(error).startswith(NO_TYPE_FITS) else error from None
    except SIGTERMException as error:
        raise SystemExit(TERMINATED) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        raise


def explain(message: str) -> str:
    r"""Return which argument of which class is wrong, without the list of all types that were tried.

    >>> explain('Parser key "data": ... - Problem with given class_path \'a.B\': Option \'c\' is not accepted')
    "data: Option 'c' is not accepted (B)"
    """
    return WRONG_CLASS_ARGUMENT.sub(r"\g<key>: \g<problem> (\g<owner>)", message)
