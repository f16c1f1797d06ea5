"""Networks with settled statistics, state dicts as other programs write them, and a server of published files."""

import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone import MobileNetV2
from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.network import Network

StateDict = dict[str, Tensor]


class Where(NamedTuple):
    """The place of a convolution: its stage, its block in the stage and among all; stem and last are in stage 0."""

    part: str
    stage: int = 0
    block: int = 0
    number: int = 0


Parts = Iterable[tuple[Where, nn.Conv2d, nn.BatchNorm2d]]

BLOCKS = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1), start=1) for block in range(count)]


def settle_norms(module: nn.Module) -> nn.Module:
    """Draw statistics and biases such as training would have left."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        elif isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias)
    return module.eval()


def walk_torchvision(reference: nn.Module) -> Parts:
    """Yield torchvision's convolutions with their norms in the order in which they run."""
    convs = [(name, part) for name, part in reference.named_modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in reference.modules() if isinstance(part, nn.BatchNorm2d)]
    for (name, conv), norm in zip(convs, norms, strict=True):
        feature = int(name.split(".")[1])
        if feature in (0, 18):
            where = Where("last" if feature else "stem")
        else:
            part = "depthwise" if conv.groups > 1 else "expand" if name.endswith("0.0") else "project"
            where = Where(part, *BLOCKS[feature - 1], feature - 1)
        yield where, conv, norm


def walk_backbone(backbone: MobileNetV2) -> Parts:
    """Yield the convolutions of a backbone of any depth with their norms in the order in which they run."""
    numbers: dict[tuple[str, str], int] = {}
    for name, module in backbone.named_modules():
        if isinstance(module, ConvNorm):
            *place, part = name.split(".")
            if place:
                _, stage, block = place
                number = numbers.setdefault((stage, block), len(numbers))
                where = Where(part, int(stage.removeprefix("stage")), int(block), number)
            else:
                where = Where(part)
            yield where, module.conv, module.norm


def timm_names(where: Where) -> tuple[str, str]:
    if where.stage == 0:
        return ("conv_stem", "bn1") if where.part == "stem" else ("conv_head", "bn2")
    names = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    if where.stage == 1:
        names = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    conv, norm = names[where.part]
    return f"blocks.{where.stage - 1}.{where.block}.{conv}", f"blocks.{where.stage - 1}.{where.block}.{norm}"


def mmpretrain_names(where: Where) -> tuple[str, str]:
    order = ["expand", "depthwise", "project"][where.stage == 1 :]
    return openmmlab_names(where, f"conv.{order.index(where.part)}" if where.stage else "")


def mmdetection_names(where: Where) -> tuple[str, str]:
    names = {"expand": "expand_conv", "depthwise": "depthwise_conv", "project": "linear_conv"}
    return openmmlab_names(where, names.get(where.part, ""))


def openmmlab_names(where: Where, part: str) -> tuple[str, str]:
    ends = {"stem": "conv1", "last": "conv2"}
    module = f"backbone.{ends.get(where.part, f'layer{where.stage}.{where.block}.{part}')}"
    return f"{module}.conv", f"{module}.bn"


def huggingface_names(where: Where) -> tuple[str, str]:
    ends = {"stem": "conv_stem.first_conv", "last": "conv_1x1"}
    parts = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
    block = f"layer.{where.number - 1}" if where.number else "conv_stem"
    module = ends.get(where.part) or f"{block}.{parts[where.part]}"
    return f"mobilenet_v2.{module}.convolution", f"mobilenet_v2.{module}.normalization"


def rename(parts: Parts, names: Callable[[Where], tuple[str, str]]) -> StateDict:
    """Return the tensors of convolutions and their norms by other names."""
    tensors: StateDict = {}
    for where, conv, norm in parts:
        conv_name, norm_name = names(where)
        tensors[f"{conv_name}.weight"] = conv.weight.detach().clone(memory_format=torch.contiguous_format)
        tensors |= prefixed(norm_name, norm)
    return tensors


def prefixed(prefix: str, module: nn.Module) -> StateDict:
    return {
        f"{prefix}.{name}": tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }


def rename_to_timm(network: Network) -> StateDict:
    """Return the tensors of a classifier of any depth as timm names them."""
    return rename(walk_backbone(network.backbone), timm_names) | prefixed("classifier", network.head.linear)


def rename_to_huggingface(network: Network) -> StateDict:
    """Return the tensors of a segmenter as transformers names them."""
    names = {"pool": "conv_pool", "pixel": "conv_aspp", "project": "conv_projection"}
    branches = [(Where(part), getattr(network.head, part)) for part in names]
    head = rename(
        [(where, branch.conv, branch.norm) for where, branch in branches],
        lambda where: tuple(
            f"segmentation_head.{names[where.part]}.{kind}" for kind in ("convolution", "normalization")
        ),
    )
    logits = prefixed("segmentation_head.classifier.convolution", network.head.logits)
    return rename(walk_backbone(network.backbone), huggingface_names) | head | logits


class Server(NamedTuple):
    """Files over HTTP, and the requests for them.

    Attributes:
        url: Of the folder.
        files: By name. They can be changed.
        breaks: After how many bytes of a body the connection drops, once, by name.
        asked: The name and the first byte of every request.
    """

    url: str
    files: dict[str, bytes]
    breaks: dict[str, int]
    asked: list[tuple[str, int]]


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve files on this machine as their publishers do: with ranges."""
    files: dict[str, bytes] = {}
    breaks: dict[str, int] = {}
    asked: list[tuple[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            asked.append((name, first))
            body = files.get(name)
            if body is None:
                self.send_error(404)
                return
            if first >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body) - first))
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            self.wfile.write(body[first:][: breaks.pop(name, len(body))])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(f"http://127.0.0.1:{serving.server_port}", files, breaks, asked)
        serving.shutdown()
        thread.join()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The folder that torch.hub keeps its files in."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


@pytest.fixture
def trained() -> Callable[[nn.Module], nn.Module]:
    return settle_norms


@pytest.fixture
def as_timm() -> Callable[[Network], StateDict]:
    return rename_to_timm


@pytest.fixture
def as_huggingface() -> Callable[[Network], StateDict]:
    return rename_to_huggingface


@pytest.fixture
def reference() -> nn.Module:
    """torchvision's own network, small."""
    return settle_norms(torchvision_mobilenet_v2(num_classes=5, width_mult=0.35))


@pytest.fixture
def state_dicts(reference: nn.Module) -> dict[str, StateDict]:
    """The same tensors as the programs write them, by the program."""
    linear = reference.classifier[1]
    return {
        "torchvision": dict(reference.state_dict()),
        "timm": rename(walk_torchvision(reference), timm_names) | prefixed("classifier", linear),
        "mmpretrain": rename(walk_torchvision(reference), mmpretrain_names) | prefixed("head.fc", linear),
        "huggingface": rename(walk_torchvision(reference), huggingface_names) | prefixed("classifier", linear),
    }


@pytest.fixture
def detector_state_dict(reference: nn.Module) -> StateDict:
    """The backbone of a detector of mmdetection, with one tensor each of its neck and head."""
    return rename(walk_torchvision(reference), mmdetection_names) | {
        "neck.extra_layers.0.0.conv.weight": torch.ones(1),
        "bbox_head.cls_convs.0.0.conv.weight": torch.ones(1),
    }
