import json
import math

import pytest
import torch

from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.evaluator import FIGURES
from mobilevision.detection.task import EVALUATED, DetectionTask
from mobilevision.scoring import score_coco

SMALL = {"width_mult": 0.1, "input_size": 64, "norm_momentum": 0.3, "head_norm_momentum": 0.3}


@pytest.fixture
def make_data(coco):
    def make(**options):
        loading = {"batch_size": 2, "num_workers": 0, "crop": False, "flip": False}
        return CocoDataModule(str(coco.write().root), **loading | options)

    return make


def test_the_training_loss_is_the_sum_of_its_logged_parts(make_data, make_trainer):
    task, data, trainer = DetectionTask(**SMALL), make_data(batch_size=3), make_trainer(max_epochs=1)
    trainer.fit(task, data)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged["train/localization"] > 0
    assert logged["train/loss"] == pytest.approx(logged["train/localization"] + logged["train/classification"])
    # All of the data is one batch, so that the validation's loss is the criterion's.
    (batch,) = data.val_dataloader()
    with torch.no_grad():
        parts = task.criteria["detection"](task.network.eval()(batch.images), batch)
    assert sum(parts.values()).item() == pytest.approx(task.report.figures["loss"], rel=1e-5)


def test_the_report_is_what_cocos_protocol_makes_of_the_detections(coco, make_data, make_trainer, tmp_path):
    task, data = DetectionTask(**SMALL), make_data()
    make_trainer().validate(task, data, verbose=False)
    detections, image_ids = [], sorted(image["id"] for image in coco.data["images"])
    for batch in data.val_dataloader():
        with torch.inference_mode():
            answers = task.network.head.postprocess(task.network.eval()(batch.images), batch.sizes, EVALUATED)
        for position, (boxes, scores, labels) in zip(batch.positions.tolist(), answers, strict=True):
            corners = boxes.double()
            sides = corners[:, 2:] - corners[:, :2]
            for box, score, label in zip(torch.cat([corners[:, :2], sides], 1).tolist(), scores, labels, strict=True):
                found = {"image_id": image_ids[position], "category_id": data.category_ids[label]}
                detections.append(found | {"bbox": box, "score": score.item()})
    path = tmp_path / "found.json"
    path.write_text(json.dumps(detections))
    assert len(detections) > 50
    expected = score_coco(coco.annotations, path)
    assert {name: task.report.figures[name] for name in FIGURES} == pytest.approx(expected, abs=1e-6)
    assert list(task.report.per_class) == ["boat", "kite"]


def test_a_predicted_batch_has_boxes_in_pixels_of_its_files(make_data):
    task, data = DetectionTask(**SMALL, num_classes=2), make_data(batch_size=3, input_size=64)
    data.setup("validate")
    (batch,) = data.val_dataloader()
    task.eval()
    with torch.inference_mode():
        in_files, in_squares = task.predict_step(batch), task.predict_step(batch.images)
    for found, square, (height, width) in zip(in_files, in_squares, batch.sizes.tolist(), strict=True):
        scale = torch.tensor([width, height, width, height]) / 64
        torch.testing.assert_close(found.boxes, square.boxes * scale)


def test_batches_of_one_on_maps_of_one_cell_train_without_nan(coco, make_data, make_trainer):
    # Two of the three images have no object.
    kept = [annotation for annotation in coco.data["annotations"] if annotation["category_id"] == 44]
    coco.data |= {"categories": coco.data["categories"][:1], "annotations": kept}
    task, trainer = DetectionTask(**SMALL), make_trainer(max_epochs=2)
    trainer.fit(task, make_data(batch_size=1))
    assert task.network.head.map_sizes[-2:] == [(1, 1), (1, 1)]
    assert trainer.global_step == 6
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert all(value.isfinite().all() for value in task.state_dict().values())
    assert math.isfinite(task.report.figures["loss"])


def test_a_preset_stands_for_options_that_may_be_given_beside_it():
    task = DetectionTask(preset="tf300", num_classes=2, width_mult=0.35)
    assert (task.network.input_size, task.network.backbone.config.min_channels) == (300, 16)
    assert DetectionTask(preset="tf300", num_classes=2, width_mult=0.35, input_size=96).network.input_size == 96
    with pytest.raises(ValueError, match="preset must be one of paper320, tf300, got 'ssd'"):
        DetectionTask(preset="ssd").configure_model()


def test_fewer_detections_are_evaluated_if_fewer_are_asked_for(make_data, make_trainer):
    task = DetectionTask(**SMALL, max_per_image=1, score_threshold=0.0)
    make_trainer().validate(task, make_data(), verbose=False)
    results, _ = task.evaluators["detection"].collect()
    assert [len(result.labels) for result in results] == [1, 1, 1]
