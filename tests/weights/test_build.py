import pytest
import torch

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.classification.head import Classifier
from mobilevision.multitask.heads import NETWORKS
from mobilevision.network import Network
from mobilevision.weights.build import build_network, resolve_heads
from mobilevision.weights.card import HeadCard, WeightsCard

SMALL = BackboneConfig(width_mult=0.1)
CARDS = {
    "classification": HeadCard("classification", {"num_classes": 3, "background": "first"}, ("none", "cat", "dog")),
    "detection": HeadCard("detection", {"num_classes": 2, "input_size": 64}),
    "segmentation": HeadCard("segmentation", {"num_classes": 4}),
}


def build(heads, backbone=SMALL):
    with torch.device("meta"):
        return build_network(WeightsCard(backbone, heads), NETWORKS)


@pytest.mark.parametrize("task", CARDS)
def test_one_head_makes_the_network_of_its_task_and_the_backbone_has_what_it_reads(task):
    network = build({"pets": CARDS[task]})

    assert type(network) is NETWORKS[task]
    assert (list(network.heads), network.backbone.config) == (["pets"], SMALL)
    assert (network.backbone.last is None) == (task == "segmentation")
    assert network.head.class_names == CARDS[task].class_names
    assert WeightsCard.of(network).heads["pets"].config.items() >= CARDS[task].config.items()


def test_several_heads_make_a_network_of_no_task():
    network = build({**CARDS, "signs": CARDS["detection"]})

    assert type(network) is Network
    assert {name: head.task for name, head in network.named_heads.items()} == {
        **{task: task for task in CARDS},
        "signs": "detection",
    }


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "heads must be at least one"),
        ({"pose": HeadCard("pose", {})}, "task must be one of classification, detection, segmentation, got 'pose'"),
        ({"road": HeadCard("segmentation", {"depth": 3})}, "option of the head road must be one of .* got 'depth'"),
        ({"road": HeadCard("segmentation", {"num_classes": 0})}, "num_classes must be 1 to 255, got 0"),
        (
            {"pets": CARDS["classification"]._replace(class_names=("cat",))},
            "class_names of the head pets must be 3, as num_classes of classification, got 1",
        ),
    ],
)
def test_a_card_that_no_network_can_be_built_from_is_refused(heads, message):
    with pytest.raises(ValueError, match=message):
        build(heads)


def test_a_task_alone_has_the_options_of_the_weights_or_the_defaults():
    cards, backbone = resolve_heads(
        ("classification", "segmentation"), {"classification": CARDS["classification"]}, NETWORKS
    )

    assert cards == {"classification": CARDS["classification"], "segmentation": HeadCard("segmentation", {})}
    assert backbone == {}


def test_what_is_given_goes_before_what_the_weights_have():
    given = {"classification": {"dropout": 0.5}, "signs": {"task": "detection", "num_classes": 9}}

    cards, _ = resolve_heads(given, CARDS, NETWORKS)

    pets = CARDS["classification"]
    assert cards["classification"] == pets._replace(config={**pets.config, "dropout": 0.5})
    # Of another name, but the only one of its task.
    assert cards["signs"] == HeadCard("detection", {"num_classes": 9, "input_size": 64})


def test_names_and_background_are_those_of_other_classes_only_where_they_are_given():
    def resolve(**options):
        return resolve_heads({"classification": options}, CARDS, NETWORKS)[0]["classification"]

    assert resolve(num_classes=3) == CARDS["classification"]
    assert resolve(num_classes=2) == HeadCard("classification", {"num_classes": 2, "background": None})
    assert resolve(num_classes=2, class_names=("owl", "bat")).class_names == ("owl", "bat")
    assert resolve(class_names=("no", "cat", "dog")).config["background"] == "first"


def test_weights_with_rows_that_nobody_uses_have_as_many_classes_as_names():
    theirs = {"detection": HeadCard("detection", {"num_classes": 90}, tuple("abc"))}

    assert resolve_heads(("detection",), theirs, NETWORKS)[0]["detection"].config["num_classes"] == 3


def test_of_several_heads_of_a_task_none_is_taken_for_one_of_another_name():
    theirs = {"signs": CARDS["detection"], "cars": CARDS["detection"]}

    assert resolve_heads(("detection",), theirs, NETWORKS)[0] == {"detection": HeadCard("detection", {})}


def test_a_preset_stands_for_options_of_head_and_backbone():
    cards, backbone = resolve_heads({"detection": {"preset": "tf300", "input_size": 96}}, {}, NETWORKS)

    assert cards["detection"].config == {"input_size": 96}
    assert backbone == {"min_channels": 16, "scale_last": True}


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ((), "heads must be one or more, such as classification, detection, segmentation, got none"),
        (("depth",), "task of the head depth must be one of .*, got 'depth'"),
        ({"signs": {"task": "detections"}}, "got 'detections': did you mean 'detection'"),
        ({"detection": {"width_mult": 0.5}}, "width_mult must be given for all heads together, got it for detection"),
        ({"detection": {"dropout": 0.5}}, "option must be one of .*, got 'dropout'"),
    ],
)
def test_heads_and_options_that_there_are_not_are_refused(heads, message):
    with pytest.raises(ValueError, match=message):
        resolve_heads(heads, {}, NETWORKS)


def test_only_the_networks_that_may_be_built_are_known():
    with pytest.raises(ValueError, match="task must be one of classification, got 'detection'"):
        build_network(WeightsCard(SMALL, {"detection": CARDS["detection"]}), {"classification": Classifier})
