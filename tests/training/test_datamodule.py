import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

TWO_PROCESSES = """
import json, logging, pathlib, sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", message=".*LeafSpec")
warnings.filterwarnings("ignore", message=".*fork.* may lead to deadlocks")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
import lightning as L
from conftest import NoiseSet, TinyData, TinyTask

keys = {"train": [], "val": []}

class Watched(TinyTask):
    def on_train_epoch_end(self):
        keys["kind"] = type(self.trainer.train_dataloader.sampler).__name__

    def on_fit_end(self):
        pathlib.Path(sys.argv[2], f"{self.global_rank}.json").write_text(json.dumps(keys))

class WatchedData(TinyData):
    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        keys["train" if self.trainer.training else "val"].extend(batch.positions.tolist())
        return batch

L.Trainer(
    accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=1, logger=False, enable_progress_bar=False,
    enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
).fit(Watched(), WatchedData(num_train=12, num_val=5))
"""


def test_two_processes_share_the_samples_and_keep_the_sampler(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parent), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [rank["kind"] for rank in ranks] == ["EpochSampler", "EpochSampler"]
    assert [len(rank["train"]) for rank in ranks] == [6, 6]
    assert sorted(ranks[0]["train"] + ranks[1]["train"]) == list(range(12))
    # One of five comes twice, to make the shares even.
    assert sorted(ranks[0]["val"] + ranks[1]["val"]) == [0, 0, 1, 2, 3, 4]


def test_the_last_incomplete_batch_is_left_out_of_training_only(tiny_data) -> None:
    data = tiny_data(num_train=5, num_val=5)
    assert [len(batch.labels) for batch in data.train_dataloader()] == [2, 2]
    assert [len(batch.labels) for batch in data.val_dataloader()] == [2, 2, 1]


def test_a_set_smaller_than_a_batch_is_one_batch(tiny_data) -> None:
    assert [len(batch.labels) for batch in tiny_data(num_train=3, batch_size=8).train_dataloader()] == [3]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_pictures_do_not_depend_on_the_number_of_workers(num_workers: int, tiny_data) -> None:
    def images(num_workers: int) -> list[torch.Tensor]:
        loader = tiny_data(num_workers=num_workers).train_dataloader()
        pictures = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            pictures.extend(batch.images for batch in loader)
        return pictures

    ours, theirs = images(0), images(num_workers)
    assert len(ours) == 12
    assert all(torch.equal(first, second) for first, second in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[6])


def test_the_seed_changes_order_and_pictures(tiny_data) -> None:
    first, second = (next(iter(tiny_data(seed=seed).val_dataloader())).images for seed in (0, 1))
    assert not torch.equal(first, second)
    orders = [[key.sample for key in tiny_data(seed=seed).train_dataloader().sampler] for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_a_place_is_not_taken_up_by_validation(make_trainer, tiny_task, tiny_data, tmp_path: Path) -> None:
    task, data = tiny_task(), tiny_data()
    checkpoints = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    make_trainer(checkpoints, max_steps=3, limit_val_batches=0).fit(task, data)
    other = tiny_data()
    make_trainer(checkpoints).validate(task, other, ckpt_path=tmp_path / "step=2.ckpt")
    assert len(list(other.train_dataloader())) == 6


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("good.png", "broken.jpg", "also good.png")]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    paths[1].write_bytes(b"no picture")
    return paths


def test_broken_pictures_are_left_out_counted_and_named_if_asked_for(tiny_data, pictures: list[Path]) -> None:
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 pictures: .*broken\.jpg does not decode") as caught:
        kept = tiny_data(skip_broken=True).drop_broken(pictures)
    assert kept == [pictures[0], pictures[2]]
    assert len(caught) == 1


def test_pictures_are_neither_read_nor_left_out_if_not_asked_for(tiny_data, pictures: list[Path]) -> None:
    assert tiny_data().drop_broken(pictures) == pictures


def test_sound_pictures_stay_without_a_word(tiny_data, pictures: list[Path]) -> None:
    sound = [pictures[0], pictures[2]]
    assert tiny_data(skip_broken=True).drop_broken(sound) == sound
    assert tiny_data(skip_broken=True).drop_broken([]) == []
