import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.utils.data import SequentialSampler

from mobilevision.training.loader import EpochSampler, ResumableLoader, SampleKey, sample_seed, stack_images


def samples(sampler: EpochSampler) -> list[int]:
    return [key.sample for key in sampler]


def test_without_shuffling_samples_come_in_order_in_every_epoch() -> None:
    sampler = EpochSampler(3, shuffle=False)
    for epoch in (0, 7):
        sampler.set_epoch(epoch)
        assert list(sampler) == [SampleKey(epoch, 0), SampleKey(epoch, 1), SampleKey(epoch, 2)]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            first, second = (EpochSampler(50, shuffle=True, seed=seed) for _ in range(2))
            for sampler in (first, second):
                sampler.set_epoch(epoch)
            assert samples(first) == samples(second)
            orders[seed, epoch] = tuple(samples(first))
    # Seed and epoch are added up before they seed the order.
    assert len(set(orders.values())) == 3


@pytest.mark.parametrize("shuffle", [True, False])
@given(num_samples=st.integers(0, 40), world_size=st.integers(1, 5), epoch=st.integers(0, 9))
def test_the_shares_are_even_and_cover_everything(shuffle: bool, num_samples: int, world_size: int, epoch: int) -> None:
    shares = []
    for rank in range(world_size):
        sampler = EpochSampler(num_samples, shuffle=shuffle, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        shares.append(samples(sampler))
        assert len(sampler) == len(shares[-1]) == -(-num_samples // world_size)
    together = [sample for share in shares for sample in share]
    assert set(together) == set(range(num_samples))
    assert len(together) - num_samples < world_size


@given(skip=st.integers(0, 12))
def test_skipping_leaves_the_first_keys_out_once(skip: int) -> None:
    sampler = EpochSampler(10, shuffle=True)
    whole = list(sampler)
    sampler.skip = skip
    assert list(sampler) == whole[skip:]
    assert list(sampler) == whole


def test_the_seed_of_a_sample_is_a_function_of_run_epoch_and_sample() -> None:
    places = [(run, epoch, sample) for run in (0, 1, 2**40) for epoch in range(20) for sample in range(50)]
    seeds = [sample_seed(run, SampleKey(epoch, sample)) for run, epoch, sample in places]
    assert seeds == [sample_seed(run, SampleKey(epoch, sample)) for run, epoch, sample in places]
    assert all(0 <= seed < 2**32 for seed in seeds)
    # 3000 draws out of 2^32 meet with a probability of 0.1%; these do not.
    assert len(set(seeds)) == len(seeds)


def test_images_are_stacked_as_they_are_in_memory() -> None:
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).reshape(2, 4, 5, 3)
    images = stack_images([image.permute(2, 0, 1) for image in pixels])
    assert torch.equal(images, pixels.permute(0, 3, 1, 2))
    assert images.is_contiguous(memory_format=torch.channels_last)


class Keys:
    """A dataset whose samples are their keys."""

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


def test_overfit_batches_says_what_to_set_instead(make_trainer, make_task, make_data) -> None:
    trainer = make_trainer(max_epochs=1, overfit_batches=1)
    with (
        pytest.warns(UserWarning, match="requested to overfit"),
        pytest.raises(ValueError, match="limit_train_batches"),
    ):
        trainer.fit(make_task(), make_data())


class Batches(Callback):
    """The number of training batches."""

    count = 0

    def on_train_batch_start(self, *args) -> None:
        self.count += 1


@pytest.fixture
def fit(make_trainer, make_task, make_data, tmp_path: Path) -> Callable[..., tuple[dict[str, Tensor], int]]:
    """Train on 6 batches an epoch, with checkpoints of every kind; return the state at the end and the batches."""

    def fit(*, num_workers: int = 0, ckpt_path: Path | None = None, ema: bool = False, **options):
        torch.manual_seed(0)
        task = make_task(learning_rate=0.1, schedule="cosine")
        folder = tmp_path / "checkpoints"
        # Lightning warns of files in a folder of checkpoints.
        shutil.rmtree(folder, ignore_errors=True)
        batches = Batches()
        callbacks = [
            batches,
            ModelCheckpoint(folder / "steps", "{step}", save_top_k=-1, every_n_train_steps=1),
            ModelCheckpoint(folder / "epochs", "{step}", save_top_k=-1, save_on_train_epoch_end=True),
            # Lightning tells apart what is monitored.
            ModelCheckpoint(
                folder / "validations", "{step}", monitor="val/loss", save_top_k=-1, save_on_train_epoch_end=False
            ),
        ]
        averaging = [EMAWeightAveraging(decay=0.5)] if ema else []
        trainer = make_trainer(*averaging, *callbacks, **{"max_epochs": 2} | options)
        trainer.fit(task, make_data(num_workers=num_workers), ckpt_path=ckpt_path)
        return task.state_dict(), batches.count

    return fit


@pytest.mark.parametrize(
    ("places", "options"),
    [
        # In an epoch, after its last batch, at its end, after its validation, and in the next.
        (("steps/step=2", "steps/step=6", "epochs/step=6", "validations/step=6", "steps/step=8"), {}),
        (("validations/step=3",), {"val_check_interval": 0.5}),
        (("steps/step=3", "steps/step=4"), {"limit_train_batches": 4}),
        (("steps/step=4",), {"max_epochs": -1, "max_steps": 9}),
        (("steps/step=2",), {"accumulate_grad_batches": 2}),
        (("steps/step=4",), {"num_workers": 2}),
        (("steps/step=4", "validations/step=6"), {"ema": True}),
    ],
)
def test_a_run_that_is_resumed_ends_bit_for_bit_as_the_whole_run(fit, places, options, tmp_path: Path) -> None:
    whole, num_batches = fit(**options)
    (tmp_path / "checkpoints").rename(tmp_path / "places")
    for place in places:
        resumed, num_resumed = fit(ckpt_path=tmp_path / "places" / f"{place}.ckpt", **options)
        done = int(place[-1]) * options.get("accumulate_grad_batches", 1)
        assert num_resumed == num_batches - done
        assert whole.keys() == resumed.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
