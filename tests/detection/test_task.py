import json
import math
import warnings

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from mobilevision.detection.loss import multibox_loss
from mobilevision.detection.metrics import FIGURES

from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.task import DetectionTask
from mobilevision.scoring import score_coco

SIDE = 64


def make_task(num_classes=2, **options):
    settled = {"width_mult": 0.35, "input_size": SIDE, "norm_momentum": 0.3, "head_norm_momentum": 0.3}
    torch.manual_seed(0)
    return DetectionTask(num_classes, **settled | options)


def make_data(coco, **options):
    settled = {"input_size": SIDE, "batch_size": 2, "num_workers": 0, "crop": False, "flip": False}
    return CocoDataModule(str(coco.write().root), **settled | options)


def make_trainer(tmp_path, **options):
    settled = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
    }
    return L.Trainer(**settled | options)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        yield


def test_hyperparameters_are_plain_values_of_the_network_and_of_training(tmp_path):
    task = make_task(optimizer="adamw", learning_rate=0.1)
    assert task.optimizer == "adamw"
    assert task.network.num_classes == 2
    assert json.loads(json.dumps(dict(task.hparams)))["learning_rate"] == 0.1


def test_the_training_loss_is_the_multibox_loss_of_the_batch(coco):
    task = make_task()
    data = make_data(coco, batch_size=3)
    data.setup("fit")
    (batch,) = data.val_dataloader()
    logged = {}
    task.log = lambda name, value, **_: logged.update({name: value})
    task.log_dict = lambda values, **_: logged.update(values)
    task.eval()
    with torch.no_grad():
        loss = task.training_step(batch, 0)
        predictions = task.network(batch.images)
        expected = multibox_loss(predictions, batch.boxes, batch.labels, task.network.anchors).total
    assert torch.equal(loss, expected)
    assert logged["train/loss"] == expected
    assert logged["train/localization"] + logged["train/classification"] == pytest.approx(expected.item())


def test_the_loss_of_half_precision_predictions_is_computed_in_full(coco):
    task = make_task()
    data = make_data(coco, batch_size=3)
    data.setup("fit")
    (batch,) = data.val_dataloader()
    task.log = task.log_dict = lambda *_, **__: None
    task.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert task.network(batch.images).logits.dtype == torch.bfloat16
        loss = task.training_step(batch, 0)
    assert loss.dtype == torch.float32
    with torch.no_grad():
        assert loss.item() == pytest.approx(task.training_step(batch, 0).item(), rel=0.02)


def test_validation_gives_loss_and_all_figures_whatever_the_size_of_the_batches(coco, tmp_path):
    task = make_task()
    found = []
    for batch_size in (1, 2, 3):
        trainer = make_trainer(tmp_path)
        trainer.validate(task, make_data(coco, batch_size=batch_size), verbose=False)
        assert set(trainer.callback_metrics) == {f"val/{name}" for name in ("loss", *FIGURES)}
        assert task.report.num_images == 3
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        assert found[-1] == pytest.approx({f"val/{name}": value for name, value in task.report.figures.items()})
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(found[2])
    assert math.isfinite(found[0]["val/loss"])


def test_the_report_is_what_pycocotools_protocol_makes_of_the_detections(coco, tmp_path):
    task = make_task()
    data = make_data(coco)
    make_trainer(tmp_path).validate(task, data, verbose=False)
    task.eval()
    detections = []
    for batch in data.val_dataloader():
        with torch.inference_mode():
            images = zip(
                batch.positions.tolist(),
                task.objective._detect(task.network, task.network(batch.images), batch),
                strict=True,
            )
        for position, (boxes, scores, labels) in images:
            corners = boxes.double()
            sides = corners[:, 2:] - corners[:, :2]
            for box, score, label in zip(torch.cat([corners[:, :2], sides], 1).tolist(), scores, labels, strict=True):
                image_id = data.val_set.images.annotations.image_ids[position]
                category_id = data.category_ids[label]
                detections.append(
                    {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score.item()}
                )
    path = tmp_path / "found.json"
    path.write_text(json.dumps(detections))
    assert len(detections) > 50
    expected = score_coco(coco.annotations, path)
    assert {name: task.report.figures[name] for name in FIGURES} == pytest.approx(expected, abs=1e-6)
    assert list(task.report.per_class) == ["boat", "kite"]


def test_a_test_run_reports_under_its_own_names(coco, tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.test(make_task(), make_data(coco), verbose=False)
    assert {"test/loss", "test/map"} <= set(trainer.callback_metrics)


def test_another_number_of_classes_is_refused(coco, tmp_path):
    with pytest.raises(ValueError, match=r"set model\.num_classes to 2"):
        make_trainer(tmp_path).validate(make_task(num_classes=3), make_data(coco), verbose=False)


def test_another_input_size_is_refused(coco, tmp_path):
    with pytest.raises(ValueError, match=r"data\.input_size must be that of the detector, 64, got 96"):
        make_trainer(tmp_path).validate(make_task(), make_data(coco, input_size=96), verbose=False)


def draw_squares(coco):
    """Four pictures of one bright square each, of a colour for each class, and one without."""
    generator = np.random.default_rng(0)
    coco.data |= {"images": [], "annotations": []}
    pictures = {}
    for index in range(5):
        name = f"{index}.png"
        picture = generator.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        coco.data["images"].append({"id": index, "file_name": name, "height": SIDE, "width": SIDE})
        if index:
            (left, top), side = generator.integers(0, 30, 2), int(generator.integers(24, 34))
            picture[top : top + side, left : left + side, 2 * (index % 2)] = 250
            annotation = {"id": index, "image_id": index, "category_id": (5, 44)[index % 2], "iscrowd": 0}
            coco.data["annotations"].append(annotation | {"bbox": [int(left), int(top), side, side], "area": side**2})
        pictures[name] = picture
    coco.write()
    for split in ("train2017", "val2017"):
        for name, picture in pictures.items():
            cv2.imwrite(str(coco.root / split / name), picture)


def test_it_learns_to_find_and_to_name_what_it_is_shown(coco, tmp_path):
    draw_squares(coco)
    task = make_task(optimizer="adamw", learning_rate=1e-2, weight_decay=0.0)
    data = CocoDataModule(str(coco.root), input_size=SIDE, batch_size=5, num_workers=0, crop=False, flip=False)
    trainer = make_trainer(tmp_path, max_epochs=30, check_val_every_n_epoch=30, num_sanity_val_steps=0)
    trainer.fit(task, data)
    assert task.report.figures["map_50"] > 0.8
    assert trainer.callback_metrics["train/loss"] < 3.0


def test_a_loss_that_is_not_finite_stops_with_the_names_of_the_batchs_images(coco, tmp_path):
    task = make_task()
    data = make_data(coco, batch_size=1)
    torch.nn.init.constant_(task.network.head.box_predictors[0].pointwise.bias, torch.nan)
    with pytest.raises(ValueError, match=r"train/loss must be finite, got nan in batch \d of epoch 0, images ") as stop:
        make_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(task, data)
    assert str(stop.value).endswith(tuple(str(path) for path in data.train_set.images.paths))
    assert str(coco.root / "train2017") in str(stop.value)


@pytest.mark.parametrize("objects", [True, False], ids=["one class", "no objects"])
def test_batches_of_one_on_maps_of_one_cell_train_without_nan(coco, tmp_path, objects):
    kept = [annotation for annotation in coco.data["annotations"] if annotation["category_id"] == 44]
    coco.data |= {"categories": coco.data["categories"][:1], "annotations": kept if objects else []}
    task = make_task(num_classes=1)
    assert task.network.head.map_sizes[-2:] == [(1, 1), (1, 1)]
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(task, make_data(coco, batch_size=1))
    assert trainer.global_step == 6
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert all(value.isfinite().all() for value in task.state_dict().values())
    assert math.isfinite(task.report.figures["loss"])
    assert task.report.figures["map"] == -1 or objects


def test_a_checkpoint_brings_the_task_back(coco, tmp_path):
    task = make_task(learning_rate=1e-3)
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, make_data(coco))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    back = DetectionTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert back.hparams == task.hparams
    torch.testing.assert_close(back.state_dict(), task.state_dict(), rtol=0, atol=0)
