import json

import numpy as np
import pytest

from mobilevision.detection.details import describe
from mobilevision.detection.metrics import measure_detections

NAMES = ("boat", "kite", "tree")


def test_details_are_plain_json_values_that_agree_with_the_figures(random_set):
    results, truths = random_set(30)
    measured = measure_detections(results, truths, num_classes=3)
    details = json.loads(json.dumps(describe(measured, NAMES), allow_nan=False))
    for name, figure in (("iou_50", "map_50"), ("iou_50_95", "map")):
        curves = details["precision_recall"][name]
        assert list(curves) == list(NAMES)
        assert {len(curve) for curve in curves.values()} == {101}
        assert np.mean(list(curves.values())) == pytest.approx(measured.coco.figures[figure])
    assert details["confusion"]["classes"] == [*NAMES, "background"]
    assert details["confusion"]["counts"] == measured.confusion.tolist()
    assert details["errors"]["map_50"] == pytest.approx(measured.coco.figures["map_50"])
    assert {"foreground_threshold": 0.5, "background_threshold": 0.1}.items() <= details["errors"].items()


def test_a_class_without_objects_has_no_curve_and_an_empty_set_no_figure(make_result, make_truth):
    box = [[0, 0, 10, 10]]
    measured = measure_detections([make_result(box, [0.9], [0])], [make_truth(box, [0])], num_classes=2)
    curves = describe(measured, NAMES[:2])["precision_recall"]["iou_50"]
    assert curves == {"boat": [1.0] * 101, "kite": None}
    empty = json.dumps(describe(measure_detections([], [], num_classes=1), NAMES[:1]), allow_nan=False)
    assert json.loads(empty)["errors"]["map_50"] is None
