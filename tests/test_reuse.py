"""The backbone in other people's projects: what the README shows."""

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from mobilevision import ClassificationTask, MobileNetV2, get_model, save_weights


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
    backbone = MobileNetV2()
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


def test_a_fine_tuned_backbone_starts_another_network_from_weights_and_from_a_checkpoint(make_trainer, tmp_path):
    task = ClassificationTask(num_classes=2, width_mult=0.35, input_size=32, norm_momentum=1.0)
    task.network.head.class_names = ("cat", "dog")
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01)
    for _ in range(2):
        loss = task(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).logsumexp(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_weights(task.network, tmp_path / "best.safetensors")
    trainer = make_trainer()
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = task.network.eval().backbone(x)["last"]
    assert expected.max() > 0.01
    for name in ("best.safetensors", "last.ckpt"):
        network = get_model("mobilenet_v2", pretrained=tmp_path / name)
        assert network.head.class_names == ("cat", "dog")
        project = nn.Sequential(network.backbone, nn.Conv2d(network.backbone.feature_info["last"].channels, 5, 1))
        torch.testing.assert_close(project[0](x)["last"], expected)
        assert project[1](project[0](x)["last"]).shape == (1, 5, 2, 2)
