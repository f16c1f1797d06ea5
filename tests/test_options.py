"""Options are sorted into dataclasses, and every message names what is known."""

from dataclasses import dataclass

import pytest

from mobilevision.options import check_names, split_options, trained, trained_options


@dataclass(frozen=True, kw_only=True)
class Wheel:
    size: int = 3
    spokes: int = trained(8)


@dataclass(frozen=True, kw_only=True)
class Frame:
    color: str = "red"
    size: int = 50


def test_options_go_to_every_dataclass_that_has_them_and_no_others():
    assert split_options({"spokes": 9, "size": 4}, Wheel, Frame) == [{"size": 4, "spokes": 9}, {"size": 4}]
    assert split_options({}, Wheel, Frame) == [{}, {}]
    with pytest.raises(ValueError, match=r"option must be one of size, spokes, color, size, got 'colour'.* 'color'"):
        split_options({"colour": "blue"}, Wheel, Frame)


def test_options_that_weights_were_trained_with_are_marked():
    assert trained_options(Wheel(spokes=9)) == {"spokes": 9}
    assert trained_options(Frame()) == {}


def test_a_name_like_no_known_one_gets_no_hint():
    with pytest.raises(ValueError, match=r"head must be one of cat, dog, got 'xyz'$"):
        check_names("head", ["dog", "xyz"], ["cat", "dog"])
