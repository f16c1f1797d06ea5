"""``mobilevision fit``: train, keep checkpoints, save the best weights."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from mobilevision.cli.checkpoints import BestFigures, ConfigSaver, FinalAnalysis, WholeCheckpoints, checkpoint_callbacks
from mobilevision.cli.dry_run import DryRunCLI
from mobilevision.cli.processes import ending_together
from mobilevision.cli.run_folder import RunFolder, find_checkpoint
from mobilevision.cli.tables import print_figures, print_line, report_to_json, without_nan
from mobilevision.cli.training import StartReports, TrainingCLI, plain_errors
from mobilevision.files import write_json
from mobilevision.weights.file import read_weights, save_weights
from mobilevision.weights.loading import load_weights

DRY_RUN = "--dry-run"


def run(arguments: list[str]) -> None:
    """Train, or try everything on one batch."""
    with plain_errors():
        if DRY_RUN in arguments:
            # Not an option of the parser: it does not belong into the configuration of a run.
            DryRunCLI("fit", [argument for argument in arguments if argument != DRY_RUN]).run()
        else:
            FitCLI("fit", arguments).run()


class FitCLI(TrainingCLI):
    """Training in a run folder of its own, or resumed in that of an earlier run."""

    description = (
        f"Train a network. With {DRY_RUN}, run one batch through forward, loss, backward and validation, draw it to "
        "dry_run in trainer.default_root_dir, and stop."
    )

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint to resume: it describes its network, the files its run started from need not be there."""
        self.config_text = self.parser.dump(self.config, skip_none=False)
        self.checkpoint = self._find_checkpoint()
        if self.checkpoint is not None:
            self.start_from(self.checkpoint)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the configured trainer, with its checkpoints and its log in the run's folder."""
        self.folder = self._find_folder()
        self.best_figures = BestFigures()
        trainer = self.config_init["trainer"]
        configured = self.configured_callbacks
        callbacks = [
            *configured,
            StartReports(),
            self.best_figures,
            FinalAnalysis(),
            ConfigSaver(self.folder.path / "config.yaml", self.config_text),
        ]
        if trainer["enable_checkpointing"] is not False:
            callbacks += checkpoint_callbacks(self.folder.checkpoints, self.model.monitor, configured)
        logger = CSVLogger(self.folder.path, name="log") if trainer["logger"] in (None, True) else trainer["logger"]
        plugins = trainer["plugins"] or []
        return super().instantiate_trainer(
            default_root_dir=self.folder.path,
            callbacks=callbacks,
            logger=logger,
            plugins=[*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()],
            **kwargs,
        )

    def run(self) -> None:
        """Train; after an error leave either checkpoints or nothing."""
        try:
            with ending_together(self.trainer):
                self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint)
        except BaseException:
            rank_zero_only(self.folder.discard_if_empty)()
            raise
        if self.trainer.is_global_zero:
            self._conclude()

    def _find_checkpoint(self) -> Path | None:
        name = self.config["ckpt_path"]
        path = find_checkpoint(name, self.root) if name else None
        if path is None:
            return None
        if path.suffix != ".ckpt":
            raise ValueError(
                f"--ckpt_path must be a checkpoint of a run, got {path}: to start from it use --model.pretrained"
            )
        return path

    def _find_folder(self) -> RunFolder:
        resumed = RunFolder.of_checkpoint(self.checkpoint, self.root) if self.checkpoint else None
        if resumed is not None:
            return resumed
        # The other processes write nothing; the first one tells them where the checkpoints are.
        return rank_zero_only(RunFolder.claim)(self.root) or RunFolder(self.root)

    def _conclude(self) -> None:
        best = self.best_figures
        if best.figures and self.model.report is not None:
            print_figures(best.figures, f"best by {self.model.monitor}, {best.num_images} images")
            report = {"best": without_nan(best.figures), "last": report_to_json(self.model.report)}
            write_json(self.folder.path / "metrics.json", report)
        callback = self.trainer.checkpoint_callback
        if not isinstance(callback, ModelCheckpoint) or not Path(callback.best_model_path).is_file():
            return
        best_path = callback.best_model_path
        load_weights(self.model.network, read_weights(best_path), best_path, strict=True)
        score = callback.best_model_score
        measured = {} if score is None else {"measured": f"{callback.monitor} {score:.4f}"}
        save_weights(self.model.network, self.folder.weights, **measured)
        print_line(f"weights: {self.folder.weights}")
