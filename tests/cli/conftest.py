"""Small datasets with configurations, one for each task and one for all of them, and networks trained on them."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from mobilevision.cli import main
from mobilevision.training.task import Task

TASKS = {
    "classification": ("ClassificationTask", "ImageNetDataModule", {}, "top1"),
    "detection": ("DetectionTask", "CocoDataModule", {}, "map"),
    "segmentation": (
        "SegmentationTask",
        "VocDataModule",
        {"train_split": "train", "classes": ["background", "blue", "red"]},
        "miou",
    ),
}


class Setup(NamedTuple):
    """A task: its configuration file, the folder of its dataset, and the figure that says how good it is."""

    task: str
    config: Path
    root: Path
    figure: str

    def options(self, output: Path, *more: object) -> list[str]:
        return ["--config", str(self.config), "--trainer.default_root_dir", str(output), *map(str, more)]

    def read_config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(self.config.read_text())
        return config


class Outcome(NamedTuple):
    code: int | None
    out: str
    err: str


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests off the other cores, in this process and in those it starts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()  # What fixtures have printed is not this command's.
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def setups(tmp_path_factory: pytest.TempPathFactory, write_dataset: Callable[..., Path]) -> dict[str, Setup]:
    """The tasks by name: narrow networks for small images, 8 to train on and 5 to evaluate."""

    def make(task: str) -> Setup:
        task_class, data_class, data_options, figure = TASKS[task]
        folder = tmp_path_factory.mktemp(task)
        root = write_dataset(task, folder / "data", train=8, val=5)
        network = {"width_mult": 0.1, "input_size": 64, "norm_momentum": 0.1}
        optimization = {"optimizer": "adamw", "learning_rate": 1e-3}
        loading = {"root": str(root), "batch_size": 4, "num_workers": 0}
        config = {
            "model": {"class_path": task_class, "init_args": network | optimization},
            "data": {"class_path": data_class, "init_args": loading | data_options},
            "trainer": {
                "accelerator": "cpu",
                "devices": 1,
                "max_epochs": 1,
                "log_every_n_steps": 1,
                "num_sanity_val_steps": 0,
                "enable_progress_bar": False,
            },
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return Setup(task, folder / "config.yaml", root, figure)

    setups = {task: make(task) for task in TASKS}
    return {**setups, "multitask": join(setups, tmp_path_factory.mktemp("joint"))}


def join(setups: dict[str, Setup], folder: Path) -> Setup:
    """Set up a network with a head for each dataset, at sizes of their own; five images have boxes and masks."""
    for task, setup in setups.items():
        shutil.copytree(setup.root, folder / task)
    path = folder / "detection/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for image in content["images"][:5]:
        file = folder / "detection/train2017" / image["file_name"]
        image["file_name"] = f"train_{image['id']}.png"
        file.rename(file.with_name(image["file_name"]))
    path.write_text(json.dumps(content))

    config = setups["classification"].read_config()
    del config["model"]["init_args"]["input_size"]
    config["model"]["class_path"] = "MultiTaskTask"
    config["data"] = {"class_path": "MultiTaskDataModule", "init_args": {}}
    for (task, setup), size in zip(setups.items(), (32, 64, 65), strict=True):
        data = setup.read_config()["data"]
        data["init_args"] |= {"root": str(folder / task), "input_size": size}
        config["data"]["init_args"][task] = data
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return Setup("multitask", folder / "config.yaml", folder, "score")


@pytest.fixture(scope="session")
def trained(setups: dict[str, Setup], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of one epoch of a task, made when it is first asked for."""
    runs: dict[str, Path] = {}

    def train(task: str) -> Path:
        if task not in runs:
            output = tmp_path_factory.mktemp(f"trained_{task}")
            assert main(["fit", *setups[task].options(output)]) == 0
            runs[task] = output / "run_1"
        return runs[task]

    return train


@pytest.fixture
def weights_of(trained: Callable[[str], Path]) -> Callable[[str], Path]:
    """The weights of a run of one epoch of a task."""
    return lambda task: trained(task) / "checkpoints/weights.safetensors"


@pytest.fixture
def run_interrupted(run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """Run the command line in this process, and press Ctrl-C before a batch of an epoch."""
    # A worker of the tests may ignore it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    # Every step is saved, or it would depend on the machine which one is the last.
    monkeypatch.setattr("mobilevision.cli.checkpoints.SAVING_INTERVAL", timedelta(microseconds=1))
    start_batch = Task.on_train_batch_start

    def run_interrupted(*arguments: object, epoch: int, batch_index: int) -> Outcome:
        def interrupt(task: Task, batch: Any, batch_idx: int) -> None:
            start_batch(task, batch, batch_idx)
            if (task.current_epoch, batch_idx) == (epoch, batch_index):
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(Task, "on_train_batch_start", interrupt)
            return run(*arguments)

    yield run_interrupted
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def command() -> tuple[list[str], dict[str, str]]:
    """The command that starts another process with this command line, and its environment."""
    return [sys.executable, "-m", "mobilevision"], {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(command: tuple[list[str], dict[str, str]]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command line in another process, which may start more of them, to its end."""
    words, environment = command

    def start(*arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*words, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return start


PROCESS = """
import os, sys
os.environ.update(environment)
for number, file in enumerate(files, start=1):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
from lightning.pytorch.utilities import rank_zero_only
from mobilevision.cli import main
rank_zero_only.rank = int(environment["RANK"])  # read from the environment when it is imported
sys.exit(main(arguments))
"""


@pytest.fixture
def start_together(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Outcome]]:
    """Run the command line in processes of one run, as torchrun starts them, but forked: imports take seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mobilevision.cli.fit", "mobilevision.cli.evaluation"])

    def start_together(count: int, *arguments: object) -> list[Outcome]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        folder = tmp_path_factory.mktemp("processes")
        processes = []
        for rank in range(count):
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            given = {
                "environment": shared | {name: str(number) for name, number in numbers.items()},
                "files": [str(folder / f"{rank}.{name}") for name in ("out", "err")],
                "arguments": list(map(str, arguments)),
            }
            processes.append(context.Process(target=exec, args=(PROCESS, given)))
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
        return [
            Outcome(process.exitcode, *((folder / f"{rank}.{name}").read_text() for name in ("out", "err")))
            for rank, process in enumerate(processes)
        ]

    return start_together
