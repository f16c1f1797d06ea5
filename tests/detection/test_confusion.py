import numpy as np

from mobilevision.detection.confusion import confusion_matrix


def test_found_mistaken_missed_and_made_up_by_hand(make_result, make_truth):
    truth = make_truth([[0, 0, 10, 10], [50, 0, 10, 10], [0, 50, 10, 10]], [0, 1, 1])
    boxes = [[0, 0, 10, 8], [50, 0, 10, 10], [80, 80, 10, 10], [0, 50, 10, 4]]
    matrix = confusion_matrix([make_result(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1])], [truth], num_classes=2)
    # Rows are the truth: one 0 found, one 1 taken for 0, one 1 missed (its box overlaps by 0.4), two made up.
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


def test_rows_are_the_objects_and_columns_the_detections_of_any_set(random_set):
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
