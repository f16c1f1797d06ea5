import json

import pytest
import torch

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.models import get_model
from mobilevision.weights.card import HeadCard, WeightsCard

CARD = WeightsCard(
    BackboneConfig(width_mult=0.35, padding="tf_same"),
    {
        "animals": HeadCard("classification", {"num_classes": 3, "background": None}, ("cat", "Käfer", "犬")),
        "detection": HeadCard("detection", {"num_classes": 80}),
    },
    {"source": "here", "licence": "Apache-2.0"},
)


def test_a_card_is_text_by_key_and_survives_the_trip_through_it():
    metadata = CARD.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert WeightsCard.from_metadata(metadata) == CARD
    assert WeightsCard.from_metadata(WeightsCard().to_metadata()) == WeightsCard()
    assert json.loads(metadata["backbone"])["width_mult"] == 0.35


def test_heads_are_called_by_their_task_unless_they_have_another_name():
    assert CARD.tasks == "animals (classification), detection"
    assert WeightsCard().tasks == "a backbone alone"


def test_a_network_is_described_by_its_configs_and_names():
    with torch.device("meta"):
        network = get_model("deeplabv3_mobilenet_v2", num_classes=2, width_mult=0.1, head="atrous")
    network.head.class_names = ("background", "cat")

    card = WeightsCard.of(network, source="here")

    (head,) = card.heads.values()
    assert (head.task, head.class_names, card.provenance) == ("segmentation", ("background", "cat"), {"source": "here"})
    assert (card.backbone, type(network.head.config)(**head.config)) == (network.backbone.config, network.head.config)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "no description of mobilevision in version 2, got None in version None"),
        ({"format": "pt"}, "got pt in version None"),
        ({"format": "mobilevision", "version": "3"}, "got mobilevision in version 3"),
    ],
)
def test_metadata_of_another_program_or_version_are_refused(metadata, message):
    with pytest.raises(ValueError, match=message):
        WeightsCard.from_metadata(metadata)


@pytest.mark.parametrize("key", ["backbone", "heads", "provenance"])
@pytest.mark.parametrize("text", [None, "5", "{"])
def test_a_missing_or_damaged_part_is_refused_by_its_name(key, text):
    metadata = {name: value for name, value in CARD.to_metadata().items() if name != key}
    with pytest.raises(ValueError, match=key):
        WeightsCard.from_metadata(metadata | ({} if text is None else {key: text}))


@pytest.mark.parametrize("head", [3, {}, {"task": "detection"}, {"task": "detection", "config": 5, "class_names": []}])
def test_a_head_without_its_parts_is_refused(head):
    metadata = CARD.to_metadata() | {"heads": json.dumps({"detection": head})}
    with pytest.raises(ValueError, match="heads in its description must have task, config and class_names"):
        WeightsCard.from_metadata(metadata)


def test_an_unknown_option_of_the_backbone_is_refused():
    metadata = CARD.to_metadata() | {"backbone": json.dumps({"width_mlt": 0.5})}
    with pytest.raises(ValueError, match=r"option of the backbone .* got 'width_mlt': did you mean 'width_mult'"):
        WeightsCard.from_metadata(metadata)
