"""State dicts as other programs write them, by the names that their modules have."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.segmentation import DeepLabV3

StateDict = dict[str, Tensor]


def settle_norms(module: nn.Module) -> nn.Module:
    """Give every normalisation values such as training would have left."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def convolutions(reference: nn.Module) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """List torchvision's convolutions with their norms in the order in which they run: stem, blocks, last."""
    convs = [(name, part) for name, part in reference.named_modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in reference.modules() if isinstance(part, nn.BatchNorm2d)]
    return [(name, conv, norm) for (name, conv), norm in zip(convs, norms, strict=True)]


def put(tensors: StateDict, conv: nn.Conv2d, norm: nn.BatchNorm2d, conv_name: str, norm_name: str) -> None:
    tensors[f"{conv_name}.weight"] = conv.weight.detach().clone()
    tensors |= {f"{norm_name}.{name}": tensor.clone() for name, tensor in norm.state_dict().items()}


NameBoth = Callable[[int, str], tuple[str, str]]
"""From the number of torchvision's feature (0 the stem, 18 the last convolution) and the part (``stem``, ``expand``,
``depthwise``, ``project``, ``last``) the names of the convolution and its norm."""


def rename(reference: nn.Module, name: NameBoth) -> StateDict:
    """Give torchvision's tensors by other names."""
    tensors: StateDict = {}
    for source, conv, norm in convolutions(reference):
        feature = int(source.split(".")[1])
        if feature in (0, 18):
            part = "stem" if feature == 0 else "last"
        elif conv.groups > 1:
            part = "depthwise"
        else:
            part = "expand" if source.endswith("0.0") else "project"
        put(tensors, conv, norm, *name(feature, part))
    return tensors


STAGE_OF = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)]


def timm_names(feature: int, part: str) -> tuple[str, str]:
    if part in ("stem", "last"):
        return ("conv_stem", "bn1") if part == "stem" else ("conv_head", "bn2")
    stage, block = STAGE_OF[feature - 1]
    names = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    if stage == 0:
        names = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    return tuple(f"blocks.{stage}.{block}.{name}" for name in names[part])


def openmmlab_names(*, named: bool = False, prefix: str = "backbone.") -> NameBoth:
    def name(feature: int, part: str) -> tuple[str, str]:
        if part in ("stem", "last"):
            module = "conv1" if part == "stem" else "conv2"
        else:
            stage, block = STAGE_OF[feature - 1]
            order = ["expand", "depthwise", "project"][stage == 0 :]
            inner = {"expand": "expand_conv", "depthwise": "depthwise_conv", "project": "linear_conv"}[part]
            module = f"layer{stage + 1}.{block}.{inner if named else f'conv.{order.index(part)}'}"
        return f"{prefix}{module}.conv", f"{prefix}{module}.bn"

    return name


def huggingface_names(feature: int, part: str) -> tuple[str, str]:
    inner = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
    if part in ("stem", "last"):
        module = "conv_stem.first_conv" if part == "stem" else "conv_1x1"
    else:
        module = f"conv_stem.{inner[part]}" if feature == 1 else f"layer.{feature - 2}.{inner[part]}"
    return f"mobilenet_v2.{module}.convolution", f"mobilenet_v2.{module}.normalization"


def rename_to_timm(network: ImageNetwork) -> StateDict:
    """Give the tensors of a classifier of ours, of any depth, as timm names them."""
    tensors: StateDict = {}
    backbone = network.backbone
    put(tensors, backbone.stem.conv, backbone.stem.norm, "conv_stem", "bn1")
    for stage, (_, blocks) in enumerate(backbone.blocks()):
        for number, block in enumerate(blocks):
            parts = [("depthwise", "conv_dw"), ("project", "conv_pw")]
            if stage > 0:
                parts = [("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")]
            for place, (part, name) in enumerate(parts, start=1):
                module, source = getattr(block, part), f"blocks.{stage}.{number}"
                put(tensors, module.conv, module.norm, f"{source}.{name}", f"{source}.bn{place}")
    put(tensors, backbone.last.conv, backbone.last.norm, "conv_head", "bn2")
    return tensors | {f"classifier.{name}": tensor for name, tensor in network.head.linear.state_dict().items()}


def rename_to_huggingface(network: DeepLabV3) -> StateDict:
    """Give the tensors of a segmenter of ours as transformers names them."""
    tensors: StateDict = {}
    inner = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}

    def add(module: nn.Module, name: str) -> None:
        put(tensors, module.conv, module.norm, f"{name}.convolution", f"{name}.normalization")

    add(network.backbone.stem, "mobilenet_v2.conv_stem.first_conv")
    blocks = [block for _, stage in network.backbone.blocks() for block in stage]
    for number, block in enumerate(blocks):
        for part, name in inner.items():
            if number or part != "expand":
                source = f"layer.{number - 1}" if number else "conv_stem"
                add(getattr(block, part), f"mobilenet_v2.{source}.{name}")
    for ours, theirs in (("pool", "conv_pool"), ("pixel", "conv_aspp"), ("project", "conv_projection")):
        add(getattr(network.head, ours), f"segmentation_head.{theirs}")
    logits = {
        f"segmentation_head.classifier.convolution.{name}": tensor
        for name, tensor in network.head.logits.state_dict().items()
    }
    return tensors | logits


class Server(NamedTuple):
    """Files over HTTP, and what was asked for.

    Attributes:
        url: Of the folder.
        files: By name. They can be changed.
        breaks: After how many bytes of a body the line drops, once, by name.
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
def train_norms() -> Callable[[nn.Module], nn.Module]:
    """Give every normalisation values such as training would have left."""
    return settle_norms


@pytest.fixture
def as_timm() -> Callable[[ImageNetwork], StateDict]:
    return rename_to_timm


@pytest.fixture
def as_huggingface() -> Callable[[DeepLabV3], StateDict]:
    return rename_to_huggingface


@pytest.fixture
def reference() -> nn.Module:
    """torchvision's own network, small."""
    return settle_norms(torchvision_mobilenet_v2(num_classes=5, width_mult=0.35))


@pytest.fixture
def state_dicts(reference: nn.Module) -> dict[str, StateDict]:
    """The same tensors as the programs write them, by the program."""
    classifier = reference.classifier[1].state_dict()

    def linear(name: str) -> StateDict:
        return {f"{name}.{part}": tensor.clone() for part, tensor in classifier.items()}

    return {
        "torchvision": dict(reference.state_dict()),
        "timm": rename(reference, timm_names) | linear("classifier"),
        "mmpretrain": rename(reference, openmmlab_names()) | linear("head.fc"),
        "huggingface": rename(reference, huggingface_names) | linear("classifier"),
    }


@pytest.fixture
def detector_state_dict(reference: nn.Module) -> StateDict:
    """A detector of mmdetection's, as far as it matters: its backbone, a neck and a head."""
    return rename(reference, openmmlab_names(named=True)) | {
        "neck.extra_layers.0.0.conv.weight": torch.ones(1),
        "bbox_head.cls_convs.0.0.conv.weight": torch.ones(1),
    }
