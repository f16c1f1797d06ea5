import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.classes import COCO_ROWS, background_option, drop_background, match_classes, select_classes


def weights_of(network) -> Weights:
    return Weights(network.state_dict(), WeightsCard.of(network))


def rebuild(function, weights):
    network = function(**weights.card.options).eval()
    network.load_state_dict(weights.tensors)
    return network


def card(num_classes, class_names=(), model="mobilenet_v2", **options) -> WeightsCard:
    return WeightsCard(model, {"num_classes": num_classes, **options}, tuple(class_names))


@torch.inference_mode()
@pytest.mark.parametrize(("place", "kept"), [(None, slice(1, 3)), ("first", slice(1, 3)), ("last", slice(0, 2))])
def test_the_other_classes_close_the_gap_of_the_background(place, kept):
    network = mobilenet_v2(3, width_mult=0.35, background=place).eval()
    network.class_names = ("one", "two", "three")

    weights = drop_background(weights_of(network))

    images = torch.rand(2, 3, 64, 64)
    assert weights.card.class_names == network.class_names[kept]
    assert weights.card.options["background"] is None
    torch.testing.assert_close(rebuild(mobilenet_v2, weights)(images), network(images)[:, kept])


def test_a_classifier_of_one_class_has_none_to_spare():
    with pytest.raises(ValueError, match=r"only a classifier of two classes or more .*, got mobilenet_v2 of 1"):
        drop_background(weights_of(mobilenet_v2(1, width_mult=0.35)))


def test_a_detector_has_no_background_to_drop():
    with pytest.raises(ValueError, match="got ssdlite_mobilenet_v2 of 3"):
        drop_background(weights_of(ssdlite_mobilenet_v2(3, width_mult=0.35)))


@torch.inference_mode()
def test_a_detectors_background_stays_whatever_classes_are_kept():
    network = ssdlite_mobilenet_v2(4, width_mult=0.35, input_size=64).eval()

    smaller = rebuild(ssdlite_mobilenet_v2, select_classes(weights_of(network), [3, 1]))

    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(smaller(images).logits, network(images).logits[..., [0, 4, 2]])
    torch.testing.assert_close(smaller(images).offsets, network(images).offsets)


@torch.inference_mode()
def test_a_segmenter_keeps_the_classes_it_is_told_to():
    network = deeplabv3_mobilenet_v2(4, width_mult=0.35).eval()

    smaller = rebuild(deeplabv3_mobilenet_v2, select_classes(weights_of(network), [0, 2]))

    images = torch.rand(1, 3, 65, 65)
    torch.testing.assert_close(smaller(images), network(images)[:, [0, 2]])


@pytest.mark.parametrize("classes", [[], [3], [-1]])
def test_classes_that_there_are_not_are_refused(classes):
    with pytest.raises(ValueError, match="classes must be among 0 to 2"):
        select_classes(weights_of(mobilenet_v2(3, width_mult=0.35)), classes)


@pytest.mark.parametrize(
    ("num_classes", "names", "expected"),
    [
        (1001, (), "first"),
        (1000, (), None),
        (5, (), None),
        (2, ("Background", "cat"), "first"),
        (2, ("cat", "background"), "last"),
        (2, ("cat", "dog"), None),
        (1001, ("background",), "first"),
    ],
)
def test_a_background_is_known_by_its_name_or_by_the_count(num_classes, names, expected):
    assert background_option(num_classes, names) == {"background": expected}


@pytest.mark.parametrize(
    ("theirs", "num_classes", "names", "expected", "how"),
    [
        (card(3), 3, (), {0: 0, 1: 1, 2: 2}, ""),
        (card(2, ("cat", "dog")), 2, ("owl", "bird"), {0: 0, 1: 1}, ""),
        (card(2, ("cat", "dog")), 2, ("dog", "cat"), {0: 1, 1: 0}, "by name"),
        (card(3, background="first"), 2, (), {0: 1, 1: 2}, "without the background"),
        (card(3, background="last"), 2, (), {0: 0, 1: 1}, "without the background"),
        (card(3), 2, (), {}, "by name"),
        (card(3, ("cat", "dog", "owl")), 2, ("owl", "bird"), {0: 2}, "by name"),
        (card(2, ("cat", "dog")), 3, ("dog", "bird", "cat"), {0: 1, 2: 0}, "by name"),
        (card(90, model="ssdlite_mobilenet_v2"), 80, (), dict(enumerate(COCO_ROWS)), "without the numbers"),
        (card(90), 80, (), {}, "by name"),
    ],
)
def test_classes_are_matched(theirs, num_classes, names, expected, how):
    match = match_classes(theirs, num_classes, names)

    assert match.theirs == expected
    assert match.how.startswith(how)


def test_cocos_numbers_leave_out_ten():
    assert len(COCO_ROWS) == 80
    assert (COCO_ROWS[0], COCO_ROWS[10], COCO_ROWS[11], COCO_ROWS[79]) == (0, 10, 12, 89)
