from collections import Counter

import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader

from mobilevision.multitask.datamodule import MultiTaskDataModule, ScheduledLoader

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")


def positions(steps, name):
    return [position for batch in steps if batch[name] is not None for position in batch[name].positions.tolist()]


@pytest.fixture
def data(make_data):
    data = make_data()
    data.setup("fit")
    return data


def test_by_size_every_image_comes_once_and_one_dataset_at_a_time(data, steps_of):
    steps = steps_of(data)
    for batch in steps:
        assert list(batch) == ["classification", "detection", "segmentation"]
        assert sum(part is not None for part in batch.values()) == 1
    assert sorted(positions(steps, "detection")) == list(range(12))
    assert sorted(positions(steps, "segmentation")) == list(range(12))
    lengths = {name: len(module.train_dataloader()) for name, module in data.by_head.items()}
    assert Counter(name for batch in steps for name, part in batch.items() if part is not None) == lengths


def test_every_dataset_has_its_own_size_and_targets(data, steps_of):
    found = {}
    for batch in steps_of(data):
        found |= {name: part for name, part in batch.items() if part is not None}
    assert [tuple(found[name].images.shape[2:]) for name in data.by_head] == [(32, 32), (64, 64), (65, 65)]
    assert found["segmentation"].masks.shape[1:] == (65, 65)
    assert found["detection"].boxes.ndim == 3


def test_together_small_datasets_are_repeated(make_data, steps_of):
    data = make_data("detection", "segmentation", draw="together")
    data.setup("fit")
    steps = steps_of(data)
    assert len(steps) == 6
    assert all(part is not None for batch in steps for part in batch.values())
    assert Counter(positions(steps, "detection")) == dict.fromkeys(range(12), 2)


def test_a_dataset_goes_on_in_the_next_epoch_where_it_stopped_in_this(make_data, steps_of):
    data = make_data("detection", "segmentation", draw="weight", weights={"detection": 1, "segmentation": 8})
    data.setup("fit")
    taken = [positions(steps_of(data, epoch), "detection") for epoch in range(3)]
    assert [len(each) for each in taken] == [4, 4, 4]
    assert sorted(position for each in taken for position in each) == list(range(12))


def test_a_run_is_resumed_in_the_middle_of_an_epoch(data, steps_of):
    whole, rest = steps_of(data, epoch=1), steps_of(data, epoch=1, start=3)
    assert len(rest) == len(whole) - 3
    for name in data.by_head:
        assert positions(rest, name) == positions(whole[3:], name)
        for first, second in zip(rest, whole[3:], strict=True):
            assert first[name] is None or torch.equal(first[name].images, second[name].images)


def test_the_steps_are_counted(data):
    for number, _ in enumerate(data.train_dataloader(), start=1):
        assert data.state_dict() == {"epoch": 0, "steps_done": number}


def test_the_validation_datasets_come_one_after_the_other(data):
    loader = data.val_dataloader()
    assert isinstance(loader, CombinedLoader)
    places = [place for _, _, place in loader]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}


def test_heads_of_any_name_have_the_dataset_of_their_name(make_part):
    first, second = make_part("detection"), make_part("detection")
    data = MultiTaskDataModule(detection=first, datasets={"signs": second})
    assert list(data.by_head) == ["detection", "signs"]
    assert data.for_head("signs") is second
    with pytest.raises(ValueError, match="got datasets for detection, signs and a head pose"):
        data.for_head("pose")


def test_less_than_two_datasets_are_refused(make_data):
    with pytest.raises(ValueError, match="two or more heads must have data, got none"):
        MultiTaskDataModule()
    with pytest.raises(ValueError, match="must have data, got detection"):
        make_data("detection")


def test_wrong_weights_are_known_before_anything_is_read(make_data):
    with pytest.raises(ValueError, match="weights must be above 0, one each for detection, segmentation, got"):
        make_data("detection", "segmentation", draw="weight", weights={"detection": 1.0})


def test_a_dataset_without_a_step_has_none():
    assert list(ScheduledLoader("a", [], lambda epoch: [("b",)] * 3)) == [None] * 3
