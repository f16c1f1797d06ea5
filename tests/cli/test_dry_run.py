"""``fit --dry-run``: one batch through everything, and drawings of it."""

import json

import pytest
from PIL import Image

from mobilevision.cli.fit import FitCLI


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_dry_run_leaves_drawings_of_one_batch_and_nothing_else(task, setups, run, tmp_path):
    code, out, err = run("fit", "--dry-run", *setups[task].options(tmp_path / "runs"))
    assert (code, err) == (0, "")
    assert "loss of one batch: " in out
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        "runs/dry_run/train_batch.png"
    ]
    with Image.open(tmp_path / "runs/dry_run/train_batch.png") as sheet:
        # The four images of the batch in one row.
        assert sheet.size == (4 * 328 + 8, 328 + 8)


def test_a_dry_run_takes_one_step_of_any_run_and_runs_its_callbacks(setups, run, tmp_path):
    more = ("--trainer.max_epochs", "-1", "--trainer.max_steps", "100000", "--model.warmup_steps", "1000")
    callbacks = (
        "LearningRateMonitor",
        "lightning.pytorch.callbacks.EMAWeightAveraging",
        "ModelCheckpoint",
        "TQDMProgressBar",
    )
    added = [option for name in callbacks for option in ("--trainer.callbacks+", name)]
    code, _, err = run("fit", *setups["detection"].options(tmp_path, *more, *added), "--dry-run")
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["dry_run"]


def test_what_is_wrong_with_the_data_ends_a_dry_run_with_one_line(setups, run, tmp_path):
    options = setups["detection"].options(tmp_path / "runs", "--model.num_classes", "5")
    code, _, err = run("fit", "--dry-run", *options)
    assert code == 2
    assert err.startswith(
        "mobilevision: error: num_classes of detection is 5, its data has 2 classes (blue, red, ...): "
    )
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_ends_a_dry_run_and_the_drawings_are_there(setups, run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mobilevision.detection.task.DetectionTask.training_step",
        lambda task, batch, index: task.network(batch.images).logits.sum() * float("nan"),
    )
    code, _, err = run("fit", "--dry-run", *setups["detection"].options(tmp_path))
    assert code == 2
    assert err == "mobilevision: error: the loss of the first batch must be finite, got nan\n"
    assert (tmp_path / "dry_run/train_batch.png").is_file()


def test_a_dry_run_draws_images_without_objects(setups, run, tmp_path):
    path = setups["detection"].root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    (tmp_path / "few.json").write_text(json.dumps(content | {"annotations": content["annotations"][:2]}))
    options = setups["detection"].options(tmp_path, "--data.train_annotations", tmp_path / "few.json")
    code, _, err = run("fit", "--dry-run", *options)
    assert (code, err) == (0, "")
    (tmp_path / "few.json").write_text(json.dumps(content | {"annotations": []}))
    code, _, err = run("fit", "--dry-run", *options)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "few.json has no box to train on: it has no object at all in 8 images" in err


def test_the_help_says_what_a_dry_run_is():
    assert "--dry-run" in FitCLI.description
