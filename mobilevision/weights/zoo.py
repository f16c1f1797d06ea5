"""Published weights by name: their addresses, the figures of their publishers, and their download."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch.hub
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights
from torchvision.models.mobilenetv2 import MobileNet_V2_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from mobilevision.weights.card import Weights
from mobilevision.weights.download import download
from mobilevision.weights.layout import BACKGROUND, change_head

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")
"""The beginning of the file's sha256, which is a part of its name by ``torch.hub``'s convention."""

TORCHVISION_URL = "https://download.pytorch.org/models"
SLIM_URL = "https://storage.googleapis.com/mobilenet_v2/checkpoints"
TENSORFLOW_URL = "http://download.tensorflow.org/models"

TORCHVISION_SOURCE = "torchvision, MobileNet_V2_Weights"
SLIM_SOURCE = "tensorflow/models, slim/nets/mobilenet/README.md"
DETECTION_SOURCE = "tensorflow/models, object_detection/g3doc/tf1_detection_zoo.md"
DEEPLAB_SOURCE = "tensorflow/models, deeplab/g3doc/model_zoo.md"


UNUSED = "N/A"
"""torchvision's name of a number of COCO that no class has."""


class ZooEntry(NamedTuple):
    """Published weights.

    Attributes:
        name: Under which they are loaded.
        task: ``classification``, ``detection`` or ``segmentation``.
        url: Their official address.
        config: Fields of the head's config that the file does not state, or that go before what it states.
        class_names: By label.
        parameters: Of the network, as ``mobilevision info`` counts them.
        multiply_adds: Of the network on one image, as ``mobilevision info`` counts them.
        published: The publisher's figure.
        source: The document with that figure.
        licence: Of the weights.
        size: Of the download by its publisher; empty where it is not published.
        measured: What this library measured with its own commands; empty where nobody has.
        num_classes: Classes in the file, if there are more than names: the numbers of COCO that no class has have none.
    """

    name: str
    task: str
    url: str
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    parameters: int
    multiply_adds: int
    published: str
    source: str
    licence: str
    size: str = ""
    measured: str = ""
    num_classes: int | None = None

    @property
    def file_name(self) -> str:
        """The name under which the download is kept."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def hash_prefix(self) -> str:
        """The beginning of the published sha256; empty where none is published."""
        found = HASH_IN_NAME.search(self.file_name)
        return found[1] if found else ""

    def describe(self, weights: Weights) -> Weights:
        """Return weights that were read from the file, with the class names and the provenance that it does not hold.

        Raises:
            ValueError: They are not of the entry's task or class count.
        """
        head = weights.card.heads.get(self.task)
        count = head.config.get("num_classes") if head else None
        expected = self.num_classes or len(self.class_names)
        if count != expected:
            raise ValueError(
                f"{self.name} must be for {self.task} of {expected} classes, its file is for {weights.card.tasks} of "
                f"{count}"
            )
        weights = change_head(weights, self.task, self.config, self.class_names)
        published = {"url": self.url, "licence": self.licence, "published": f"{self.published} ({self.source})"}
        measured = {"measured": self.measured} if self.measured else {}
        provenance = {**weights.card.provenance, **published, **measured}
        return weights._replace(card=weights.card._replace(provenance=provenance))


def fetch_entry(entry: ZooEntry, *, progress: bool = True) -> Path:
    """Return the file of an entry, downloaded into ``torch.hub``'s folder unless it is there.

    Its sha256 is checked: against the published one, or else against that of the first download.

    Raises:
        ValueError: It has another hash; one that has just been downloaded is removed.
        OSError: It cannot be downloaded. The next attempt goes on from where this one was interrupted.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.file_name
    record = path.with_name(f"{path.name}.sha256")
    fresh = not path.is_file()
    if fresh:
        download(entry.url, path, progress=progress)
    expected = entry.hash_prefix or (record.read_text(encoding="ascii").strip() if record.is_file() else "")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        if fresh:
            path.unlink()
        advice = f"it was fetched from {entry.url} and is removed" if fresh else f"delete {path} to fetch it again"
        raise ValueError(f"{entry.file_name} must have a sha256 of {expected}, got {found}: {advice}")
    if not expected:
        record.write_text(f"{found}\n", encoding="ascii")
    return path


IMAGENET_NAMES = tuple(MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])
COCO_IDS = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.meta["categories"][1:]  # the background is the first
COCO_NAMES = tuple(name for name in COCO_IDS if name != UNUSED)
VOC_NAMES = (BACKGROUND, *LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"][1:])

SLIM = (
    # width, side, parameters, multiply-adds, top-1, top-5
    (1.4, 224, 6_110_569, 582_197_616, 75.0, 92.5),
    (1.3, 224, 5_388_457, 509_376_224, 74.4, 92.1),
    (1.0, 224, 3_506_153, 300_775_552, 71.8, 91.0),
    (1.0, 192, 3_506_153, 221_317_888, 70.7, 90.1),
    (1.0, 160, 3_506_153, 154_084_480, 68.8, 89.0),
    (1.0, 128, 3_506_153, 99_075_328, 65.3, 86.9),
    (1.0, 96, 3_506_153, 56_290_432, 60.3, 83.2),
    (0.75, 224, 2_637_705, 209_071_072, 69.8, 89.6),
    (0.75, 192, 2_637_705, 153_943_168, 68.7, 88.9),
    (0.75, 160, 2_637_705, 107_296_480, 66.4, 87.3),
    (0.75, 128, 2_637_705, 69_131_008, 63.2, 85.3),
    (0.75, 96, 2_637_705, 39_446_752, 58.8, 81.6),
    (0.5, 224, 1_969_961, 97_133_120, 65.4, 86.4),
    (0.5, 192, 1_969_961, 71_703_040, 63.9, 85.4),
    (0.5, 160, 1_969_961, 50_185_280, 61.0, 83.2),
    (0.5, 128, 1_969_961, 32_579_840, 57.7, 80.8),
    (0.5, 96, 1_969_961, 18_886_720, 51.2, 75.8),
    (0.35, 224, 1_678_409, 59_287_088, 60.3, 82.9),
    (0.35, 192, 1_678_409, 43_897_792, 58.2, 81.2),
    (0.35, 160, 1_678_409, 30_876_080, 55.7, 79.1),
    (0.35, 128, 1_678_409, 20_221_952, 50.8, 75.0),
    (0.35, 96, 1_678_409, 11_935_408, 45.5, 70.4),
)

TORCHVISION = (
    # name, hash, short side that an image is resized to, top-1, top-5, size
    ("v1", "b0353104", 256, 71.878, 90.286, "13.6 MB"),
    ("v2", "7ebf99e0", 232, 72.154, 90.822, "13.6 MB"),
)

DEEPLAB = (
    # name, date, output stride, parameters, multiply-adds, published, size
    ("mnv2_pascal_train_aug", "2018_01_29", 16, 2_113_557, 2_740_709_056, "VOC val mIoU 75.32", "23 MB"),
    (
        "mnv2_pascal_trainval",
        "2018_01_29",
        8,
        2_113_557,
        8_825_853_632,
        "VOC test mIoU 80.25, scales and flip",
        "23 MB",
    ),
    ("mnv2_dm05_pascal_trainaug", "2018_10_01", 16, 697_013, 867_496_704, "VOC val mIoU 70.19", "7.6 MB"),
    ("mnv2_dm05_pascal_trainval", "2018_10_01", 8, 697_013, 2_818_640_640, "VOC test mIoU 71.83", "7.6 MB"),
)


def _torchvision_entries() -> list[ZooEntry]:
    return [
        ZooEntry(
            name=f"mobilenet_v2_torchvision_{version}",
            task="classification",
            url=f"{TORCHVISION_URL}/mobilenet_v2-{hash_prefix}.pth",
            config={"input_size": 224, "eval_crop": "short_side", "crop_share": 224 / short_side},
            class_names=IMAGENET_NAMES,
            parameters=3_504_872,
            multiply_adds=300_774_272,
            published=f"ImageNet top-1 {top1}, top-5 {top5}",
            source=TORCHVISION_SOURCE,
            licence="BSD-3-Clause",
            size=size,
        )
        for version, hash_prefix, short_side, top1, top5, size in TORCHVISION
    ]


def _slim_entries() -> list[ZooEntry]:
    return [
        ZooEntry(
            name=f"mobilenet_v2_{width}_{side}",
            task="classification",
            url=f"{SLIM_URL}/mobilenet_v2_{width}_{side}.tgz",
            config={"input_size": side, "eval_crop": "central", "background": "first"},
            class_names=(BACKGROUND, *IMAGENET_NAMES),
            parameters=parameters,
            multiply_adds=multiply_adds,
            published=f"ImageNet top-1 {top1}, top-5 {top5}",
            source=SLIM_SOURCE,
            licence="Apache-2.0",
        )
        for width, side, parameters, multiply_adds, top1, top5 in SLIM
    ]


def _tensorflow_entries() -> list[ZooEntry]:
    detector = ZooEntry(
        name="ssdlite_mobilenet_v2_coco",
        task="detection",
        url=f"{TENSORFLOW_URL}/object_detection/ssdlite_mobilenet_v2_coco_2018_05_09.tar.gz",
        config={"input_size": 300},
        class_names=COCO_NAMES,
        num_classes=len(COCO_IDS),
        parameters=4_337_013,
        multiply_adds=734_610_416,
        published="COCO mAP 22 on a part of val 2014",
        source=DETECTION_SOURCE,
        licence="Apache-2.0",
    )
    segmenters = [
        ZooEntry(
            name=f"deeplabv3_{name}",
            task="segmentation",
            url=f"{TENSORFLOW_URL}/deeplabv3_{name}_{date}.tar.gz",
            config={"output_stride": output_stride, "input_size": 513},
            class_names=VOC_NAMES,
            parameters=parameters,
            multiply_adds=multiply_adds,
            published=f"{published}, output stride {output_stride}",
            source=DEEPLAB_SOURCE,
            licence="Apache-2.0",
            size=size,
        )
        for name, date, output_stride, parameters, multiply_adds, published, size in DEEPLAB
    ]
    return [detector, *segmenters]


ZOO: Mapping[str, ZooEntry] = {
    entry.name: entry for entry in (*_torchvision_entries(), *_slim_entries(), *_tensorflow_entries())
}
"""By name."""
