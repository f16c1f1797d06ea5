from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.multitask.schedule import draw_schedule

LENGTHS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 20), min_size=1)


def test_together_every_step_takes_one_of_each():
    assert draw_schedule({"a": 3, "b": 1}, "together") == [("a", "b")] * 3


def test_round_robin_alternates_until_the_largest_is_through():
    assert draw_schedule({"a": 1, "b": 2}, "round_robin") == [("a",), ("b",), ("a",), ("b",)]


@given(LENGTHS, st.integers(0, 100))
def test_by_size_every_batch_comes_once(lengths, seed):
    steps = draw_schedule(lengths, "size", seed=(seed,))
    assert Counter(name for (name,) in steps) == Counter(lengths)


@given(LENGTHS, st.data())
def test_by_weight_the_shares_are_the_weights_to_within_one_step(lengths, data):
    weights = {name: data.draw(st.floats(0.1, 10)) for name in lengths}
    steps = draw_schedule(lengths, "weight", weights=weights)
    assert len(steps) == sum(lengths.values())
    for name, count in Counter(name for (name,) in steps).items():
        assert abs(count - len(steps) * weights[name] / sum(weights.values())) < 1


def test_shares_by_hand():
    steps = draw_schedule({"a": 5, "b": 5}, "weight", weights={"a": 1, "b": 4})
    assert Counter(steps) == {("a",): 2, ("b",): 8}


def test_the_seed_decides_the_order_and_nothing_else():
    first, again, other = (draw_schedule({"a": 50, "b": 50}, "size", seed=seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert first == again
    assert first != other
    assert Counter(first) == Counter(other)


@pytest.mark.parametrize(
    ("draw", "weights", "message"),
    [
        ("random", None, "draw must be one of together, round_robin, size, weight, got 'random'"),
        ("size", {"a": 1.0}, "weights must be given with draw weight and only then, got"),
        ("weight", None, "weights must be given with draw weight and only then, got None with weight"),
        ("weight", {"a": 1.0}, "weights must be above 0, one each for a, b, got"),
        ("weight", {"a": 1.0, "b": 0.0}, "weights must be above 0, one each for a, b, got"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(draw, weights, message):
    with pytest.raises(ValueError, match=message):
        draw_schedule({"a": 1, "b": 1}, draw, weights=weights)
