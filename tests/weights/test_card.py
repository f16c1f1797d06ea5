import json

import pytest

from mobilevision.weights.card import WeightsCard

CARD = WeightsCard(
    "mobilenet_v2",
    {"num_classes": 3, "width_mult": 0.35, "padding": "tf_same", "last": True, "scales": [0.5, 1.0], "limit": None},
    ("cat", "Käfer", "犬"),
    {"source": "here", "licence": "Apache-2.0"},
)


def test_a_card_survives_the_trip_through_text() -> None:
    assert WeightsCard.from_metadata(CARD.to_metadata()) == CARD


def test_a_card_is_text_by_key_as_safetensors_asks_for() -> None:
    assert all(isinstance(value, str) for value in CARD.to_metadata().values())


def test_class_names_stay_a_tuple() -> None:
    assert WeightsCard.from_metadata(CARD.to_metadata()).class_names == ("cat", "Käfer", "犬")


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}])
def test_metadata_of_another_program_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="does not carry a description of this library"):
        WeightsCard.from_metadata(metadata)


@pytest.mark.parametrize("key", ["model", "options", "class_names", "provenance"])
def test_metadata_with_a_part_missing_are_refused_by_its_name(key: str) -> None:
    metadata = CARD.to_metadata()
    del metadata[key]
    with pytest.raises(ValueError, match=key):
        WeightsCard.from_metadata(metadata)


@pytest.mark.parametrize(
    ("key", "text"), [("options", "[1]"), ("class_names", "5"), ("options", "{"), ("provenance", "1")]
)
def test_metadata_of_the_wrong_kind_are_refused_by_name(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=key):
        WeightsCard.from_metadata(CARD.to_metadata() | {key: text})


def test_the_text_is_plain_json() -> None:
    assert json.loads(CARD.to_metadata()["options"])["width_mult"] == 0.35
