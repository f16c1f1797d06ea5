"""What holds for the tasks of all rooms, through the public names."""

import json
import re

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mobilevision import (
    ClassificationTask,
    CocoDataModule,
    DetectionTask,
    ImageNetDataModule,
    MultiTaskDataModule,
    MultiTaskTask,
    Predictor,
    SegmentationTask,
    VocDataModule,
    get_model,
    load_model,
)
from mobilevision.classification.evaluator import ClassificationEvaluator
from mobilevision.detection.evaluator import DetectionEvaluator
from mobilevision.images import read_image
from mobilevision.segmentation.evaluator import SegmentationEvaluator
from mobilevision.training.loader import SampleKey

SIDE = 64
NAMES = ("blue", "red")
MASK_NAMES = ("background", *NAMES)
TASKS = {
    "classification": ClassificationTask,
    "detection": DetectionTask,
    "segmentation": SegmentationTask,
    "multitask": MultiTaskTask,
}
SINGLE = tuple(TASKS)[:3]
DATA = {
    "classification": (ImageNetDataModule, {}),
    "detection": (CocoDataModule, {}),
    "segmentation": (VocDataModule, {"train_split": "train", "classes": list(MASK_NAMES)}),
}
MODELS = {
    "classification": "mobilenet_v2",
    "detection": "ssdlite_mobilenet_v2",
    "segmentation": "deeplabv3_mobilenet_v2",
}
DEFAULT_SIDES = {"classification": 224, "detection": 320, "segmentation": 513}
SPLITS = {"train": 5, "val": 4, "test": 3}
FIGURES = {
    "classification": ("top1", "top5", "ece"),
    "detection": ("map", "map_50", "map_75", "mar_100"),
    "segmentation": ("miou", "miou_voc", "pixel_accuracy", "boundary_f"),
}
FIGURES["multitask"] = (
    "score",
    *(f"{task}_loss" for task in SINGLE),
    *(name for task in SINGLE for name in FIGURES[task]),
)
ANALYSES = {"classification": "confusions", "detection": "errors", "segmentation": "confusion"}


@pytest.fixture(scope="session")
def roots(tmp_path_factory, write_dataset):
    """Return the folder of a small dataset for each task."""
    return {task: write_dataset(task, tmp_path_factory.mktemp(task), **SPLITS) for task in SINGLE}


@pytest.fixture
def make_data(roots):
    """Build the data module of a task, of the datasets in ``roots`` unless folders by task are given."""

    def make(task, folders=roots, **options):
        if task == "multitask":
            return MultiTaskDataModule(**{name: make(name, folders, **options) for name in SINGLE})
        module, settled = DATA[task]
        return module(str(folders[task]), **{"batch_size": 2, "num_workers": 0} | settled | options)

    return make


def make_task(task, **options):
    small = {"width_mult": 0.1, "norm_momentum": 0.1}
    if task == "multitask":
        return MultiTaskTask(**small | {"heads": {name: {"input_size": SIDE} for name in SINGLE}} | options)
    return TASKS[task](**small | {"input_size": SIDE} | options)


def find_image(roots, task, split, index=0):
    folders = {"classification": split, "detection": f"{split}2017", "segmentation": "JPEGImages"}
    pattern = f"{split}_*" if task == "segmentation" else "**/*.png"
    return sorted((roots[task] / folders[task]).glob(pattern))[index]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_logs_every_figure_and_its_checkpoint_builds_the_task_again(task, make_data, make_trainer, tmp_path):
    trained, trainer = make_task(task, learning_rate=1e-3), make_trainer(max_epochs=1)
    trainer.fit(trained, make_data(task))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    assert logged == pytest.approx(
        {f"val/{name}": figure for name, figure in trained.report.figures.items()}, nan_ok=True
    )
    assert logged.keys() >= {f"val/{name}" for name in ("loss", *FIGURES[task])}
    assert {trained.monitor, "train/loss"} <= trainer.callback_metrics.keys()
    json.dumps(dict(trained.hparams))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = TASKS[task].load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert again.hparams == trained.hparams
    torch.testing.assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)
    for network in (again.network, load_model(tmp_path / "last.ckpt")):
        for name, head in trained.network.named_heads.items():
            found = network.named_heads[name]
            assert (found.config, found.class_names) == (head.config, head.class_names)
            assert found.class_names == (MASK_NAMES if head.task == "segmentation" else NAMES)


@pytest.mark.parametrize("task", TASKS)
def test_the_test_split_is_measured_and_nothing_is_analyzed_unless_asked_for(
    task, make_data, make_trainer, monkeypatch
):
    measured, trainer = make_task(task), make_trainer()
    with monkeypatch.context() as patch:
        for evaluator in (ClassificationEvaluator, DetectionEvaluator, SegmentationEvaluator):
            patch.setattr(evaluator, "analyze", lambda self: pytest.fail("it was analyzed"))
        trainer.test(measured, make_data(task), verbose=False)
    assert measured.report.num_images == SPLITS["test"] * len(measured.evaluators)
    assert trainer.callback_metrics.keys() >= {f"test/{name}" for name in ("loss", *FIGURES[task])}
    measured.details = True
    trainer.validate(measured, make_data(task), verbose=False)
    assert measured.report.num_images == SPLITS["val"] * len(measured.evaluators)
    details = measured.report.details
    for name in measured.evaluators:
        assert ANALYSES[name] in (details[name] if task == "multitask" else details)
    json.dumps(details)


@pytest.mark.parametrize("task", TASKS)
def test_without_a_test_split_an_error_names_its_place_and_what_to_do(
    task, make_data, make_trainer, write_dataset, tmp_path
):
    folders = {name: write_dataset(name, tmp_path / name, val=1) for name in SINGLE}
    places = {
        "classification": "test/CLASS/IMAGE",
        "detection": "instances_test",
        "segmentation": "Segmentation/test.txt",
    }
    place = places.get(task, places["classification"])
    expected = f"no test split: expected .*{place}.*; mobilevision validate measures the validation"
    with pytest.raises(FileNotFoundError, match=expected):
        make_trainer().test(make_task(task), make_data(task, folders))


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("classification", {"eval_crop": "central", "crop_share": 0.5}),
        ("classification", {}),
        ("detection", {}),
        ("segmentation", {}),
    ],
)
def test_head_data_and_prediction_see_the_same_pixels(task, options, roots, make_data, make_trainer):
    measured, data, seen = make_task(task, **options), make_data(task, batch_size=4), []
    make_trainer().validate(measured, data, verbose=False)
    measured.network.normalization.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    make_trainer().validate(measured, data, verbose=False)
    for index in range(SPLITS["val"]):
        path = find_image(roots, task, "val", index)
        Predictor(measured.network)(path)
        pixels = measured.network.head.preprocess(read_image(path))
        assert torch.equal(seen[-1][0], pixels)
        assert torch.equal(seen[0][index], pixels)
    if options:
        assert not torch.equal(pixels, make_task(task).network.head.preprocess(read_image(path)))


@pytest.mark.parametrize("task", SINGLE)
def test_a_dataset_has_evaluation_samples_by_number_and_training_samples_by_key(task, roots, make_data, make_trainer):
    trained, data = make_task(task), make_data(task)
    data.setup("fit")
    # Without a network the size is that of the paper.
    assert data.train_set[0].image.shape[1:] == (DEFAULT_SIDES[task],) * 2
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(trained, data)
    for number in range(len(data.train_set)):
        sample = data.train_set[number]
        assert sample.position == number
        assert torch.equal(sample.image, data.train_set[number].image)
        assert torch.equal(sample.image, trained.network.head.preprocess(read_image(data.train_set.path(number))))
    other = make_data(task, input_size=SIDE, seed=1)
    other.setup("fit")
    drawn = [(data, SampleKey(0, 1)), (data, SampleKey(0, 1)), (data, SampleKey(1, 1)), (other, SampleKey(0, 1))]
    first, again, *others = (each.train_set[key].image for each, key in drawn)
    assert torch.equal(first, again)
    assert not any(torch.equal(first, each) for each in others)
    with pytest.raises(IndexError):
        data.train_set[len(data.train_set)]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_computes_what_its_network_does_and_predicts_what_its_heads_answer(task, make_trainer):
    asked = make_task(task).eval()
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(asked(images), asked.network(images))
        outputs = asked.network.compute(images)
    (found,) = make_trainer().predict(asked, DataLoader(images, batch_size=2))
    sizes = torch.full((2, 2), SIDE)
    for name, head in asked.network.named_heads.items():
        expected = head.postprocess(outputs[name], sizes, stretched_to=SIDE)
        torch.testing.assert_close(found[name] if task == "multitask" else found, expected)


@pytest.mark.parametrize("task", SINGLE)
def test_a_network_that_was_changed_is_trained(task, make_data, make_trainer):
    network = get_model(MODELS[task], num_classes=3 if task == "segmentation" else 2, width_mult=0.1, input_size=SIDE)
    block = network.backbone.stages["stage4"][1]
    block.depthwise = nn.Sequential(block.depthwise, extra := nn.Conv2d(48, 48, 1))
    before = extra.weight.clone()
    trained = TASKS[task](network)
    make_trainer(max_epochs=1, limit_val_batches=1).fit(trained, make_data(task))
    assert trained.network is network
    assert not torch.equal(extra.weight, before)
    assert network.head.class_names[-2:] == NAMES
    with pytest.raises(ValueError, match="network must be given without weights and without options"):
        TASKS[task](network, width_mult=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_classes_or_a_size_that_contradict_the_data_are_refused(task, make_data, make_trainer):
    name = "classification" if task == "multitask" else task
    count = 3 if name == "segmentation" else 2
    wrong = {"heads": {each: {"num_classes": 9} for each in SINGLE}} if task == "multitask" else {"num_classes": 9}
    with pytest.raises(ValueError, match=rf"num_classes of {name} is 9, its data has {count} .* or set it to {count}"):
        make_trainer().validate(make_task(task, **wrong), make_data(task))
    with pytest.raises(ValueError, match=rf"input_size of {name} is {SIDE} for the network and 96 for the data"):
        make_trainer().validate(make_task(task), make_data(task, input_size=96))


@pytest.mark.parametrize("task", SINGLE)
def test_a_loss_that_is_not_finite_stops_with_the_names_of_its_images(task, roots, make_data, make_trainer):
    broken = make_task(task, num_classes=3 if task == "segmentation" else 2)
    for parameter in broken.network.head.parameters():
        nn.init.constant_(parameter, torch.nan)
    with pytest.raises(ValueError, match=r"train/loss must be finite, got nan in batch 0 of epoch 0, images ") as stop:
        make_trainer(max_epochs=1).fit(broken, make_data(task, batch_size=1))
    path = re.search("images (.*)", str(stop.value)).group(1)
    assert path in {str(find_image(roots, task, "train", index)) for index in range(SPLITS["train"])}


RECIPE = {"optimizer": "adamw", "learning_rate": 1e-2, "weight_decay": 0.0, "norm_momentum": 0.3}
LEARNED = {
    "classification": (60, {"dropout": 0.0, "label_smoothing": 0.0}, ("top1", 0.8)),
    # A network that has learned nothing but the background has a mean IoU of 0.29.
    "segmentation": (60, {"dropout": 0.0, "head_norm_momentum": 0.3, "output_stride": 8}, ("miou", 0.5)),
    "detection": (50, {"head_norm_momentum": 0.3, "width_mult": 0.35}, ("map_50", 0.4)),
}
"""Epochs, options, and a figure with the least that any seed comes to."""
TRAIN_AS_VAL = {
    "classification": {"val_dir": "train", "min_crop_area": 0.8},
    "detection": {
        "val_images": "train2017",
        "val_annotations": "annotations/instances_train2017.json",
        "crop": False,
    },
    "segmentation": {"val_split": "train"},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*to train on and to measure on")
@pytest.mark.parametrize("task", LEARNED)
def test_it_learns_what_it_is_shown(task, make_data, make_trainer, write_dataset, tmp_path):
    epochs, options, (figure, least) = LEARNED[task]
    data = make_data(task, {task: write_dataset(task, tmp_path, train=8)}, batch_size=8, **TRAIN_AS_VAL[task])
    trained = make_task(task, **RECIPE | options)
    make_trainer(max_epochs=epochs, check_val_every_n_epoch=epochs).fit(trained, data)
    assert trained.report.figures[figure] > least


REAL = {
    "classification": ("mobilenet_v2_1.0_224_quant.tflite", ImageNetDataModule, "imagenette-mini", {}),
    "detection": ("ssdlite_mobilenet_v2_person.pb", CocoDataModule, "raccoon", {}),
    "segmentation": ("deeplabv3_mnv2_pascal_quant.tflite", VocDataModule, "voc-real", {"train_split": "train"}),
}


def make_real(shared, task):
    file, module, root, options = REAL[task]
    return str(shared / "weights" / file), module(str(shared / "data" / root), batch_size=2, num_workers=0, **options)


def make_real_trainer():
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(max_epochs=1, accelerator="cpu", limit_train_batches=1, limit_val_batches=1, **quiet)


@pytest.mark.filterwarnings("ignore:the train masks.*have no pixel of")
@pytest.mark.parametrize("task", SINGLE)
def test_released_weights_are_trained_on_real_data(task, shared):
    file, data = make_real(shared, task)
    trained = TASKS[task](pretrained=file)
    make_real_trainer().fit(trained, data)
    assert trained.report.num_images == 2
    assert trained.network.head.class_names == data.class_names
    assert trained.network.backbone.config.padding == "tf_same"


@pytest.mark.filterwarnings("ignore:the train masks.*have no pixel of")
def test_a_joint_network_is_trained_on_real_data_from_a_released_detector(shared):
    file, boxes = make_real(shared, "detection")
    trained = MultiTaskTask(heads={"detection": {}, "segmentation": {}}, pretrained=file)
    make_real_trainer().fit(
        trained, MultiTaskDataModule(detection=boxes, segmentation=make_real(shared, "segmentation")[1])
    )
    assert {"map", "miou"} <= trained.report.figures.keys()
    assert "the head segmentation" in trained.load_reports[0].missing
