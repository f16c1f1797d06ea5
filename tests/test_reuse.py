"""The backbone in other people's projects: what the README shows."""

import subprocess
import sys

import lightning as L
import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from mobilevision import MobileNetV2, get_model, save_weights
from mobilevision.classification.task import ClassificationTask


def test_taps_feed_a_module_of_another_project():
    backbone = MobileNetV2(last=False)
    taps = ("stage2", "stage3", "stage5", "stage7")
    channels = [backbone.feature_info[tap].channels for tap in taps]
    pyramid = FeaturePyramidNetwork(channels, out_channels=64)
    maps = pyramid(backbone(torch.rand(1, 3, 64, 96), taps))

    assert {name: tuple(feature.shape) for name, feature in maps.items()} == {
        "stage2": (1, 64, 16, 24),
        "stage3": (1, 64, 8, 12),
        "stage5": (1, 64, 4, 6),
        "stage7": (1, 64, 2, 3),
    }
    sum(feature.sum() for feature in maps.values()).backward()
    assert backbone.stem.conv.weight.grad.abs().sum() > 0


def test_it_is_the_backbone_of_torchvisions_faster_rcnn():
    backbone = MobileNetV2(output_stride=16)
    backbone.out_channels = backbone.feature_info["last"].channels
    anchors = AnchorGenerator(sizes=((32, 64, 128),), aspect_ratios=((0.5, 1.0, 2.0),))
    pool = MultiScaleRoIAlign(["last"], output_size=3, sampling_ratio=2)
    detector = FasterRCNN(backbone, num_classes=3, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=64)

    target = {"boxes": torch.tensor([[4.0, 8.0, 40.0, 60.0]]), "labels": torch.tensor([2])}
    losses = detector([torch.rand(3, 64, 64)], [target])
    sum(losses.values()).backward()
    assert backbone.stem.conv.weight.grad.abs().sum() > 0
    (found,) = detector.eval()([torch.rand(3, 64, 80)])
    assert found["boxes"].shape[1] == 4


LOAD_WITHOUT_LIGHTNING = """
import sys
for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "torchmetrics", "albumentations"):
    sys.modules[name] = None  # importing it fails

import torch
from mobilevision import get_model

results = []
for path in sys.argv[2:]:
    network = get_model("mobilenet_v2", pretrained=path)
    results.append((network.class_names, network.backbone.eval()(torch.ones(1, 3, 32, 32))["last"]))
torch.save(results, sys.argv[1])
"""


@pytest.fixture
def fine_tuned():
    """A task after a step of training."""
    task = ClassificationTask(2, width_mult=0.35, input_size=32, norm_momentum=1.0)
    task.network.class_names = ("cat", "dog")
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01)
    for _ in range(2):
        loss = task.network(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).logsumexp(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task


def test_a_fine_tuned_backbone_loads_where_there_is_no_lightning(fine_tuned, tmp_path):
    weights, checkpoint, results = tmp_path / "best.safetensors", tmp_path / "last.ckpt", tmp_path / "results.pt"
    save_weights(fine_tuned.network, weights)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_model_summary=False)
    trainer.strategy.connect(fine_tuned)
    trainer.save_checkpoint(checkpoint)
    subprocess.run([sys.executable, "-c", LOAD_WITHOUT_LIGHTNING, results, weights, checkpoint], check=True)

    with torch.no_grad():
        expected = fine_tuned.network.backbone.eval()(torch.ones(1, 3, 32, 32))["last"]
    assert expected.max() > 0.01
    for class_names, features in torch.load(results, weights_only=True):
        assert class_names == ("cat", "dog")
        torch.testing.assert_close(features, expected)


def test_a_fine_tuned_backbone_starts_another_network(fine_tuned, tmp_path):
    save_weights(fine_tuned.network, tmp_path / "fine_tuned.safetensors")
    backbone = get_model("mobilenet_v2", pretrained=tmp_path / "fine_tuned.safetensors").backbone
    project = nn.ModuleDict({"backbone": backbone, "head": nn.Conv2d(backbone.feature_info["last"].channels, 5, 1)})
    assert project["head"](project["backbone"](torch.zeros(1, 3, 64, 64))["last"]).shape == (1, 5, 2, 2)
    assert torch.equal(project["backbone"].stem.conv.weight, fine_tuned.network.backbone.stem.conv.weight)
