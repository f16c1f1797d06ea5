"""``fit``, ``validate`` and ``test`` on tiny sets of all three tasks, through the command line."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

from mobilevision.cli.training import explain
from mobilevision.weights.file import read_weights

TASKS = ("classification", "detection", "segmentation")


def logged_epochs(run_folder):
    with next(iter(sorted(run_folder.glob("log/*/metrics.csv"), reverse=True))).open() as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("task", TASKS)
def test_fit_leaves_checkpoints_weights_a_log_and_its_configuration(task, trained, setups):
    folder = trained(task) / "run_1"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/weights.safetensors",
        "config.yaml",
        "log/version_0/metrics.csv",
    }
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["init_args"]["root"] == str(setups[task].root)
    card = read_weights(folder / "checkpoints/weights.safetensors").card
    assert card.class_names[-2:] == ("blue", "red")
    assert card.provenance["measured"].startswith(f"val/{setups[task].figure} ")


@pytest.mark.parametrize("task", TASKS)
def test_validate_prints_the_figures_and_writes_them_with_what_made_them(task, trained, setups, run, tmp_path):
    weights = trained(task) / "run_1/checkpoints/weights.safetensors"
    arguments = ["validate", *setups[task].options(tmp_path, "--ckpt_path", weights)]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert setups[task].figure in out
    assert "blue" in out
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert set(written) == {"figures", "per_class", "num_images", "details", "weights", "command", "versions"}
    assert written["num_images"] == 5
    assert list(written["per_class"])[-2:] == ["blue", "red"]
    assert written["weights"] == {"path": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert written["command"] == ["mobilevision", *arguments]
    assert set(written["versions"]) == {"mobilevision", "torch", "torchvision", "lightning", "torchmetrics", "python"}


def test_checkpoint_weights_and_test_give_the_figures_that_training_gave(trained, setups, run, tmp_path):
    folder = trained("segmentation") / "run_1"
    measured = read_weights(folder / "checkpoints/weights.safetensors").card.provenance["measured"]
    for subcommand, options in (
        ("validate", ("--ckpt_path", folder / "checkpoints/best.ckpt")),
        ("validate", ("--model.weights", folder / "checkpoints/weights.safetensors")),
        ("test", ("--ckpt_path", folder / "checkpoints/last.ckpt")),
    ):
        output = tmp_path / "figures.json"
        assert run(subcommand, "--config", folder / "config.yaml", *options, "--output", output).code == 0
        written = json.loads(output.read_text())
        assert f"val/miou {written['figures']['miou']:.4f}" == measured
        assert written["weights"]["path"] == str(options[1])


def test_a_class_that_is_not_there_has_no_figure_and_null_in_the_file(trained, setups, run, tmp_path):
    config = yaml.safe_load(setups["classification"].config.read_text())
    names = tmp_path / "classes.txt"
    names.write_text("blue\nred\ngreen\n")
    config["data"]["init_args"]["class_list"] = str(names)
    config["model"]["init_args"]["num_classes"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    code, out, err = run("validate", "--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path)
    assert code == 0
    assert err.startswith("mobilevision: warning: neither --ckpt_path nor --model.weights is given")
    assert json.loads((tmp_path / "metrics.json").read_text())["per_class"]["green"] == {"top1": None}
    assert next(line for line in out.splitlines() if "green" in line).split()[3] == "-"


def test_resuming_goes_on_in_the_same_folder_with_the_next_epoch(setups, run, tmp_path):
    setup = setups["classification"]
    assert run("fit", *setup.options(tmp_path)).code == 0
    assert run("fit", *setup.options(tmp_path, "--ckpt_path", "last", "--trainer.max_epochs", 2)).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run_1"]
    assert logged_epochs(tmp_path / "run_1") == ["1"]


def test_a_new_run_leaves_the_earlier_one_alone(setups, run, tmp_path):
    setup = setups["classification"]
    assert run("fit", *setup.options(tmp_path)).code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run("fit", *setup.options(tmp_path)).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run_1", "run_2"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_same_seed_trains_the_same_network(trained, setups, run, tmp_path):
    assert run("fit", *setups["classification"].options(tmp_path)).code == 0
    first, second = (
        read_weights(folder / "run_1/checkpoints/weights.safetensors").tensors
        for folder in (trained("classification"), tmp_path)
    )
    assert all((first[name] == second[name]).all() for name in first)


def test_an_averaged_network_is_what_is_kept_and_measured(setups, run, tmp_path):
    config = yaml.safe_load(setups["classification"].config.read_text())
    config["trainer"]["callbacks"] = [
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    ]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ("--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path)
    assert run("fit", *options).code == 0
    weights = read_weights(tmp_path / "run_1/checkpoints/weights.safetensors")
    code, _, err = run("validate", *options, "--ckpt_path", "best")
    assert (code, err) == (0, "")
    top1 = json.loads((tmp_path / "metrics.json").read_text())["figures"]["top1"]
    assert weights.card.provenance["measured"] == f"val/top1 {top1:.4f}"


@pytest.mark.slow
def test_an_interrupted_run_says_so_keeps_its_checkpoint_and_goes_on(setups, run, command, tmp_path):
    setup = setups["classification"]
    start, environment = command
    with (tmp_path / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [*start, "fit", *setup.options(tmp_path / "out", "--trainer.max_epochs", 100000)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
        last = tmp_path / "out/run_1/checkpoints/last.ckpt"
        deadline = time.monotonic() + 120
        while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert (tmp_path / "err.txt").read_text().strip() == "mobilevision: interrupted"
    assert not [path for path in last.parent.iterdir() if path.name.startswith(".")]
    options = setup.options(tmp_path / "out", "--ckpt_path", "last", "--trainer.max_epochs", 100000)
    assert run("fit", *options, "--trainer.max_time", "00:00:00:01").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_measure_exactly_what_one_measures(task, trained, setups, start, tmp_path):
    weights = trained(task) / "run_1/checkpoints/weights.safetensors"
    options = setups[task].options(tmp_path, "--ckpt_path", weights)
    assert start("validate", *options, "--output", tmp_path / "one.json").returncode == 0
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--output", str(tmp_path / "two.json")]
    assert start("validate", *options, *two).returncode == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert one["num_images"] == two["num_images"] == 5
    assert one["figures"] == two["figures"]
    assert one["per_class"] == two["per_class"]


@pytest.mark.slow
def test_three_processes_write_the_bytes_that_one_writes(trained, setups, start, tmp_path):
    # Five images, one of them without objects, do not divide by three. Batches of one let every kernel see the same.
    root = tmp_path / "data"
    shutil.copytree(setups["detection"].root, root)
    path = root / "annotations/instances_val2017.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"annotations": data["annotations"][1:]}))
    weights = trained("detection") / "run_1/checkpoints/weights.safetensors"
    more = ["--ckpt_path", weights, "--data.root", root, "--data.batch_size", 1]
    options = setups["detection"].options(tmp_path, *more)
    assert start("validate", *options, "--output", tmp_path / "one.json").returncode == 0
    three = ["--trainer.devices", 3, "--trainer.strategy", "ddp", "--output", tmp_path / "three.json"]
    assert start("validate", *options, *three, processes=3).returncode == 0
    one, three = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "three.json"))
    assert one["num_images"] == 5
    for name in ("figures", "per_class", "num_images", "details"):
        assert json.dumps(one[name]) == json.dumps(three[name])
    assert set(one["details"]) == {"precision_recall", "confusion", "errors"}


@pytest.mark.slow
def test_two_processes_train_and_leave_one_set_of_files(setups, start, tmp_path):
    options = setups["detection"].options(tmp_path, "--trainer.devices", 2, "--trainer.strategy", "ddp")
    done = start("fit", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("weights: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run_1"]
    assert (tmp_path / "run_1/checkpoints/weights.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["blue/0.png", "red/1.png", "red/3.png"])
def test_an_error_in_either_process_ends_both_and_is_said_once(broken, trained, setups, start, tmp_path):
    data = tmp_path / "data"
    for path in setups["classification"].root.rglob("*.png"):
        copy = data / path.relative_to(setups["classification"].root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (data / "val" / broken).write_bytes(b"no picture")
    more = ["--data.root", data, "--ckpt_path", trained("classification") / "run_1/checkpoints/best.ckpt"]
    options = setups["classification"].options(tmp_path / "out", *more)
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = start("validate", *options, *two)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"mobilevision: error: {data / 'val' / broken} does not decode as a picture: not a known format"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process to kill in /proc")
def test_when_one_of_torchruns_processes_is_killed_the_other_says_so_and_the_run_can_go_on(
    setups, start, command, torchrun, tmp_path
):
    options = setups["detection"].options(tmp_path / "out", "--data.batch_size", 1, "--trainer.strategy", "ddp")
    endless = ["--trainer.devices", "2", "--trainer.max_epochs", "100000", "--trainer.limit_val_batches", "0"]
    words, environment = command
    last = tmp_path / "out/run_1/checkpoints/last.ckpt"
    with (tmp_path / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [*torchrun(2), *words[1:], "fit", *options, *endless], env=environment, stdout=err, stderr=err
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
    more = ["--ckpt_path", "last", "--trainer.max_time", "00:00:00:02"]
    assert start("fit", *options, *endless, *more, processes=2).returncode == 0
    assert torch.load(last, weights_only=True)["global_step"] > step
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


def test_a_wrong_argument_of_a_class_is_told_without_all_types_that_were_tried():
    message = """Parser key "model":
  Does not validate against any of the Union subtypes
  Errors:
    - Problem with given class_path 'house.room.Task':
        Parser key "num_classes": Expected a <class 'int'>. Got value: x
    - Expected a <class 'NoneType'>
  Given value: {}"""
    assert explain(message) == """model: Parser key "num_classes": Expected a <class 'int'>. Got value: x (Task)"""
    assert explain("something else") == "something else"
