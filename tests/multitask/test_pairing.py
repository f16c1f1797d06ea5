"""Images with boxes and masks: each once, with both labels of the part that is seen."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision.demo.scenes import CLASS_NAMES
from mobilevision.multitask.datamodule import MultiTaskDataModule
from mobilevision.multitask.pairing import PairedBatch, pair_by_name, split_passes
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.masks import read_mask

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")


class Named:
    """As much of a dataset as pairing looks at."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def path(self, position):
        return Path(self.paths[position])


@pytest.fixture
def make_paired(make_part):
    def make(voc=None, **options):
        masked = make_part("segmentation", **({} if voc is None else {"root": str(voc)}))
        parts = {"detection": make_part("detection", crop=False), "segmentation": masked}
        data = MultiTaskDataModule(**parts, pair_by_name=True, **options)
        data.setup("fit")
        return data

    return make


def batches(steps, name):
    return [step[name] for step in steps if step.get(name) is not None]


def boxed(steps):
    """Return the batches of boxes of paired images."""
    return [batch.batches["detection"] for batch in batches(steps, "both")]


@pytest.fixture
def some_masks(layouts, tmp_path):
    """The layout of VOC with masks of half of the images, and with one that has no boxes."""
    root = shutil.copytree(layouts.voc, tmp_path / "VOC2012")
    names = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(root / folder / f"{names[0]}.{ending}", root / folder / f"other.{ending}")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join([*names[:6], "other"]))
    return root


def test_names_are_compared_without_folder_and_ending():
    boxed, masked = Named("a/1.jpg", "a/2.jpg", "b/4.jpg"), Named("c/3.png", "c/2.png", "1.jpeg")
    assert pair_by_name(boxed, masked) == [(0, 2), (1, 1)]


def test_without_a_common_name_there_is_nothing_to_pair():
    with pytest.raises(ValueError, match=r"files have the same name, got none, such as a.jpg and b.png$"):
        pair_by_name(Named("a.jpg"), Named("b.png"))


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match=r"one image of a name in a dataset, got a/1.jpg and b/1.jpg"):
        pair_by_name(Named("a/1.jpg", "b/1.jpg"), Named("1.png"))
    with pytest.raises(ValueError, match=r"one image of a name in a dataset, got a/1.png and b/1.png"):
        pair_by_name(Named("1.jpg"), Named("a/1.png", "b/1.png"))


def test_names_of_one_dataset_only_may_be_there_twice():
    assert pair_by_name(Named("a/1.jpg", "b/1.jpg", "2.jpg"), Named("2.png", "c/3.png", "d/3.png")) == [(2, 0)]


def test_every_image_comes_once_with_both_labels(make_paired, steps_of):
    steps = steps_of(make_paired())
    assert [set(step) for step in steps] == [{"both"}] * 3
    assert sorted(position for batch in boxed(steps) for position in batch.positions.tolist()) == list(range(12))


def test_masks_lie_on_the_images_as_the_boxes_do(layouts, make_paired, steps_of):
    data, seen = make_paired(), 0
    paths = [data.for_head("detection").train_set.path(position) for position in range(12)]
    truths = [read_mask(layouts.voc / "SegmentationClass" / f"{path.stem}.png", 7) for path in paths]
    for batch in batches(steps_of(data), "both"):
        both, masks = batch.batches["detection"], batch.batches["segmentation"].masks
        for position, mask, boxes, labels in zip(both.positions, masks, both.boxes, both.labels, strict=True):
            # The scenes are shown whole, mirrored or not: every class keeps its share of the pixels.
            shares = [np.bincount(each.flatten(), minlength=7) / each.size for each in (mask.numpy(), truths[position])]
            np.testing.assert_allclose(*shares, atol=0.02)
            for box, label in zip(boxes, labels.tolist(), strict=True):
                if label >= 0:
                    left, top, right, bottom = box.round().long().tolist()
                    seen += 1
                    assert (mask[top:bottom, left:right] == label + 1).any()
    assert seen > 12


def test_images_of_one_dataset_only_are_trained_on_alone(some_masks, make_paired, steps_of):
    data = make_paired(some_masks)
    steps = steps_of(data)
    assert Counter(name for step in steps for name, batch in step.items() if batch is not None) == {
        "both": 1,
        "detection": 1,
        "segmentation": 1,
    }
    (both,), (alone,), (masked,) = boxed(steps), batches(steps, "detection"), batches(steps, "segmentation")
    assert set(both.positions.tolist()) <= set(range(6))
    assert set(alone.positions.tolist()) <= set(range(6, 12))
    (name,) = data.for_head("segmentation").name_images(masked.positions.tolist())
    assert name.endswith("/other.jpg")
    assert all("train2017" in path for path in data.for_head("detection").name_images(alone.positions.tolist()))


def test_an_image_is_seen_the_same_alone_and_paired(make_paired, make_part, steps_of):
    alone = make_part("detection", crop=False)
    alone.setup("fit")
    loader = alone.train_dataloader()
    loader.sampler.set_epoch(2)
    for first, second in zip(boxed(steps_of(make_paired(), epoch=2)), loader, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.boxes, second.boxes)


def test_shares_are_given_by_name(some_masks, make_paired, steps_of):
    weights = {"both": 2.0, "detection": 1.0, "segmentation": 1.0}
    assert len(steps_of(make_paired(some_masks, draw="weight", weights=weights))) == 3
    with pytest.raises(ValueError, match="weights must be above 0, one each for both, got"):
        steps_of(make_paired(draw="weight", weights=weights))


def test_a_run_is_resumed_in_the_middle_of_an_epoch(make_paired, steps_of):
    whole, rest = (boxed(steps_of(make_paired(), epoch=1, start=start)) for start in (0, 1))
    assert [batch.positions.tolist() for batch in rest] == [batch.positions.tolist() for batch in whole[1:]]


def test_a_mask_of_another_size_is_named(layouts, tmp_path, make_paired, steps_of):
    root = shutil.copytree(layouts.voc, tmp_path / "VOC2012")
    for path in (root / "SegmentationClass").iterdir():
        labels = np.arange(400, dtype=np.uint8).reshape(20, 20) % (len(CLASS_NAMES) + 1)
        Image.fromarray(labels).save(path)
    with pytest.raises(ValueError, match=r"SegmentationClass/0+\d+.png must be as large as .*train2017/.*, got 20x20"):
        steps_of(make_paired(root))


def test_there_must_be_datasets_to_pair(make_part):
    boxes = make_part("detection")
    with pytest.raises(ValueError, match="pair_by_name needs one dataset with boxes and one with masks, got"):
        MultiTaskDataModule(detection=boxes, classification=boxes, pair_by_name=True)


def test_the_classes_of_all_masks_are_counted(make_paired, make_part):
    alone = make_part("segmentation")
    alone.setup("fit")
    assert torch.equal(make_paired().for_head("segmentation").count_classes(), alone.count_classes())


def make_task(**options):
    heads = {"detection": {"num_classes": 6, "input_size": 64}, "segmentation": {"num_classes": 7, "input_size": 65}}
    task = MultiTaskTask(heads=heads, width_mult=0.1, norm_momentum=0.1, optimizer="adamw", **options)
    task.configure_model()
    task.log = lambda *_, **__: None
    return task


def test_both_losses_come_from_one_pass_through_the_backbone(make_paired, steps_of):
    (step, *_) = steps_of(make_paired())
    task, passes = make_task(loss_weights={"segmentation": 3.0}).eval(), []
    (batches,) = split_passes(step)
    alone = {name: sum(task.compute_losses({name: batches[name]}, 0)[name].values()) for name in batches}
    task.network.backbone.stem.register_forward_hook(lambda *_: passes.append(1))
    torch.testing.assert_close(task.training_step(step, 0), alone["detection"] + 3 * alone["segmentation"])
    assert len(passes) == 1


def test_a_head_with_two_batches_in_a_step_counts_once(some_masks, make_paired, steps_of):
    (step,) = steps_of(make_paired(some_masks, draw="together"))
    assert isinstance(step["both"], PairedBatch)
    task, logged = make_task().eval(), {}
    none = dict.fromkeys(step)
    for name in ("detection", "segmentation"):
        alone = task.training_step({**none, name: step[name]}, 0)
        task.log = lambda name, value, **_: logged.update({name: value})
        task.training_step({**none, "both": step["both"]}, 0)
        count, others = len(step["both"].batches[name].images), len(step[name].images)
        mean = (count * logged[f"train/{name}_loss"] + others * alone) / (count + others)
        task.training_step(step, 0)
        torch.testing.assert_close(logged[f"train/{name}_loss"], mean)


@pytest.mark.parametrize("part", ["both", "detection", "segmentation"])
def test_a_loss_that_is_not_finite_names_the_images_of_its_batch(some_masks, make_paired, make_trainer, steps_of, part):
    task, data = make_task(), make_paired(some_masks)
    broken = "segmentation" if part == "segmentation" else "detection"
    for parameter in task.network.heads[broken].parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    step = next(step for step in steps_of(data) if step[part] is not None)
    task.trainer = make_trainer()
    task.trainer.datamodule = data
    positions = step[part].batches[broken].positions if part == "both" else step[part].positions
    names = data.for_head(broken).name_images(positions.tolist())
    with pytest.raises(ValueError, match=re.escape(f"images {', '.join(names)}")):
        task.training_step(step, 0)


def test_it_trains_and_every_dataset_is_evaluated(some_masks, make_paired, make_trainer):
    task = make_task()
    del task.log
    make_trainer(max_epochs=1).fit(task, make_paired(some_masks))
    assert {"map", "miou", "score"} <= task.report.figures.keys()
    assert task.report.num_images == 10
