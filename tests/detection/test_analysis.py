import json
import math

import numpy as np
import pytest

from mobilevision.detection.analysis import ErrorKind, analyze_detections, confusion_matrix, split_errors
from mobilevision.detection.evaluator import coco_mean_ap
from mobilevision.detection.overlaps import box_overlaps
from mobilevision.detection.types import Result, Truth

NAMES = ("boat", "kite", "tree")
KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")


def analyze(results, truths, num_classes):
    measured = coco_mean_ap(results, truths, num_classes)
    details = analyze_detections(results, truths, measured.precision, NAMES[:num_classes])
    return json.loads(json.dumps(details, allow_nan=False)), measured.figures


def test_the_analysis_is_plain_json_values_that_agree_with_the_figures(random_set):
    results, truths = random_set(30)
    details, figures = analyze(results, truths, num_classes=3)
    for name, figure in (("iou_50", "map_50"), ("iou_50_95", "map")):
        curves = details["precision_recall"][name]
        assert list(curves) == list(NAMES)
        assert {len(curve) for curve in curves.values()} == {101}
        assert np.mean(list(curves.values())) == pytest.approx(figures[figure])
    assert details["confusion"]["classes"] == [*NAMES, "background"]
    assert details["confusion"]["counts"] == confusion_matrix(results, truths, 3).tolist()
    assert details["errors"]["map_50"] == pytest.approx(figures["map_50"])
    assert {"foreground_threshold": 0.5, "background_threshold": 0.1}.items() <= details["errors"].items()


def test_a_class_without_objects_has_no_curve_and_an_empty_dataset_no_figure(make_result, make_truth):
    box = [[0, 0, 10, 10]]
    details, _ = analyze([make_result(box, [0.9], [0])], [make_truth(box, [0])], num_classes=2)
    assert details["precision_recall"]["iou_50"] == {"boat": [1.0] * 101, "kite": None}
    assert analyze([], [], num_classes=1)[0]["errors"]["map_50"] is None


def test_found_mistaken_missed_and_made_up_by_hand(make_result, make_truth):
    truth = make_truth([[0, 0, 10, 10], [50, 0, 10, 10], [0, 50, 10, 10]], [0, 1, 1])
    boxes = [[0, 0, 10, 8], [50, 0, 10, 10], [80, 80, 10, 10], [0, 50, 10, 4]]
    matrix = confusion_matrix([make_result(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1])], [truth], num_classes=2)
    # Rows are the truth: one 0 found, one 1 detected as 0, one 1 missed (its box overlaps by 0.4), two made up.
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 2, 0]]


def test_the_score_threshold_is_reached_by_what_equals_it(make_result, make_truth):
    truth = make_truth([[0, 0, 10, 10], [50, 0, 10, 10]], [0, 0])
    result = make_result([[0, 0, 10, 10], [50, 0, 10, 10]], [0.5, 0.49], [0, 0])
    assert confusion_matrix([result], [truth], num_classes=1).tolist() == [[1, 1], [0, 0]]
    assert confusion_matrix([result], [truth], 1, score_threshold=0.4).tolist() == [[2, 0], [0, 0]]


def test_the_closest_pair_goes_first_and_of_equal_ones_the_better_detection(make_result, make_truth):
    truth = make_truth([[0, 0, 10, 10]], [0])
    closest_wins = make_result([[0, 0, 10, 8], [0, 0, 10, 10]], [0.9, 0.6], [0, 1])
    assert confusion_matrix([closest_wins], [truth], num_classes=2).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    best_wins = make_result([[0, 0, 10, 8], [0, 0, 10, 8]], [0.6, 0.9], [0, 1])
    assert confusion_matrix([best_wins], [truth], num_classes=2).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_crowd_is_neither_missed_nor_made_up(make_result, make_truth):
    truth = make_truth([[0, 0, 40, 40]], [0], [True])
    result = make_result([[0, 0, 10, 10], [20, 20, 10, 10]], [0.9, 0.8], [0, 1])
    assert confusion_matrix([result], [truth], num_classes=2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_rows_are_the_objects_and_columns_the_detections_of_any_dataset(random_set):
    results, truths = random_set(40, num_scores=5)
    matrix = confusion_matrix(results, truths, num_classes=3, score_threshold=0.0)
    objects = np.concatenate([truth.labels[~truth.crowd] for truth in truths])
    assert matrix[:3].sum(axis=1).tolist() == np.bincount(objects, minlength=3).tolist()
    assert matrix[:, :3].sum() <= sum(len(result.labels) for result in results)
    assert matrix[3, 3] == 0


def test_neither_images_nor_detections_nor_objects_are_needed(make_result, make_truth):
    nothing, objects = make_truth([], []), make_truth([[0, 0, 9, 9]], [1])
    assert confusion_matrix([], [], num_classes=1).tolist() == [[0, 0], [0, 0]]
    none = make_result([], [], [])
    assert confusion_matrix([none] * 2, [nothing, objects], num_classes=2).tolist() == [[0] * 3, [0, 0, 1], [0] * 3]


def counts(split):
    return {name: kind.num_errors for name, kind in split.kinds.items() if kind.num_errors}


def map_50(results, truths):
    return coco_mean_ap(results, truths, num_classes=3).figures["map_50"]


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ([0, 0, 10, 4], 0, "localization"),
        ([0, 0, 10, 8], 1, "classification"),
        ([0, 0, 10, 4], 1, "both"),
        ([0, 0, 10, 0.5], 0, "background"),
        ([60, 60, 10, 10], 0, "background"),
    ],
)
def test_the_one_detection_of_an_image_by_hand(make_result, make_truth, box, label, kind):
    split = split_errors([make_result([box], [0.9], [label])], [make_truth([[0, 0, 10, 10]], [0])], num_classes=2)
    points_to_it = kind in ("classification", "localization")
    assert counts(split) == {kind: 1} | ({} if points_to_it else {"missed": 1})
    assert split.map_50 == 0.0
    # Put right, the detection is all there is to find; without the object no class is left to average over.
    assert split.kinds[kind] == ErrorKind(1, 1.0 if points_to_it else 0.0)


def test_the_second_detection_of_an_object_is_a_duplicate_and_costs_nothing_behind_the_last_hit(
    make_result, make_truth
):
    result = make_result([[0, 0, 10, 9], [0, 0, 10, 10]], [0.9, 0.8], [0, 0])
    split = split_errors([result], [make_truth([[0, 0, 10, 10]], [0])], num_classes=1)
    assert split.map_50 == 1.0
    assert counts(split) == {"duplicate": 1}
    assert split.kinds["duplicate"].cost == 0.0


def test_what_a_kind_costs_by_hand(make_result, make_truth):
    # The first is on the background, the second right, the third near the second object: precision 1/2 up to recall
    # 1/2, which are 51 of the 101 recalls.
    truth = make_truth([[0, 0, 10, 10], [50, 0, 10, 10]], [0, 0])
    boxes = [[80, 80, 9, 9], [0, 0, 10, 10], [50, 0, 10, 4], [50, 0, 10, 3]]
    split = split_errors([make_result(boxes, [0.9, 0.8, 0.7, 0.6], [0] * 4)], [truth], num_classes=1)
    assert split.map_50 == pytest.approx(51 / 101 / 2)
    assert counts(split) == {"localization": 2, "background": 1}
    assert split.kinds["background"].cost == pytest.approx(51 / 101 / 2)
    # With one of the two put right, recall goes on to 1 with a precision of 2/3, before which 1/2 counts as 2/3.
    assert split.kinds["localization"].cost == pytest.approx(2 / 3 - 51 / 101 / 2)
    assert split.kinds["missed"] == ErrorKind(0, 0.0)


def test_a_crowd_is_neither_missed_nor_are_detections_on_it_errors(make_result, make_truth):
    truth = make_truth([[0, 0, 40, 40], [80, 80, 10, 10]], [0, 0], [True, False])
    split = split_errors([make_result([[5, 5, 9, 9], [80, 80, 10, 10]], [0.9, 0.8], [0, 0])], [truth], num_classes=1)
    assert counts(split) == {}
    assert split.map_50 == 1.0


def test_without_objects_there_is_nothing_to_average_over(make_result, make_truth):
    for results, truths in ([], []), ([make_result([[0, 0, 9, 9]], [0.5], [0])], [make_truth([], [])]):
        split = split_errors(results, truths, num_classes=1)
        assert math.isnan(split.map_50)
        assert counts(split) == ({"background": 1} if results else {})
        assert tuple(split.kinds) == KINDS


def tell_slowly(result, truth):
    """The kind of each detection, the object that it is about, and which objects were found."""
    objects, true_labels = truth.boxes_xywh[~truth.crowd], truth.labels[~truth.crowd]
    overlaps = box_overlaps(result.boxes_xywh, objects)
    on_crowd = box_overlaps(result.boxes_xywh, truth.boxes_xywh[truth.crowd], crowds=True) >= 0.5
    found, told = set(), {}
    order = np.argsort(-result.scores, kind="stable")
    for row in order:
        free = [o for o in range(len(objects)) if true_labels[o] == result.labels[row] and o not in found]
        best = max(free, key=lambda o: overlaps[row, o], default=None)
        if best is not None and overlaps[row, best] >= 0.5:
            told[row] = ("right", best)
            found.add(best)
    for row in set(order) - set(told):
        own = {o: overlaps[row, o] for o in range(len(objects)) if true_labels[o] == result.labels[row]}
        other = {o: overlaps[row, o] for o in range(len(objects)) if true_labels[o] != result.labels[row]}
        own_best, other_best = (max(each, key=each.get, default=None) for each in (own, other))
        own_overlap, other_overlap = own.get(own_best, 0), other.get(other_best, 0)
        if (on_crowd[row] & (truth.labels[truth.crowd] == result.labels[row])).any():
            told[row] = ("ignored", None)
        elif 0.1 <= own_overlap < 0.5:
            told[row] = ("localization", own_best)
        elif other_overlap >= 0.5:
            told[row] = ("classification", other_best)
        elif own_overlap >= 0.5:
            told[row] = ("duplicate", None)
        else:
            told[row] = ("background" if max(own_overlap, other_overlap) < 0.1 else "both", None)
    return told, found


def put_right_slowly(result, truth, told, found, kind):
    """The image as it were without errors of a kind, for COCO's own protocol."""
    boxes, labels, keep = result.boxes_xywh.copy(), result.labels.copy(), np.ones(len(result.scores), dtype=np.bool_)
    solid = np.flatnonzero(~truth.crowd)
    done = set(found)
    for row in np.argsort(-result.scores, kind="stable"):
        name, about = told[row]
        if name != kind:
            continue
        if about is None or about in done:
            keep[row] = False
        else:
            boxes[row], labels[row] = truth.boxes_xywh[solid[about]], truth.labels[solid[about]]
            done.add(about)
    return Result(boxes[keep], result.scores[keep], labels[keep])


@pytest.mark.parametrize("seed", range(3))
def test_kinds_and_their_costs_are_those_of_the_obvious_way_through_cocos_protocol(random_set, seed):
    results, truths = random_set(40, seed=seed)
    told = [tell_slowly(*image) for image in zip(results, truths, strict=True)]
    split = split_errors(results, truths, num_classes=3)
    base = map_50(results, truths)
    assert split.map_50 == pytest.approx(base, abs=1e-9)
    for kind in KINDS[:-1]:
        expected = sum(name == kind for image, _ in told for name, _ in image.values())
        assert split.kinds[kind].num_errors == expected > 0
        mended = [
            put_right_slowly(result, truth, *each, kind)
            for result, truth, each in zip(results, truths, told, strict=True)
        ]
        assert split.kinds[kind].cost == pytest.approx(max(map_50(mended, truths) - base, 0), abs=1e-9)
    kept = []
    for (image, found), truth in zip(told, truths, strict=True):
        pointed_to = {about for name, about in image.values() if name in KINDS[:2]}
        solid = np.flatnonzero(~truth.crowd)
        missed = [solid[o] for o in range(len(solid)) if o not in found | pointed_to]
        kept.append(Truth(*(np.delete(column, missed, axis=0) for column in truth)))
    num_missed = sum(len(truth.labels) - len(left.labels) for truth, left in zip(truths, kept, strict=True))
    assert split.kinds["missed"].num_errors == num_missed > 0
    assert split.kinds["missed"].cost == pytest.approx(map_50(results, kept) - base, abs=1e-9)
