import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from mobilevision.training.datamodule import ImageDataModule, no_test_split


# Python 3.12 warns of every fork of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork.* may lead to deadlocks")
def test_two_processes_share_the_samples_and_keep_the_sampler(make_trainer, make_task, make_data, tmp_path):
    task_class, data_class = type(make_task()), make_data
    keys: dict[str, list[int] | str] = {"train": [], "val": []}

    class Watched(task_class):
        def on_train_epoch_end(self):
            keys["kind"] = type(self.trainer.train_dataloader.sampler).__name__

        def on_fit_end(self):
            Path(tmp_path, f"{self.global_rank}.json").write_text(json.dumps(keys))

    class WatchedData(data_class):
        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            keys["train" if self.trainer.training else "val"].extend(batch.positions.tolist())
            return batch

    task = Watched(width_mult=0.1, depth_mult=0.1, scale_last=True)
    make_trainer(devices=2, strategy="ddp_fork", max_epochs=1).fit(task, WatchedData(num_train=12, num_val=5))

    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [rank["kind"] for rank in ranks] == ["EpochSampler", "EpochSampler"]
    assert [len(rank["train"]) for rank in ranks] == [6, 6]
    assert sorted(ranks[0]["train"] + ranks[1]["train"]) == list(range(12))
    # One of five comes twice, to make the shares even.
    assert sorted(ranks[0]["val"] + ranks[1]["val"]) == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "train", "val"),
    [({"num_train": 5, "num_val": 5}, [2, 2], [2, 2, 1]), ({"num_train": 3, "num_val": 3, "batch_size": 8}, [3], [3])],
)
def test_the_last_incomplete_batch_is_left_out_of_training_unless_it_is_the_only_one(make_data, options, train, val):
    data = make_data(**options)
    assert [len(batch.labels) for batch in data.train_dataloader()] == train
    assert [len(batch.labels) for batch in data.val_dataloader()] == val


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_images_do_not_depend_on_the_number_of_workers(num_workers, make_data):
    def images(num_workers):
        loader = make_data(num_workers=num_workers).train_dataloader()
        found = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            found.extend(batch.images for batch in loader)
        return found

    ours, theirs = images(0), images(num_workers)
    assert len(ours) == 12
    assert all(torch.equal(first, second) for first, second in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[6])


def test_the_seed_changes_order_and_images(make_data):
    first, second = (next(iter(make_data(seed=seed).val_dataloader())).images for seed in (0, 1))
    assert not torch.equal(first, second)
    orders = [[key.sample for key in make_data(seed=seed).train_dataloader().sampler] for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_validation_does_not_use_up_the_place_of_a_checkpoint(make_trainer, make_task, make_data, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    make_trainer(checkpoints, max_steps=3, limit_val_batches=0).fit(make_task(), make_data())
    other = make_data()
    make_trainer(checkpoints).validate(make_task(), other, ckpt_path=tmp_path / "step=2.ckpt", verbose=False)
    assert len(list(other.train_dataloader())) == 6


def test_a_dataset_is_that_of_every_head():
    data = ImageDataModule(input_size=64)
    assert data.for_head("signs") is data
    assert (data.input_size, dict(data.by_head), data.class_names) == (64, {}, ())


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_a_pixel_is_refused(size):
    with pytest.raises(ValueError, match=f"input_size must be at least 1, got {size}"):
        ImageDataModule(input_size=size)


def test_a_missing_test_split_names_its_place_and_what_measures_the_other():
    message = r"no test split: expected images/test; mobilevision validate measures the validation split"
    with pytest.raises(FileNotFoundError, match=message):
        raise no_test_split("images/test")


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = [tmp_path / name for name in ("good.png", "broken.jpg", "also good.png")]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    paths[1].write_bytes(b"no image")
    return paths


def test_broken_images_are_left_out_counted_and_named_if_that_is_asked_for(make_data, images):
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 images: .*broken\.jpg does not decode") as caught:
        kept = make_data(skip_broken=True).drop_broken(images)
    assert kept == [images[0], images[2]]
    assert len(caught) == 1
    assert make_data().drop_broken(images) == images
    assert make_data(skip_broken=True).drop_broken(kept) == kept
    assert make_data(skip_broken=True).drop_broken([]) == []
