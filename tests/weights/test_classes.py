import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.detection.head import COCO_ROWS
from mobilevision.models import get_model
from mobilevision.weights.card import HeadCard, Weights, WeightsCard
from mobilevision.weights.classes import match_classes, remap_head_by_class_name, select_classes


def card(num_classes, class_names=(), **options) -> HeadCard:
    return HeadCard("classification", {"num_classes": num_classes, **options}, tuple(class_names))


def head(num_classes, class_names=(), name="mobilenet_v2"):
    with torch.device("meta"):
        built = get_model(name, num_classes=num_classes, width_mult=0.1).head
    built.class_names = tuple(class_names)
    return built


@pytest.mark.parametrize(
    ("theirs", "num_classes", "names", "expected", "how"),
    [
        (card(3), 3, (), {0: 0, 1: 1, 2: 2}, ""),
        (card(2, ("cat", "dog")), 2, ("owl", "bird"), {0: 0, 1: 1}, ""),
        (card(2, ("cat", "dog")), 2, ("dog", "cat"), {0: 1, 1: 0}, "by name"),
        (card(3, background="first"), 2, (), {0: 1, 1: 2}, "without the background"),
        (card(3, background="last"), 2, (), {0: 0, 1: 1}, "without the background"),
        (card(3, ("none", "cat", "dog"), background="first"), 2, ("dog", "cat"), {0: 2, 1: 1}, "by name"),
        (card(3), 2, (), {}, "by name"),
        (card(3, ("cat", "dog", "owl")), 2, ("owl", "bird"), {0: 2}, "by name"),
        (card(2, ("cat", "dog")), 3, ("dog", "bird", "cat"), {0: 1, 2: 0}, "by name"),
        # Of two classes of one name the first goes with the first, as ImageNet's cranes do.
        (card(3, ("crane", "cat", "crane")), 2, ("crane", "crane"), {0: 0, 1: 2}, "by name"),
        (card(90), 80, (), {}, "by name"),
    ],
)
def test_classes_are_matched(theirs, num_classes, names, expected, how):
    assert match_classes(head(num_classes, names), theirs) == (expected, how)


def test_a_detector_of_80_classes_takes_them_from_cocos_90_numbers():
    match = match_classes(head(80, name="ssdlite_mobilenet_v2"), card(90))
    assert match == (dict(enumerate(COCO_ROWS)), "without the numbers that COCO does not use")
    assert len(COCO_ROWS) == 80
    assert (COCO_ROWS[0], COCO_ROWS[10], COCO_ROWS[11], COCO_ROWS[79]) == (0, 10, 12, 89)


@pytest.mark.parametrize("count", [None, 0, "3"])
def test_weights_that_do_not_state_their_classes_are_refused(count):
    with pytest.raises(ValueError, match=f"num_classes of the weights must be at least 1, got {count}"):
        match_classes(head(3), card(count))


@pytest.mark.parametrize("classes", [[], [3], [-1]])
def test_classes_that_there_are_not_cannot_be_selected(classes):
    network = mobilenet_v2(3, width_mult=0.1)
    weights = Weights(network.state_dict(), WeightsCard.of(network))
    with pytest.raises(ValueError, match=r"classes must be among 0 to 2, and some of them, got \["):
        select_classes(weights, "classification", network.head, classes)


NETWORKS = ("mobilenet_v2", "ssdlite_mobilenet_v2", "deeplabv3_mobilenet_v2")


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_rows_of_a_head_follow_the_names_of_its_classes(name):
    network = get_model(name, num_classes=3, width_mult=0.1, input_size=64).eval()
    images = torch.rand(1, 3, 64, 64)

    def logits():
        outputs = network(images)
        # A detector's background stays in front.
        return (outputs.logits[..., 1:] if name.startswith("ssdlite") else outputs.movedim(1, -1)).clone()

    network.head.class_names = ("cat", "dog", "owl")
    before = logits()
    remap_head_by_class_name(network.head, ("owl", "cat", "dog"))

    assert network.head.class_names == ("owl", "cat", "dog")
    torch.testing.assert_close(logits(), before[..., [2, 0, 1]])


def test_a_head_without_names_is_only_named():
    network = ssdlite_mobilenet_v2(2, width_mult=0.1)
    before = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    remap_head_by_class_name(network.head, ("cat", "dog"))
    assert network.head.class_names == ("cat", "dog")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.head.state_dict().items())


@pytest.mark.parametrize(
    ("own", "names"), [((), ("cat",)), (("cat", "dog"), ("cat", "owl")), (("cat", "dog"), ("cat", "dog", "owl"))]
)
def test_other_classes_than_those_of_the_head_are_refused(own, names):
    message = rf"the data has {len(names)} classes \({', '.join(names)}, \.\.\.\), the network has 2"
    with pytest.raises(ValueError, match=message):
        remap_head_by_class_name(head(2, own), names)
