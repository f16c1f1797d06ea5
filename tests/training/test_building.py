"""A task's network: what is given, else what the data says, else what the weights have, else the defaults."""

from dataclasses import fields

import pytest
import torch

from mobilevision import (
    BackboneConfig,
    ClassificationTask,
    CocoDataModule,
    DetectionTask,
    ImageNetDataModule,
    MultiTaskDataModule,
    MultiTaskTask,
    SegmentationTask,
    VocDataModule,
    get_model,
    load_model,
    save_weights,
)
from mobilevision.multitask.heads import NETWORKS
from mobilevision.training import building
from mobilevision.training.building import GivenOptions, build_for_data
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.optimization import OptimConfig

TASKS = {
    "classification": (ClassificationTask, "mobilenet_v2"),
    "detection": (DetectionTask, "ssdlite_mobilenet_v2"),
    "segmentation": (SegmentationTask, "deeplabv3_mobilenet_v2"),
}
SMALL = {"width_mult": 0.1, "depth_mult": 0.3, "norm_eps": 1e-4}


def build(task, *names, num_classes=None, input_size=64, **options):
    """Build a small network whose options are not the defaults."""
    network = get_model(TASKS[task][1], num_classes=num_classes or len(names), input_size=input_size, **SMALL | options)
    network.head.class_names = names
    return network


@pytest.fixture
def save(tmp_path):
    """Save a network and return the path."""

    def save(network, name="a.safetensors"):
        save_weights(network, tmp_path / name)
        return str(tmp_path / name)

    return save


def describe(*class_names, input_size=None):
    """Build data that names its classes."""
    data = ImageDataModule(input_size=input_size)
    data.class_names = class_names
    return data


def given(task, *, pretrained=None, backbone_weights=None, backbone=None, **options):
    return GivenOptions(pretrained, backbone_weights, backbone or {}, {task: options})


@pytest.mark.parametrize("task", TASKS)
def test_classes_and_size_are_those_of_the_data_and_the_rest_that_of_the_weights(task, save):
    weights = save(build(task, "dog", "cat", input_size=96))

    network, report, _, _ = build_for_data(given(task, pretrained=weights), NETWORKS, describe("cat", "owl"))
    assert (network.head.class_names, network.input_size) == (("cat", "owl"), 96)
    assert network.backbone.config == BackboneConfig(**SMALL, norm_momentum=network.backbone_defaults.norm_momentum)
    assert (report.adapted, report.missing) == ("1 classes of 2 by name", "1 classes of 2")

    network, *_ = build_for_data(given(task, pretrained=weights), NETWORKS, describe("cat", "owl", input_size=64))
    assert network.input_size == network.head.preprocess.input_size == 64


@pytest.mark.parametrize("task", TASKS)
def test_without_data_a_network_is_that_of_the_weights_and_without_weights_that_of_the_defaults(task, save):
    source = build(task, "cat", "dog")
    network, report, _, _ = build_for_data(given(task, pretrained=save(source)), NETWORKS, None)
    assert (network.head.config, network.head.class_names) == (source.head.config, ("cat", "dog"))
    assert not report.changed
    with torch.device("meta"):
        default = get_model(TASKS[task][1])
        network, *_ = build_for_data(given(task), {task: NETWORKS[task]}, None)
    assert (network.backbone.config, network.head.config) == (default.backbone.config, default.head.config)


@pytest.mark.parametrize("task", TASKS)
def test_a_backbone_has_its_own_form_but_for_the_momentum_and_no_head(task, save):
    source = build("classification", "cat", "dog", norm_momentum=0.5, input_size=96)
    network, _, report, weights = build_for_data(given(task, backbone_weights=save(source)), NETWORKS, describe("owl"))
    default = network.backbone_defaults.norm_momentum
    assert network.backbone.config == BackboneConfig(**SMALL, norm_momentum=default)
    assert (network.head.class_names, network.input_size) == (
        ("owl",),
        {"detection": 320, "segmentation": 513}.get(task, 224),
    )
    assert torch.equal(network.backbone.stem.conv.weight, source.backbone.stem.conv.weight)
    assert report.source == str(report.source)
    assert weights.card.heads["classification"].class_names == ("cat", "dog")


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_goes_first_unless_the_weights_were_trained_otherwise(task, save):
    weights = save(build(task, "cat", "dog"))
    options = given(task, pretrained=weights, backbone={"norm_momentum": 0.25}, input_size=96)
    network, *_ = build_for_data(options, NETWORKS, describe("cat", "dog"))
    assert (network.backbone.config.norm_momentum, network.input_size) == (0.25, 96)
    with pytest.raises(
        ValueError, match=r"a\.safetensors was trained with norm_eps 0\.0001, .* has 0\.5: set norm_eps"
    ):
        build_for_data(given(task, pretrained=weights, backbone={"norm_eps": 0.5}), NETWORKS, None)


@pytest.mark.parametrize("task", TASKS)
def test_every_field_of_the_configs_is_an_option_of_its_task(task):
    task_class, name = TASKS[task]
    with torch.device("meta"):
        network = get_model(name)
    configs = (network.backbone.config, network.head.config, OptimConfig())
    options = {field.name: getattr(config, field.name) for config in configs for field in fields(config)}
    built = task_class(**{**options, **SMALL, "num_classes": 3, "input_size": 65, "learning_rate": 0.5})
    assert built.network.backbone.config == BackboneConfig(**{**vars(network.backbone.config), **SMALL})
    assert built.network.head.config == type(network.head.config)(
        **{**vars(network.head.config), "num_classes": 3, "input_size": 65}
    )
    assert built.optim == OptimConfig(learning_rate=0.5)
    assert (
        built.hparams.items() >= {**options, **SMALL, "num_classes": 3, "input_size": 65, "learning_rate": 0.5}.items()
    )
    with pytest.raises(TypeError, match="widht_mult"):
        task_class(widht_mult=0.5)


@pytest.fixture(scope="module")
def make_data(tmp_path_factory, write_dataset):
    """Build the data module of a task on squares of two colors."""
    roots = {task: write_dataset(task, tmp_path_factory.mktemp(task), train=4, val=3) for task in TASKS}
    loading = {"batch_size": 2, "num_workers": 0}

    def make(task, **options):
        root, options = str(roots[task]), loading | options
        match task:
            case "classification":
                return ImageNetDataModule(root, **options)
            case "detection":
                return CocoDataModule(root, **options)
            case _:
                return VocDataModule(root, train_split="train", classes=["background", "blue", "red"], **options)

    return make


ORDERED = {
    "classification": ("blue", "red"),
    "detection": ("blue", "red"),
    "segmentation": ("background", "blue", "red"),
}


def class_logits(network, images):
    """Return logits with the classes on the last axis, without a detector's background."""
    outputs = network.eval()(images)
    return outputs.logits[..., 1:] if hasattr(outputs, "logits") else outputs.movedim(1, -1)


@torch.no_grad()
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ready", [True, False])
def test_rows_follow_the_names_of_the_data(task, ready, save, make_data, make_trainer):
    network = build(task, *reversed(ORDERED[task]), num_classes=len(ORDERED[task]))
    path, images = save(network), torch.rand(1, 3, 64, 64)
    expected = class_logits(network, images).flip(-1)

    module = TASKS[task][0](network) if ready else TASKS[task][0](pretrained=path)
    make_trainer().validate(module, make_data(task), verbose=False)

    assert module.network.head.class_names == ORDERED[task]
    assert module.evaluators[task].class_names == ORDERED[task]
    torch.testing.assert_close(class_logits(module.network, images), expected)


@pytest.mark.parametrize(
    "options", [{"pretrained": "a"}, {"backbone_weights": "a"}, {"width_mult": 0.5}, {"num_classes": 3}]
)
def test_a_ready_network_is_given_without_weights_and_options(options):
    with pytest.raises(ValueError, match="network must be given without weights and without options"):
        ClassificationTask(build("classification", "cat"), **options)


@pytest.mark.parametrize("names", [("blue", "green"), ("blue", "red", "green")])
def test_a_ready_network_of_other_classes_than_the_data_is_refused(names, make_data, make_trainer):
    with pytest.raises(ValueError, match=r"the data has 2 classes \(blue, red, \.\.\.\), the network has"):
        make_trainer(max_epochs=1).fit(ClassificationTask(build("classification", *names)), make_data("classification"))


@pytest.mark.parametrize("source", ["pretrained", "backbone_weights"])
def test_weights_are_read_once_in_a_run_and_not_at_all_before(source, save, make_data, make_trainer, monkeypatch):
    path = save(build("classification", "red", "green", input_size=32))
    read, paths = building.read_weights, []
    # Whoever reads weights has this name for it.
    for module in ("training.building", "weights.file", "models"):
        monkeypatch.setattr(f"mobilevision.{module}.read_weights", lambda path: paths.append(path) or read(path))
    task = ClassificationTask(**{source: path}, fit_head=True)
    assert paths == []

    make_trainer(max_epochs=2, num_sanity_val_steps=1).fit(task, make_data("classification"))
    make_trainer().validate(task, make_data("classification"), verbose=False)

    assert paths == [path]
    assert [report.source for report in task.load_reports] == [path]


def test_classes_that_were_never_trained_are_trained_and_not_evaluated(save, make_data, make_trainer):
    path, data = save(build("classification", "red", "green", input_size=32)), make_data("classification")
    with pytest.raises(ValueError, match=r"missing: 1 classes of 2.*: classes that were never trained cannot be eval"):
        make_trainer().validate(ClassificationTask(pretrained=path), data, verbose=False)
    task = ClassificationTask(pretrained=path)
    make_trainer(max_steps=1).fit(task, data)
    make_trainer().validate(task, data, verbose=False)
    assert task.report.num_images == 3


def test_a_checkpoint_is_read_without_the_files_that_its_run_started_from(save, make_data, make_trainer, tmp_path):
    task = ClassificationTask(pretrained=save(build("classification", "cat", "dog", input_size=32, mean=[0.4] * 3)))
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(task, make_data("classification"))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "a.safetensors").unlink()

    again = ClassificationTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)

    assert again.network.head.class_names == ("blue", "red")
    assert again.network.normalization.mean.tolist() == pytest.approx([0.4] * 3)
    state = task.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    assert load_model(tmp_path / "last.ckpt").head.class_names == ("blue", "red")


def test_heads_are_those_of_the_weights_or_of_the_data(save, make_data, make_trainer):
    module, data = (
        MultiTaskTask(**SMALL),
        MultiTaskDataModule(
            datasets={task: make_data(task, input_size=64) for task in ("classification", "segmentation")}
        ),
    )
    make_trainer(max_steps=1, limit_val_batches=1).fit(module, data)
    assert {name: head.class_names for name, head in module.network.named_heads.items()} == {
        task: ORDERED[task] for task in ("classification", "segmentation")
    }
    path = save(module.network)
    assert list(MultiTaskTask(pretrained=path).network.heads) == ["classification", "segmentation"]
    other = MultiTaskDataModule(datasets={task: make_data(task) for task in ("classification", "detection")})
    with pytest.raises(ValueError, match="every head needs a dataset and every dataset a head"):
        make_trainer().validate(MultiTaskTask(pretrained=path), other, verbose=False)
