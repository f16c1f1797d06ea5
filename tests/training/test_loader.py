import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from mobilevision.training.sampling import EpochSampler, SampleKey
from torch import Tensor
from torch.utils.data import SequentialSampler

from mobilevision.training.loader import ResumableLoader


class Keys:
    """A set whose samples are their keys."""

    def __getitem__(self, key: SampleKey) -> SampleKey:
        return key


def make_loader(num_samples: int = 10, num_workers: int = 0, **options) -> ResumableLoader:
    sampler = EpochSampler(num_samples, shuffle=True, seed=3)
    return ResumableLoader(Keys(), batch_size=2, sampler=sampler, num_workers=num_workers, collate_fn=tuple, **options)


def test_a_loader_goes_on_with_the_next_batch_of_the_same_epoch() -> None:
    whole, first, second = make_loader(), make_loader(), make_loader()
    for loader in (whole, first, second):
        loader.sampler.set_epoch(4)
    batches = list(whole)
    begun = iter(first)
    assert [next(begun), next(begun)] == batches[:2]
    assert first.state_dict() == {"epoch": 4, "batches_done": 2}
    second.load_state_dict(first.state_dict())
    assert list(second) == batches[2:]
    assert second.state_dict() == {"epoch": 4, "batches_done": 5}


def test_a_place_in_another_epoch_is_forgotten() -> None:
    whole, loader = make_loader(), make_loader()
    loader.load_state_dict({"epoch": 4, "batches_done": 2})
    for each in (whole, loader):
        each.sampler.set_epoch(5)
    assert list(loader) == list(whole)


def test_a_place_counts_once() -> None:
    loader = make_loader()
    loader.load_state_dict({"epoch": 0, "batches_done": 3})
    assert [len(list(loader)) for _ in range(2)] == [2, 5]


def test_the_length_stays_that_of_the_whole_epoch() -> None:
    loader = make_loader()
    loader.load_state_dict({"epoch": 0, "batches_done": 3})
    assert len(loader) == 5
    next(iter(loader))
    assert len(loader) == 5


def test_an_epoch_that_was_left_early_does_not_reach_into_the_next() -> None:
    loader = make_loader(num_workers=1, persistent_workers=True)
    begun = iter(loader)
    first = next(begun)
    del begun
    loader.sampler.set_epoch(1)
    batches = list(loader)
    assert first[0].epoch == 0
    assert {key.epoch for batch in batches for key in batch} == {1}
    assert len(batches) == 5


def test_skipped_samples_are_not_read() -> None:
    read = []

    class Watched:
        def __getitem__(self, key: SampleKey) -> SampleKey:
            read.append(key)
            return key

    loader = ResumableLoader(Watched(), batch_size=2, sampler=EpochSampler(10, shuffle=True), collate_fn=tuple)
    loader.load_state_dict({"epoch": 0, "batches_done": 4})
    list(loader)
    assert len(read) == 2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_order_does_not_depend_on_the_number_of_workers(num_workers: int) -> None:
    assert list(make_loader(num_workers=num_workers)) == list(make_loader())


def test_another_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must stay an EpochSampler, got SequentialSampler.*limit_train_batches"):
        ResumableLoader(Keys(), sampler=SequentialSampler(range(3)))


def test_overfit_batches_says_what_to_set_instead(make_trainer, tiny_task, tiny_data) -> None:
    trainer = make_trainer(max_epochs=1, overfit_batches=1)
    with (
        pytest.warns(UserWarning, match="requested to overfit"),
        pytest.raises(ValueError, match="limit_train_batches"),
    ):
        trainer.fit(tiny_task(), tiny_data())


class PowerCutError(Exception):
    pass


class CutPower(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            raise PowerCutError


@pytest.fixture
def fit(make_trainer, tiny_task, tiny_data, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Train on 6 batches an epoch and give the weights at the end."""

    def fit(*, callbacks=(), num_workers: int = 0, ckpt_path: Path | None = None, ema: bool = False, **options):
        torch.manual_seed(0)
        task = tiny_task(learning_rate=0.1, schedule="cosine")
        averaging = [EMAWeightAveraging(decay=0.5)] if ema else []
        trainer = make_trainer(*averaging, *callbacks, **{"max_epochs": 2} | options)
        trainer.fit(task, tiny_data(num_workers=num_workers), ckpt_path=ckpt_path)
        return task.state_dict()

    return fit


EVERY_STEP = {"every_n_train_steps": 1}
EPOCH_END = {"save_on_train_epoch_end": True}
VALIDATION_END = {"save_on_train_epoch_end": False}


@pytest.mark.parametrize(
    ("saved", "step", "options"),
    [
        pytest.param(EVERY_STEP, 2, {}, id="in the first epoch"),
        pytest.param(EVERY_STEP, 8, {}, id="in the second epoch"),
        pytest.param(EVERY_STEP, 6, {}, id="after the last batch of an epoch"),
        pytest.param(EPOCH_END, 6, {}, id="at the end of an epoch"),
        pytest.param(VALIDATION_END, 6, {}, id="at the end of validation"),
        pytest.param(VALIDATION_END, 3, {"val_check_interval": 0.5}, id="at a validation within the epoch"),
        pytest.param(EVERY_STEP, 3, {"limit_train_batches": 4}, id="in a limited epoch"),
        pytest.param(EVERY_STEP, 4, {"limit_train_batches": 4}, id="after a limited epoch"),
        pytest.param(EVERY_STEP, 4, {"max_epochs": -1, "max_steps": 9}, id="in a run counted in steps"),
        pytest.param(EVERY_STEP, 2, {"accumulate_grad_batches": 2}, id="with accumulated gradients"),
        pytest.param(EVERY_STEP, 4, {"num_workers": 2}, id="with workers"),
        pytest.param(EVERY_STEP, 4, {"ema": True}, id="with averaged weights"),
        pytest.param(VALIDATION_END, 6, {"ema": True}, id="with averaged weights at the end of validation"),
    ],
)
def test_a_run_that_was_cut_off_ends_bit_for_bit_where_it_would_have(fit, saved, step, options, tmp_path: Path) -> None:
    whole = fit(**options)

    def keep() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / "checkpoints", "{step}", save_top_k=-1, **saved)

    with pytest.raises(PowerCutError):
        fit(callbacks=[keep(), CutPower(step)], **options)
    place = tmp_path / "place.ckpt"
    (tmp_path / "checkpoints" / f"step={step}.ckpt").rename(place)
    shutil.rmtree(tmp_path / "checkpoints")
    resumed = fit(callbacks=[keep()], ckpt_path=place, **options)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
