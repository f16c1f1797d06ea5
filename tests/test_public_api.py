"""What ``import mobilevision`` offers."""

from importlib.metadata import version

import pytest

import mobilevision
from mobilevision import (
    ClassificationTask,
    CocoDataModule,
    DetectionTask,
    ImageNetDataModule,
    MultiTaskDataModule,
    MultiTaskTask,
    Network,
    SegmentationTask,
    VocDataModule,
    get_model,
    inference_model,
    save_weights,
)


def test_every_public_name_is_there_and_has_a_docstring_of_its_own():
    assert dir(mobilevision) == sorted(mobilevision.__all__)
    assert mobilevision.__version__ == version("mobilevision")
    for name in set(mobilevision.__all__) - {"__version__"}:
        # Not the one that a class inherits or a dataclass writes.
        own = getattr(mobilevision, name).__doc__
        assert own
        assert not own.startswith(f"{name}("), name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mobilevision' has no attribute 'resnet'"):
        _ = mobilevision.resnet


# Small networks, whose classes are not those of the data.
HEADS = {
    "classification": {"num_classes": 3, "input_size": 32},
    "detection": {"num_classes": 2, "input_size": 64},
    "segmentation": {"num_classes": 5, "input_size": 65},
}
SINGLE = {
    "classification": ("mobilenet_v2", ClassificationTask, "top1"),
    "detection": ("ssdlite_mobilenet_v2", DetectionTask, "map"),
    "segmentation": ("deeplabv3_mobilenet_v2", SegmentationTask, "miou"),
}

ABSENT_CLASSES = pytest.mark.filterwarnings("ignore:the train masks.*have no pixel of")
"""This small part of VOC lacks some."""


@pytest.fixture(scope="module")
def make_data(shared):
    """Build the data module of real images for a task."""
    builders = {
        "classification": lambda: ImageNetDataModule(str(shared / "data/imagenette-mini")),
        "detection": lambda: CocoDataModule(str(shared / "data/raccoon")),
        "segmentation": lambda: VocDataModule(str(shared / "data/voc-real/VOCdevkit/VOC2012"), train_split="train"),
    }
    return lambda task: builders[task]()


@ABSENT_CLASSES
@pytest.mark.parametrize("task", SINGLE)
def test_two_lines_train_on_real_data_with_the_classes_of_the_data_and_the_size_of_the_weights(
    task, make_data, make_trainer, tmp_path
):
    name, task_class, figure = SINGLE[task]
    save_weights(get_model(name, width_mult=0.1, **HEADS[task]), tmp_path / "small.safetensors")

    module, data = task_class(pretrained=str(tmp_path / "small.safetensors")), make_data(task)
    make_trainer(max_epochs=1).fit(module, data)

    head = module.network.head
    assert head.class_names == data.class_names
    assert (head.input_size, data.input_size) == (HEADS[task]["input_size"], None)
    assert figure in module.report.figures
    assert module.report.num_images == len(data.val_dataloader().dataset)
    assert inference_model(module.network, data.val_dataloader().dataset.path(0)).to_json()


@ABSENT_CLASSES
def test_a_joint_network_trains_on_real_data_in_the_same_two_lines(make_data, make_trainer, tmp_path):
    save_weights(get_model("multitask_mobilenet_v2", heads=HEADS, width_mult=0.1), tmp_path / "small.safetensors")

    module = MultiTaskTask(pretrained=str(tmp_path / "small.safetensors"))
    data = MultiTaskDataModule(**{task: make_data(task) for task in HEADS})
    make_trainer(max_epochs=1, limit_val_batches=1).fit(module, data)

    assert isinstance(module.network, Network)
    assert {name: head.num_classes for name, head in module.network.named_heads.items()} == {
        "classification": 10,
        "detection": 1,
        "segmentation": 21,
    }
    assert {"score", "top1", "map", "miou"} <= set(module.report.figures)
