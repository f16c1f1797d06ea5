import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import multiprocessing

from mobilevision.training.evaluation import Evaluator, Report, distinct_rows, mean_loss, mean_per_class


class MeanValue(Evaluator):
    """The mean of a number per image, and the mean of two by class."""

    def __init__(self):
        super().__init__(2, columns={"values": ((), torch.float32), "pairs": ((2,), torch.int32)})

    def update(self, outputs, batch):
        self.add_rows(batch, values=outputs, pairs=torch.stack([batch, -batch], dim=1).int())

    def compute(self):
        rows = self.rows()
        means = [mean_loss(rows["values"], torch.ones(len(rows["values"]))), *rows["pairs"].double().mean(dim=0)]
        return Report({"loss": float(means[0]), "first": float(means[1])}, {}, len(rows["positions"]))


def test_rows_come_sorted_with_the_first_of_each():
    indices, values, matrix = distinct_rows(
        torch.tensor([3, 1, 3, 0]), torch.tensor([30.0, 10.0, 31.0, 0.0]), torch.arange(8).view(4, 2)
    )
    assert indices.tolist() == [0, 1, 3]
    assert values.tolist() == [0.0, 10.0, 30.0]
    assert matrix.tolist() == [[6, 7], [2, 3], [0, 1]]


@given(st.lists(st.integers(-3, 9)))
def test_every_image_has_one_row_the_first_of_its_own(numbers):
    indices, places = distinct_rows(torch.tensor(numbers, dtype=torch.int64), torch.arange(len(numbers)))
    assert indices.tolist() == sorted(set(numbers))
    assert places.tolist() == [numbers.index(number) for number in sorted(set(numbers))]


def test_the_mean_loss_is_the_sum_of_all_images_over_all_that_counted():
    assert mean_loss(torch.tensor([6.0, 1.0, 5.0]), torch.tensor([3, 0, 1])) == 3.0
    assert mean_loss(torch.zeros(1), torch.zeros(1)) == 0.0
    assert mean_loss(torch.zeros(0), torch.zeros(0)) == 0.0
    assert math.isnan(mean_loss(torch.tensor([math.nan, 1.0]), torch.ones(2)))


@given(st.lists(st.floats(0, 2**60, width=32), min_size=1), st.randoms())
def test_the_mean_loss_does_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    losses = [mean_loss(torch.tensor(each), torch.ones(len(each))) for each in (values, shuffled)]
    assert losses[0] == losses[1]


def test_the_mean_of_a_class_is_over_its_own_values():
    means = mean_per_class(torch.tensor([1, 0, 1]), torch.tensor([True, True, False]), num_classes=3)
    assert means[:2].tolist() == [1.0, 0.5]
    assert math.isnan(means[2])
    assert mean_per_class(torch.zeros(0, dtype=torch.int64), torch.zeros(0), 2).isnan().all()


VALUES = torch.rand(7, generator=torch.Generator().manual_seed(0)) * 1e3


def evaluate(evaluator, positions, batch_size):
    for batch in positions.split(batch_size):
        evaluator.update(VALUES[batch], batch)
    return evaluator.compute()


@given(st.permutations(range(7)), st.integers(1, 7))
def test_figures_depend_neither_on_the_order_nor_on_the_batches(order, batch_size):
    expected = evaluate(MeanValue(), torch.arange(7), 7)
    assert evaluate(MeanValue(), torch.tensor([*order, *order[:2]]), batch_size) == expected
    assert expected.num_images == 7


def test_rows_have_the_shape_and_type_of_their_columns_also_without_images():
    evaluator = MeanValue()
    rows = evaluator.rows()
    assert [(name, tuple(rows[name].shape), rows[name].dtype) for name in rows] == [
        ("positions", (0,), torch.int64),
        ("values", (0,), torch.float32),
        ("pairs", (0, 2), torch.int32),
    ]
    assert evaluator.compute().num_images == 0


def test_a_reset_forgets_the_images():
    evaluator = MeanValue()
    evaluate(evaluator, torch.tensor([4]), 1)
    evaluator.reset()
    assert evaluate(evaluator, torch.tensor([2]), 1).figures["loss"] == VALUES[2]


def test_classes_without_names_are_called_by_their_numbers_until_they_are_named():
    evaluator = MeanValue()
    assert evaluator.names == ("0", "1")
    evaluator.class_names = ("cat", "dog")
    assert evaluator.names == ("cat", "dog")


def test_rows_keep_no_graph_of_the_network():
    evaluator = MeanValue()
    evaluator.update(torch.ones(1, requires_grad=True) * 2, torch.tensor([0]))
    assert not evaluator.rows()["values"].requires_grad


DEALT = ([0, 2, 4, 6], [1, 3, 5, 0])
"""Seven images for two processes, in turns and filled up with a repeat, as a distributed sampler deals them."""


def evaluate_share(rank, address, queue):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for shares in (DEALT, (range(7), [])):
        queue.put(evaluate(MeanValue(), torch.tensor(shares[rank], dtype=torch.int64), 3))
    torch.distributed.destroy_process_group()


# Python 3.12 warns of every fork of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork.* may lead to deadlocks")
def test_two_processes_measure_exactly_what_one_does_even_if_one_of_them_has_no_images(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [
        context.Process(target=evaluate_share, args=(rank, f"file://{tmp_path}/meeting", queue)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    expected = evaluate(MeanValue(), torch.arange(7), 7)
    assert [queue.get() for _ in range(4)] == [expected] * 4


def test_a_report_is_what_compute_returns_without_warnings_or_copies():
    class Fixed(MeanValue):
        def compute(self):
            return report

    report = Report({"loss": torch.tensor(1.0)}, {}, 0)
    assert Fixed().compute() is report
