"""Runs of several processes: they train and measure what one does, write once, and end together."""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mobilevision.cli.processes import ending_together
from mobilevision.multitask.task import MultiTaskTask

TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp")


@pytest.fixture
def configure(trained, setups, tmp_path):
    """Write a configuration that trains on from a run of a task, with batches of one image, and return its options.

    The last bits of an image's outputs depend on the batch it is in.
    """

    def configure(task):
        config = setups[task].read_config()
        weights = str(trained(task) / "checkpoints/weights.safetensors")
        config["model"]["init_args"] |= {"pretrained": weights, "freeze_norm": True}
        data = config["data"]["init_args"]
        for options in [each["init_args"] for each in data.values() if isinstance(each, dict)] or [data]:
            options["batch_size"] = 1
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return "--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path / "out"

    return configure


def read_exactly(path):
    """Return the figures of a written evaluation, every digit of them."""
    written = json.loads(path.read_text())
    return {name: json.dumps(written[name]) for name in ("figures", "per_class", "num_images", "details")}


@pytest.fixture
def assert_trained_as_one(run, tmp_path):
    """Assert that a run has left one set of files, with the figures that one process measures."""

    def assert_trained_as_one(options):
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["run_1"]
        best = tmp_path / "out/run_1/checkpoints/best.ckpt"
        measured = torch.load(best.with_name("last.ckpt"), weights_only=True)["callbacks"]["BestFigures"]
        assert run("validate", *options, "--ckpt_path", best, "--output", tmp_path / "one.json").code == 0
        written = json.loads((tmp_path / "one.json").read_text())
        assert written["num_images"] == measured["num_images"]
        assert written["figures"] == {
            name: None if math.isnan(value) else value for name, value in measured["figures"].items()
        }

    return assert_trained_as_one


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation", "multitask"])
def test_processes_of_torchrun_train_and_measure_as_one(task, configure, start_together, assert_trained_as_one):
    options, strategy, paired = configure(task), "ddp", ()
    if task == "multitask":
        strategy, paired = "ddp_find_unused_parameters_true", ("--data.pair_by_name", "true")
    first, second = start_together(2, "fit", *options, *TWO[:-1], strategy, *paired)
    assert (first.code, first.err, second) == (0, "", (0, "", ""))
    assert first.out.count("weights: ") == 1
    assert_trained_as_one(options)


@pytest.mark.slow
def test_a_process_that_starts_the_second_trains_and_measures_as_one(configure, start, assert_trained_as_one):
    options = configure("detection")
    done = start("fit", *options, *TWO)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("weights: ") == 1
    assert_trained_as_one(options)


@pytest.mark.slow
def test_three_processes_write_the_bytes_that_one_writes(configure, setups, start_together, run, tmp_path):
    # Five images, one of them without objects, do not divide by three.
    root = tmp_path / "data"
    shutil.copytree(setups["detection"].root, root)
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    options = (*configure("detection"), "--data.root", root, "--details", "true")
    assert run("validate", *options, "--output", tmp_path / "one.json").code == 0
    three = ("--trainer.devices", 3, "--trainer.strategy", "ddp", "--output", tmp_path / "three.json")
    assert [outcome.code for outcome in start_together(3, "validate", *options, *three)] == [0, 0, 0]
    one, three = (read_exactly(tmp_path / name) for name in ("one.json", "three.json"))
    assert one == three
    assert one["num_images"] == "5"


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["blue/0.png", "red/1.png"], ids=["both", "the second"])
def test_an_error_in_processes_ends_both_and_is_printed_once(broken, setups, start, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(setups["classification"].root, root)
    (root / "val" / broken).write_bytes(b"no image")
    done = start("validate", *setups["classification"].options(tmp_path / "out", "--data.root", root, *TWO))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "warning: neither" not in line]
    assert errors == [f"mobilevision: error: {root / 'val' / broken} does not decode as an image: not a known format"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.fixture
def launched():
    """A trainer that has started another process: a command of the shell."""
    processes = []

    def launch(command):
        launcher = object.__new__(_SubprocessScriptLauncher)
        launcher.procs = [subprocess.Popen(["sh", "-c", command])]
        processes.extend(launcher.procs)
        return SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))

    yield launch
    for process in processes:
        process.kill()
        process.wait()


def test_an_error_of_the_first_process_ends_the_other(launched):
    trainer = launched("exec sleep 600")
    with pytest.raises(ValueError, match=r"cat\.jpg"), ending_together(trainer):
        raise ValueError("cat.jpg")
    assert trainer.strategy.launcher.procs[0].wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [("exit 2", SystemExit, "2"), ("kill -9 $$", ChildProcessError, "killed by signal 9")],
)
def test_the_first_process_ends_as_the_other_did_that_it_lost(command, error, message, launched):
    with pytest.raises(error, match=message), ending_together(launched(command)):
        raise RuntimeError("connection closed")


def test_several_processes_are_told_that_a_step_has_parameters_without_gradients():
    task = MultiTaskTask()
    task._trainer = SimpleNamespace(strategy=DDPStrategy(), datamodule=SimpleNamespace(draw="size"))
    with pytest.raises(ValueError, match=r"trainer\.strategy must be ddp_find_unused_parameters_true"):
        task.setup("fit")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process to kill in /proc")
def test_when_one_of_torchruns_processes_is_killed_the_other_tells_and_the_run_can_be_resumed(
    setups, run, command, tmp_path
):
    options = setups["detection"].options(tmp_path / "out", "--trainer.max_epochs", 100000)
    words, environment = command
    torchrun = [words[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    last = tmp_path / "out/run_1/checkpoints/last.ckpt"
    with (tmp_path / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [*torchrun, *words[1:], "fit", *options, *map(str, TWO)], env=environment, stdout=err, stderr=err
        )
        wait_for(last.is_file)
        victim = next(child for child in children(process.pid) if "LOCAL_RANK=1" in environment_of(child))
        os.kill(victim, signal.SIGKILL)
        assert process.wait(timeout=60) != 0
    assert [line for line in (tmp_path / "err.txt").read_text().splitlines() if line.startswith("mobilevision:")] == [
        "mobilevision: error: process 0 of 2 lost the connection to another one, which was killed or prints why it "
        "ended; fit --ckpt_path last goes on from the last checkpoint"
    ]
    step = torch.load(last, weights_only=True)["global_step"]
    resumed = run("fit", *options, "--ckpt_path", "last", "--trainer.max_steps", step + 2)
    assert (resumed.code, resumed.err) == (0, "")
    assert torch.load(last, weights_only=True)["global_step"] == step + 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run_1"]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment_of(pid):
    return Path(f"/proc/{pid}/environ").read_text().split("\0")
