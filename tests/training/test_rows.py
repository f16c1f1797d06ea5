import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.training.rows import distinct_rows


def test_rows_come_sorted_with_the_first_of_each() -> None:
    indices, values, matrix = distinct_rows(
        torch.tensor([3, 1, 3, 0]), torch.tensor([30.0, 10.0, 31.0, 0.0]), torch.arange(8).view(4, 2)
    )
    assert indices.tolist() == [0, 1, 3]
    assert values.tolist() == [0.0, 10.0, 30.0]
    assert matrix.tolist() == [[6, 7], [2, 3], [0, 1]]


def test_no_rows_stay_none() -> None:
    indices, values = distinct_rows(torch.empty(0, dtype=torch.int64), torch.empty(0, 3))
    assert indices.shape == (0,)
    assert values.shape == (0, 3)


def test_one_row_stays_as_it_is() -> None:
    assert [column.tolist() for column in distinct_rows(torch.tensor([5]), torch.tensor([True]))] == [[5], [True]]


@given(st.lists(st.integers(-3, 9)))
def test_every_image_has_one_row_the_first_of_its_own(numbers: list[int]) -> None:
    indices, places = distinct_rows(torch.tensor(numbers, dtype=torch.int64), torch.arange(len(numbers)))
    assert indices.tolist() == sorted(set(numbers))
    assert places.tolist() == [numbers.index(number) for number in sorted(set(numbers))]
