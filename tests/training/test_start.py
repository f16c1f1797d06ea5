"""A task takes from weights what nobody has told it, and its checkpoint needs them no more."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from mobilevision.training.start import set_options, take_options

from mobilevision.classification import mobilenet_v2
from mobilevision.classification.task import ClassificationTask
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.detection.task import DetectionTask
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import save_weights

STRANGE = {"width_mult": 0.3, "round_to": 1, "padding": "tf_same", "norm_eps": 1e-4}
DEEP = {"width_mult": 0.35, "depth_mult": 1.2, "fixed_ends": True, "norm_eps": 1e-5}

CASES = [
    (ClassificationTask, mobilenet_v2, STRANGE | {"scale_last": True, "output_stride": 16, "background": "last"}),
    (ClassificationTask, mobilenet_v2, DEEP),
    (
        DetectionTask,
        ssdlite_mobilenet_v2,
        STRANGE | {"preset": "tf300", "input_size": 96, "score_function": "softmax", "head_norm_eps": 1e-2},
    ),
    (SegmentationTask, deeplabv3_mobilenet_v2, DEEP | {"head": "atrous", "output_stride": 8, "head_norm_eps": 1e-4}),
]


def weights_of(**options) -> Weights:
    return Weights({}, WeightsCard("mobilenet_v2", options))


def test_what_is_given_stays_and_what_is_not_is_taken_from_the_weights_first_and_then_from_the_backbones():
    given = {
        "num_classes": 2,
        "padding": "symmetric",
        "norm_eps": None,
        "width_mult": None,
        "dropout": 0.5,
        "head": None,
    }

    take_options(
        given,
        weights_of(num_classes=2, padding="tf_same", norm_eps=1e-5, dropout=0.1, eval_crop="central"),
        weights_of(num_classes=9, norm_eps=1e-4, width_mult=0.5, head="atrous"),
    )

    assert given == {
        "num_classes": 2,
        "padding": "symmetric",
        "norm_eps": 1e-5,
        "width_mult": 0.5,
        "dropout": 0.5,
        "head": None,
    }


@pytest.mark.parametrize(("num_classes", "place"), [(3, "first"), (2, None)])
def test_a_background_is_taken_with_all_classes_only(num_classes, place):
    given = {"num_classes": num_classes, "background": None}

    take_options(given, weights_of(num_classes=3, background="first"), None)

    assert given["background"] == place


def test_options_that_are_not_set_are_left_to_the_network():
    assert set_options(mobilenet_v2, {"num_classes": 3, "width_mult": None, "learning_rate": 1.0}) == {"num_classes": 3}


@pytest.mark.parametrize(("task", "function", "options"), CASES)
def test_a_task_builds_the_network_of_its_weights(task, function, options, tmp_path):
    network = function(3, **options)
    save_weights(network, tmp_path / "a.safetensors")

    started = task(3, weights=str(tmp_path / "a.safetensors"))

    assert started.network.options.items() >= options.items()
    assert started.hparams.items() >= options.items()
    assert all(torch.equal(tensor, started.network.state_dict()[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("task", "function", "options"), CASES)
def test_what_is_told_is_not_taken_and_may_not_be_another_thing(task, function, options, tmp_path):
    save_weights(function(3, **options), tmp_path / "a.safetensors")

    with pytest.raises(ValueError, match=r"a\.safetensors was trained with norm_eps .*, this network has 0\.5: set"):
        task(3, weights=str(tmp_path / "a.safetensors"), norm_eps=0.5)


@pytest.mark.parametrize("task", [ClassificationTask, DetectionTask, SegmentationTask])
def test_a_backbone_brings_its_form(task, tmp_path):
    save_weights(mobilenet_v2(3, **DEEP, dropout=0.5, input_size=96), tmp_path / "a.safetensors")

    started = task(2, backbone_weights=str(tmp_path / "a.safetensors"))

    assert started.network.options.items() >= DEEP.items()
    assert started.network.input_size != 96


@pytest.mark.parametrize("task", [ClassificationTask, DetectionTask, SegmentationTask])
def test_without_weights_the_networks_own_defaults_hold_and_are_saved(task):
    started = task(2)

    assert started.hparams["width_mult"] == started.network.options["width_mult"] == 1.0
    assert started.hparams["padding"] == "symmetric"


def test_a_checkpoint_is_read_without_the_weights_that_its_run_started_from(make_trainer, tiny_data, tmp_path):
    source = mobilenet_v2(2, **DEEP, input_size=32, mean=[0.4] * 3)
    save_weights(source, tmp_path / "a.safetensors")
    task = ClassificationTask(2, input_size=32, weights=str(tmp_path / "a.safetensors"))
    trainer: L.Trainer = make_trainer(ModelCheckpoint(tmp_path / "run", "last"), max_steps=1, limit_val_batches=0)
    trainer.fit(task, tiny_data(class_names=("dark", "light")))
    (tmp_path / "a.safetensors").unlink()

    again = ClassificationTask.load_from_checkpoint(tmp_path / "run/last.ckpt", weights_only=True)

    assert again.network.options == task.network.options
    assert again.network.options["mean"] == [0.4] * 3
    assert again.network.class_names == ("dark", "light")
    assert all(torch.equal(tensor, task.state_dict()[name]) for name, tensor in again.state_dict().items())
