from collections import Counter

import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader

from mobilevision.multitask.datamodule import MultiTaskDataModule, TurnLoader

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")


def steps_of(data, epoch=0):
    loader = data.train_dataloader()
    for each in loader.flattened:
        each.set_epoch(epoch)
    return [batch for batch, *_ in loader]


def positions(steps, task):
    return [position for batch in steps if batch[task] is not None for position in batch[task].positions.tolist()]


@pytest.fixture
def data(make_data):
    data = make_data()
    data.setup("fit")
    return data


def test_by_size_every_picture_comes_once_and_one_set_at_a_time(data):
    steps = steps_of(data)
    for batch in steps:
        assert list(batch) == ["classification", "detection", "segmentation"]
        assert sum(part is not None for part in batch.values()) == 1
    assert sorted(positions(steps, "detection")) == list(range(12))
    assert sorted(positions(steps, "segmentation")) == list(range(12))
    lengths = {task: len(module.train_dataloader()) for task, module in data.members.items()}
    assert Counter(task for batch in steps for task, part in batch.items() if part is not None) == lengths


def test_every_set_has_its_own_size_and_targets(data):
    found = {}
    for batch in steps_of(data):
        found |= {task: part for task, part in batch.items() if part is not None}
    assert [tuple(found[task].images.shape[2:]) for task in data.members] == [(32, 32), (64, 64), (65, 65)]
    assert found["segmentation"].masks.shape[1:] == (65, 65)
    assert found["detection"].boxes.ndim == 3


def test_together_small_sets_go_round(make_data):
    data = make_data("detection", "segmentation", draw="together")
    data.setup("fit")
    steps = steps_of(data)
    assert len(steps) == 6
    assert all(part is not None for batch in steps for part in batch.values())
    assert Counter(positions(steps, "detection")) == dict.fromkeys(range(12), 2)


def test_a_set_goes_on_in_the_next_epoch_where_it_stopped_in_this(make_data):
    data = make_data("detection", "segmentation", draw="weight", weights={"detection": 1, "segmentation": 8})
    data.setup("fit")
    taken = [positions(steps_of(data, epoch), "detection") for epoch in range(3)]
    assert [len(each) for each in taken] == [4, 4, 4]
    assert sorted(position for each in taken for position in each) == list(range(12))


def test_a_run_goes_on_in_the_middle_of_an_epoch(make_data):
    data = make_data()
    data.setup("fit")
    whole = steps_of(data, epoch=1)
    loader = data.train_dataloader()
    for each in loader.flattened:
        each.set_epoch(1)
        each.load_state_dict({"epoch": 1, "steps_done": 3})
    rest = [batch for batch, *_ in loader]
    assert len(rest) == len(whole) - 3
    for task in data.members:
        assert positions(rest, task) == positions(whole[3:], task)
        for first, second in zip(rest, whole[3:], strict=True):
            assert first[task] is None or torch.equal(first[task].images, second[task].images)


def test_the_place_is_counted(data):
    loader = data.train_dataloader()
    for number, _ in enumerate(loader, start=1):
        assert data.state_dict() == {"epoch": 0, "steps_done": number}


def test_the_validation_sets_come_one_after_the_other(data):
    loader = data.val_dataloader()
    assert isinstance(loader, CombinedLoader)
    places = [place for _, _, place in loader]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}


def test_less_than_two_sets_are_no_joint_set(make_data):
    with pytest.raises(ValueError, match="two or three of classification, detection, segmentation must have data, got"):
        MultiTaskDataModule()
    with pytest.raises(ValueError, match="must have data, got detection"):
        make_data("detection")


def test_wrong_weights_are_known_before_anything_is_read(make_data):
    with pytest.raises(ValueError, match="weights must be above 0, one each for detection, segmentation, got"):
        make_data("detection", "segmentation", draw="weight", weights={"detection": 1.0})


def test_turns_of_a_task_without_any_are_all_none():
    loader = TurnLoader("a", [], lambda epoch: [("b",)] * 3)
    assert list(loader) == [None] * 3
