"""Pictures with boxes and masks: each once, and both labels of what is seen of it."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mobilevision.multitask.types import BoxesAndMasks, passes_of
from PIL import Image

from mobilevision.demo.scenes import CLASS_NAMES
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.multitask.datamodule import MultiTaskDataModule
from mobilevision.multitask.pairing import pair_by_name
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.masks import read_mask

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")

SIDE = 64
CLASSES = ["background", *CLASS_NAMES]


class Named:
    """As much of a set as pairing looks at."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def path(self, position):
        return Path(self.paths[position])


def make_paired(layouts, voc=None, **options):
    boxed = CocoDataModule(str(layouts.coco), input_size=SIDE, crop=False, batch_size=4, num_workers=0)
    masked = VocDataModule(
        str(voc or layouts.voc), train_split="train", classes=CLASSES, input_size=SIDE + 1, batch_size=2, num_workers=0
    )
    data = MultiTaskDataModule(detection=boxed, segmentation=masked, pair_by_name=True, **options)
    data.setup("fit")
    return data


def steps_of(data, epoch=0):
    loader = data.train_dataloader()
    for each in loader.flattened:
        each.set_epoch(epoch)
    return [batch for batch, *_ in loader]


def batches(steps, name):
    return [step[name] for step in steps if step.get(name) is not None]


@pytest.fixture
def some_masks(layouts, tmp_path):
    """The layout of VOC with masks of half of the pictures, and with one that has no boxes."""
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
    with pytest.raises(ValueError, match=r"one picture of a name in a set, got a/1.jpg and b/1.jpg"):
        pair_by_name(Named("a/1.jpg", "b/1.jpg"), Named("1.png"))
    with pytest.raises(ValueError, match=r"one picture of a name in a set, got a/1.png and b/1.png"):
        pair_by_name(Named("1.jpg"), Named("a/1.png", "b/1.png"))


def test_names_of_one_set_only_may_be_there_twice():
    assert pair_by_name(Named("a/1.jpg", "b/1.jpg", "2.jpg"), Named("2.png", "c/3.png", "d/3.png")) == [(2, 0)]


def test_every_picture_comes_once_with_both_labels(layouts):
    steps = steps_of(make_paired(layouts))
    assert [set(step) for step in steps] == [{"both"}] * 3
    positions = [position for batch in batches(steps, "both") for position in batch.boxed.positions.tolist()]
    assert sorted(positions) == list(range(12))


def test_masks_lie_on_the_pictures_as_the_boxes_do(layouts):
    data = make_paired(layouts)
    truths = {
        entry.stem: read_mask(layouts.voc / "SegmentationClass" / f"{entry.stem}.png", 7)
        for entry in (data.members["detection"].train_set.path(place) for place in range(12))
    }
    seen = 0
    for batch in batches(steps_of(data), "both"):
        for position, mask, boxes, labels in zip(
            batch.boxed.positions.tolist(), batch.masks, batch.boxed.boxes, batch.boxed.labels, strict=True
        ):
            # The scenes are shown whole, mirrored or not: every class keeps its share of the pixels.
            truth = truths[data.members["detection"].train_set.path(position).stem]
            shares = [np.bincount(each.flatten(), minlength=7) / each.size for each in (mask.numpy(), truth)]
            np.testing.assert_allclose(*shares, atol=0.02)
            for box, label in zip(boxes, labels.tolist(), strict=True):
                if label >= 0:
                    left, top, right, bottom = box.round().long().tolist()
                    seen += 1
                    assert (mask[top:bottom, left:right] == label + 1).any()
    assert seen > 12


def test_what_is_in_one_set_only_is_trained_on_as_ever(layouts, some_masks):
    data = make_paired(layouts, some_masks)
    steps = steps_of(data)
    assert Counter(name for step in steps for name, batch in step.items() if batch is not None) == {
        "both": 1,
        "detection": 1,
        "segmentation": 1,
    }
    (both,), (boxed,), (masked,) = (batches(steps, name) for name in ("both", "detection", "segmentation"))
    assert set(both.boxed.positions.tolist()) <= set(range(6))
    assert set(boxed.positions.tolist()) <= set(range(6, 12))
    assert [
        path.rsplit("/", 1)[1] for path in data.members["segmentation"].name_pictures(masked.positions.tolist())
    ] == ["other.jpg"]
    assert all("train2017" in path for path in data.members["detection"].name_pictures(boxed.positions.tolist()))


def test_the_same_picture_is_seen_the_same_alone_and_paired(layouts):
    data = make_paired(layouts)
    both = batches(steps_of(data, epoch=2), "both")
    alone = CocoDataModule(str(layouts.coco), input_size=SIDE, crop=False, batch_size=4, num_workers=0)
    alone.setup("fit")
    loader = alone.train_dataloader()
    loader.sampler.set_epoch(2)
    for first, second in zip(both, loader, strict=True):
        assert torch.equal(first.boxed.images, second.images)
        assert torch.equal(first.boxed.boxes, second.boxes)


def test_shares_are_given_by_name(layouts, some_masks):
    weights = {"both": 2.0, "detection": 1.0, "segmentation": 1.0}
    steps = steps_of(make_paired(layouts, some_masks, draw="weight", weights=weights))
    assert len(steps) == 3
    with pytest.raises(ValueError, match="weights must be above 0, one each for both, got"):
        steps_of(make_paired(layouts, draw="weight", weights=weights))


def test_a_run_goes_on_in_the_middle_of_an_epoch(layouts):
    whole = steps_of(make_paired(layouts), epoch=1)
    loader = make_paired(layouts).train_dataloader()
    for each in loader.flattened:
        each.set_epoch(1)
        each.load_state_dict({"epoch": 1, "steps_done": 1})
    rest = [batch for batch, *_ in loader]
    assert [step["both"].boxed.positions.tolist() for step in rest] == [
        step["both"].boxed.positions.tolist() for step in whole[1:]
    ]


def test_a_mask_of_another_size_is_named(layouts, tmp_path):
    root = shutil.copytree(layouts.voc, tmp_path / "VOC2012")
    for path in (root / "SegmentationClass").iterdir():
        Image.new("P", (20, 20)).save(path)
    with pytest.raises(ValueError, match=r"SegmentationClass/0+\d+.png must be as large as .*train2017/.*, got 20x20"):
        steps_of(make_paired(layouts, root))


def test_there_must_be_sets_to_pair(layouts):
    boxed = CocoDataModule(str(layouts.coco))
    with pytest.raises(ValueError, match="pair_by_name needs a set with boxes and one with masks"):
        MultiTaskDataModule(detection=boxed, classification=boxed, pair_by_name=True)


def test_the_classes_of_all_masks_are_counted(layouts):
    alone = VocDataModule(str(layouts.voc), train_split="train", classes=CLASSES)
    alone.setup("fit")
    assert torch.equal(make_paired(layouts).members["segmentation"].count_classes(), alone.count_classes())


def make_task(**options):
    heads = {"detection": {"num_classes": 6, "input_size": SIDE}, "segmentation": {"num_classes": 7, "input_size": 65}}
    return MultiTaskTask(heads, width_mult=0.1, norm_momentum=0.1, optimizer="adamw", **options)


def test_both_losses_come_from_one_pass_through_the_backbone(layouts):
    (step, *_) = steps_of(make_paired(layouts))
    task = make_task(loss_weights={"segmentation": 3.0})
    task.log = lambda *_, **__: None
    task.network.eval()
    (parts,) = passes_of(step)
    alone = {
        name: task.objectives[name].loss(member, member.run_head(parts[name].images), parts[name]).total
        for name, member in task.network.members.items()
    }
    passes = []
    task.network.backbone.stem.register_forward_hook(lambda *_: passes.append(1))
    loss = task.training_step(step, 0)
    torch.testing.assert_close(loss, alone["detection"] + 3 * alone["segmentation"])
    assert len(passes) == 1


def test_a_task_with_two_batches_in_a_step_counts_once(layouts, some_masks):
    (step,) = steps_of(make_paired(layouts, some_masks, draw="together"))
    assert isinstance(step["both"], BoxesAndMasks)
    task = make_task()
    task.log = lambda *_, **__: None
    task.network.eval()
    losses = {
        name: task.training_step({**dict.fromkeys(step), name: step[name]}, 0) for name in ("detection", "segmentation")
    }
    task.log = lambda name, value, **_: logged.update({name: value})
    logged = {}
    parts = step["both"].parts
    for name, alone in (("detection", step["detection"]), ("segmentation", step["segmentation"])):
        task.training_step({**dict.fromkeys(step), "both": step["both"]}, 0)
        count, others = len(parts[name].images), len(alone.images)
        mean = (count * logged[f"train/{name}_loss"] + others * losses[name]) / (count + others)
        task.training_step(step, 0)
        torch.testing.assert_close(logged[f"train/{name}_loss"], mean)


@pytest.mark.parametrize("part", ["both", "detection", "segmentation"])
def test_a_loss_that_is_not_finite_names_the_pictures_of_its_batch(layouts, some_masks, make_trainer, part):
    task, data = make_task(), make_paired(layouts, some_masks)
    broken = "segmentation" if part == "segmentation" else "detection"
    head = task.network.heads[broken]
    bias = head.logits.bias if part == "segmentation" else head.box_predictors[0].pointwise.bias
    step = next(step for step in steps_of(data) if step[part] is not None)
    torch.nn.init.constant_(bias, torch.nan)
    task.trainer = make_trainer()
    task.trainer.datamodule = data
    positions = step[part].boxed.positions if part == "both" else step[part].positions
    names = data.members[broken].name_pictures(positions.tolist())
    with pytest.raises(ValueError, match=re.escape(f"images {', '.join(names)}")):
        task.training_step(step, 0)


def test_it_trains_and_is_measured_on_every_set(layouts, some_masks, make_trainer):
    task, data = make_task(), make_paired(layouts, some_masks)
    make_trainer(max_epochs=2).fit(task, datamodule=data)
    assert {"map", "miou", "score"} <= task.report.figures.keys()
    assert task.report.num_images == 10
