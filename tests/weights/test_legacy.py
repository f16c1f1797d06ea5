"""Files of version 1 load, compute what they did, and start and resume runs."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from mobilevision.backbone.normalization import SYMMETRIC_MEAN
from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.task import ClassificationTask
from mobilevision.models import get_model, load_model
from mobilevision.weights.file import read_weights, save_weights
from mobilevision.weights.legacy import upgrade_card

FOLDER = Path(__file__).parent / "legacy"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
"""By file, of each output the mean, the largest absolute value and the first four values, computed by version 1."""

CHECKPOINT = FOLDER / "classification.ckpt"


def outputs_of(network) -> list[Tensor]:
    values = torch.arange(3 * 64 * 64).mul(37).remainder(251).to(torch.uint8).reshape(1, 3, 64, 64)
    outputs = network(values)
    outputs = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    return [part for output in outputs for part in (output if isinstance(output, tuple) else (output,))]


@torch.no_grad()
@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_computes_what_it_did(name):
    figures = []
    for output in outputs_of(load_model(FOLDER / f"{name}.safetensors")):
        figures += [output.mean().item(), output.abs().max().item(), *output.flatten()[:4].tolist()][:6]
    assert figures == pytest.approx(EXPECTED[name], rel=1e-4, abs=1e-4)


def test_a_card_keeps_options_names_and_normalization():
    tensors, card = read_weights(FOLDER / "classification.safetensors")
    (head,) = card.heads.values()
    assert (card.tasks, head.class_names) == ("classification", ("background", "cat", "dog"))
    assert (head.config["num_classes"], head.config["input_size"], head.config["background"]) == (3, 64, "first")
    assert card.backbone.width_mult == 0.05
    torch.testing.assert_close(tensors["normalization.mean"], torch.tensor([0.4, 0.5, 0.6]))

    detector = load_model(FOLDER / "detection.safetensors")
    backbone = detector.backbone.config
    assert (backbone.padding, backbone.min_channels, backbone.scale_last) == ("tf_same", 16, True)
    assert (detector.head.config.score_function, detector.head.input_size) == ("softmax", 64)
    assert detector.head.class_names == ("cat", "dog")

    joint = load_model(FOLDER / "multitask.safetensors")
    assert {name: head.input_size for name, head in joint.named_heads.items()} == {
        "classification": 64,
        "segmentation": 65,
    }
    assert joint.heads["segmentation"].class_names == ("background", "cat", "dog")


@torch.no_grad()
def test_a_file_written_again_is_the_same_network(tmp_path):
    for name in EXPECTED:
        network = load_model(FOLDER / f"{name}.safetensors")
        save_weights(network, tmp_path / f"{name}.safetensors")
        again = load_model(tmp_path / f"{name}.safetensors")
        for one, other in zip(outputs_of(again), outputs_of(network), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet50"}, "model in its description must be one of .* got 'resnet50'"),
        ({"options": "[1]"}, "options in its description must be a dict"),
        ({"class_names": "{"}, "its description lacks class_names, or it is damaged there"),
        *(
            ({"options": json.dumps({"heads": heads})}, "heads in its description must be options by classification")
            for heads in ({"pose": {}}, 3, {}, {"detection": 3})
        ),
    ],
)
def test_a_damaged_description_is_refused(changes, message):
    metadata = {"model": "mobilenet_v2", "options": '{"num_classes": 3}', "class_names": "[]", "provenance": "{}"}
    assert upgrade_card(metadata).heads["classification"].config == {"num_classes": 3}
    with pytest.raises(ValueError, match=message):
        upgrade_card(metadata | changes)


@pytest.fixture
def data(tmp_path, write_dataset) -> ImageNetDataModule:
    """Folders of the classes that the checkpoint was trained with, as many images as it had."""
    root = write_dataset("classification", tmp_path / "data", train=8, val=8)
    for split in ("train", "val"):
        (root / split / "blue").rename(root / split / "cat")
        (root / split / "red").rename(root / split / "dog")
    return ImageNetDataModule(str(root), batch_size=4, num_workers=0)


class Momenta(L.Callback):
    """The optimizer's state at the start of a run."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.states = {
            name: trainer.optimizers[0].state[parameter]["momentum_buffer"].clone()
            for name, parameter in pl_module.named_parameters()
        }


def test_the_weights_of_a_checkpoint_start_a_network_and_a_task(data, make_trainer):
    network = get_model("mobilenet_v2", pretrained=CHECKPOINT)
    assert network.head.class_names == ("cat", "dog")
    torch.testing.assert_close(network.normalization.mean, torch.tensor(SYMMETRIC_MEAN))

    task = ClassificationTask.load_from_checkpoint(CHECKPOINT, weights_only=True)
    assert task.network.head.class_names == ("cat", "dog")
    assert torch.equal(task.network.head.linear.weight, network.head.linear.weight)

    started = ClassificationTask(pretrained=str(CHECKPOINT))
    make_trainer().validate(started, data, verbose=False)
    assert torch.equal(started.network.head.linear.weight, network.head.linear.weight)


@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_resumes_from_a_checkpoint_with_its_optimizer(averaged, data, make_trainer, tmp_path):
    saved = torch.load(CHECKPOINT, weights_only=True)
    if averaged:
        saved |= {"current_model_state": dict(saved["state_dict"]), "averaging_state": {"n_averaged": torch.tensor(2)}}
    torch.save(saved, tmp_path / "old.ckpt")
    (optimizer,) = saved["optimizer_states"]
    options = {"width_mult": 0.05, "input_size": 32, "learning_rate": 0.01, "schedule": "constant"}
    task, momenta = ClassificationTask(**options), Momenta()
    trainer = make_trainer(momenta, *[EMAWeightAveraging()][:averaged], max_epochs=2, limit_val_batches=0)

    trainer.fit(task, data, ckpt_path=tmp_path / "old.ckpt")

    assert (trainer.current_epoch, trainer.global_step) == (2, 4)
    # The groups' parameters are in the order in which the optimizer numbers them.
    parameters = [each for group in trainer.optimizers[0].param_groups for each in group["params"]]
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    for number, parameter in enumerate(parameters):
        momentum = optimizer["state"][number]["momentum_buffer"]
        assert momentum.shape == parameter.shape
        torch.testing.assert_close(momenta.states[names[id(parameter)]], momentum)
    # It went on from there.
    before = saved["state_dict"]["network.head.linear.weight"]
    assert 0 < (task.network.head.linear.weight - before).abs().max() < 0.5
