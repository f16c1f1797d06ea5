"""``fit`` on small datasets of all three tasks: what it leaves, where it starts, how it is resumed."""

import csv
import json

import pytest
import torch
import yaml
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.cli.training import explain
from mobilevision.weights.file import read_weights

TASKS = {"classification": 224, "detection": 320, "segmentation": 513}
"""The default input sizes by task."""
AVERAGE = "lightning.pytorch.callbacks.EMAWeightAveraging"


def read_log(run_folder):
    """Return the rows of a run's newest log."""
    with sorted(run_folder.glob("log/*/metrics.csv"))[-1].open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_checkpoints_weights_a_log_and_its_configuration(task, trained, setups):
    folder = trained(task)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/weights.safetensors",
        "config.yaml",
        "log/version_0/metrics.csv",
        "metrics.json",
    }
    assert {"train/loss", f"val/{setups[task].figure}"} <= read_log(folder)[0].keys()
    card = read_weights(folder / "checkpoints/weights.safetensors").card
    assert [head.class_names[-2:] for head in card.heads.values()] == [("blue", "red")]
    assert card.provenance["measured"].startswith(f"val/{setups[task].figure} ")


@pytest.mark.parametrize("task", TASKS)
def test_the_end_of_a_run_analyzes_its_errors(task, trained):
    written = json.loads((trained(task) / "metrics.json").read_text())
    assert written["best"].keys() == written["last"]["figures"].keys()
    assert written["last"]["details"].keys() & {"confusion", "confusions"}


def test_a_run_that_is_bounded_in_steps_analyzes_its_errors_too(setups, run, tmp_path):
    bounded = ("--trainer.max_epochs", -1, "--trainer.max_steps", 1, "--trainer.val_check_interval", 1)
    assert run("fit", *setups["classification"].options(tmp_path, *bounded)).code == 0
    assert "confusions" in json.loads((tmp_path / "run_1/metrics.json").read_text())["last"]["details"]


@pytest.mark.parametrize("task", TASKS)
def test_nothing_has_to_be_stated_about_classes_and_size(task, setups, weights_of, run, tmp_path):
    config = setups[task].read_config()
    config["model"]["init_args"] = {"width_mult": 0.1}
    config["trainer"] |= {"limit_train_batches": 1, "limit_val_batches": 1, "default_root_dir": str(tmp_path)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    # Without weights the size is the paper's, with weights it is theirs.
    for more, expected in (((), TASKS[task]), (("--model.pretrained", weights_of(task)), 64)):
        assert run("fit", "--config", tmp_path / "config.yaml", *more).code == 0
        number = len(list(tmp_path.glob("run_*")))
        (head,) = read_weights(tmp_path / f"run_{number}/checkpoints/best.ckpt").card.heads.values()
        assert head.config["num_classes"] == (3 if task == "segmentation" else 2)
        assert head.config["input_size"] == expected


def test_a_new_run_from_a_runs_configuration_trains_the_same_network_beside_it(trained, run, tmp_path):
    first = trained("classification")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    again = ("--config", first / "config.yaml", "--trainer.default_root_dir")
    assert run("fit", *again, first.parent).code == 0
    assert {path.name for path in first.parent.iterdir()} >= {"run_1", "run_2"}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    tensors = [
        read_weights(first.parent / name / "checkpoints/weights.safetensors").tensors for name in ("run_1", "run_2")
    ]
    assert all(torch.equal(tensors[0][name], tensor) for name, tensor in tensors[1].items())


@pytest.mark.parametrize("task", [*TASKS, "multitask"])
def test_a_run_interrupted_in_an_epoch_is_resumed_to_the_same_bits(task, setups, run_interrupted, run, tmp_path):
    batches = () if task == "multitask" else ("--data.batch_size", 2)
    options = ("--trainer.max_epochs", 2, *batches)
    whole = run("fit", *setups[task].options(tmp_path / "whole", *options))
    assert (whole.code, whole.err) == (0, "")

    again = setups[task].options(tmp_path / "resumed", *options)
    interrupted = run_interrupted("fit", *again, epoch=1, batch_index=2)
    assert (interrupted.code, interrupted.err) == (130, "mobilevision: interrupted\n")
    checkpoints = tmp_path / "resumed/run_1/checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    stopped_at = torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"]

    resumed = run("fit", *again, "--ckpt_path", "last")
    assert (resumed.code, resumed.err) == (0, "")
    assert [path.name for path in (tmp_path / "resumed").iterdir()] == ["run_1"]
    assert {row["epoch"] for row in read_log(tmp_path / "resumed/run_1")} == {"1"}
    last = [tmp_path / name / "run_1/checkpoints/last.ckpt" for name in ("whole", "resumed")]
    first, second = (torch.load(path, weights_only=True) for path in last)
    assert first["global_step"] == second["global_step"] == 2 * (stopped_at - 2)
    assert all(torch.equal(first["state_dict"][name], tensor) for name, tensor in second["state_dict"].items())
    assert first["callbacks"]["BestFigures"] == second["callbacks"]["BestFigures"]


@pytest.fixture
def foreign(tmp_path):
    """A checkpoint of torchvision's, of seven classes."""
    path = tmp_path / "foreign.pth"
    torch.save(torchvision_mobilenet_v2(num_classes=7, width_mult=0.1).state_dict(), path)
    return path


def test_weights_of_other_classes_start_a_training_and_one_line_tells_what_was_loaded(foreign, setups, run, tmp_path):
    options = setups["classification"].options(tmp_path / "runs", "--model.pretrained", foreign)
    code, out, err = run("fit", *options)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "loaded" in line]
    assert lines == [f"{foreign}: loaded 314 of 316 tensors; missing: 2 classes of 2; unexpected: 7 classes of 7"]


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_foreign_backbone_starts_a_training_with_its_own_options(task, foreign, setups, run, tmp_path):
    options = setups[task].options(tmp_path / "runs", "--model.backbone_weights", foreign)
    code, out, err = run("fit", *options, "--trainer.limit_train_batches", "1")
    assert (code, err) == (0, "")
    assert f"{foreign}: loaded" in out
    assert "tensors beside the backbone" in out
    card = read_weights(tmp_path / "runs/run_1/checkpoints/weights.safetensors").card
    assert (card.backbone.norm_eps, card.backbone.norm_momentum) == (1e-5, 0.1)


def test_an_average_of_the_weights_is_what_is_kept_and_measured(setups, run, tmp_path):
    average = (f"--trainer.callbacks+={AVERAGE}", "--trainer.callbacks.decay", 0.5)
    options = setups["classification"].options(tmp_path, *average)
    assert run("fit", *options).code == 0
    weights = read_weights(tmp_path / "run_1/checkpoints/weights.safetensors")
    last = torch.load(tmp_path / "run_1/checkpoints/last.ckpt", weights_only=True)
    linear = "heads.classification.linear.weight"
    assert not torch.equal(weights.tensors[linear], last["current_model_state"][f"network.{linear}"])
    assert last["callbacks"]["BestFigures"]["figures"]["top1"] == pytest.approx(
        float(weights.card.provenance["measured"].removeprefix("val/top1 ")), abs=1e-4
    )


def test_the_head_alone_is_fitted_and_leaves_the_backbone_as_it_was(weights_of, setups, run, tmp_path):
    head_only = {
        "model.backbone_weights": weights_of("classification"),
        "model.fit_head": "true",
        "model.backbone_rate": 0,
        "model.learning_rate": 0,
        "trainer.limit_train_batches": 1,
    }
    options = [word for name, value in head_only.items() for word in (f"--{name}", value)]
    assert run("fit", *setups["classification"].options(tmp_path, *options)).code == 0
    before = read_weights(weights_of("classification")).tensors
    after = read_weights(tmp_path / "run_1/checkpoints/weights.safetensors").tensors
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) == (not name.startswith("heads.classification.linear."))


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
