"""Networks that other programs have trained: imported, calibrated, and with other classes or names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mobilevision.images import find_images, read_image
from mobilevision.models import build_network, drop_background, select_classes
from mobilevision.network import Network
from mobilevision.weights.calibrate import calibrate
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import read_weights
from mobilevision.weights.layout import change_head

CALIBRATION_BATCH = 16


class ImportedNetwork(NamedTuple):
    """A network, and its provenance for :func:`save_weights`."""

    network: Network
    provenance: dict[str, str]


def import_network(
    source: str | Path,
    *,
    background: str | None = None,
    without_background: bool = False,
    class_names: Sequence[str] = (),
    calibration_folder: str | Path | None = None,
    num_calibration_images: int = 256,
) -> ImportedNetwork:
    """Read a weights file of any kind and build the network that computes what its original does.

    Args:
        source: A weights file or the name of published weights, as ``pretrained`` of :func:`get_model`.
        background: Where a classifier has a class for the background, if the file does not state it: ``first``,
            ``last`` or ``none``. TensorFlow's 1001 classes are known to begin with it.
        without_background: Leave that class out; it is the first where neither ``background`` nor the file states it.
        class_names: As many as there are classes then; or some of the file's own names, to keep these classes only; or
            none to keep what the file has.
        calibration_folder: Images like those the network will be trained on. A file whose normalization was folded
            into its filters, as .tflite files are, predicts without them but cannot be trained on.
        num_calibration_images: Calibration reads this many of them, evenly spread over their sorted paths.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not understood, is no classifier with a background, has another number of classes than names,
            or there are no images to calibrate with.
    """
    weights = read_weights(source)
    if background is not None:
        weights = _set_background(weights, background)
    if without_background:
        weights = drop_background(weights)
    if class_names:
        weights = _name_classes(_drop_unnamed_classes(weights, source), class_names, source)
    network = build_network(weights, source)
    provenance = dict(weights.card.provenance)
    if calibration_folder is not None:
        paths = _spread(find_images(calibration_folder), num_calibration_images)
        if not paths:
            raise ValueError(f"calibration_folder must hold images, got {calibration_folder}")
        calibrate(network, _batches(paths, network.input_size))
        provenance["calibrated"] = f"on {len(paths)} images of {Path(calibration_folder).name}"
    return ImportedNetwork(network, provenance)


def _set_background(weights: Weights, background: str) -> Weights:
    classifiers = [name for name, head in weights.card.heads.items() if head.task == "classification"]
    if len(classifiers) != 1 or background not in ("first", "last", "none"):
        raise ValueError(
            f"background must be first, last or none, and of a classifier, got {background} for {weights.card.tasks}"
        )
    return change_head(weights, classifiers[0], {"background": None if background == "none" else background})


def _drop_unnamed_classes(weights: Weights, source: str | Path) -> Weights:
    if all(len(head.class_names) in (0, head.config.get("num_classes")) for head in weights.card.heads.values()):
        return weights
    network = build_network(weights, source)
    return Weights(network.state_dict(), WeightsCard.of(network, **weights.card.provenance))


def _name_classes(weights: Weights, names: Sequence[str], source: str | Path) -> Weights:
    if len(weights.card.heads) != 1:
        raise ValueError(f"class_names must be those of one head, {source} holds {weights.card.tasks}")
    ((name, head),) = weights.card.heads.items()
    known, count = head.class_names, head.config.get("num_classes")
    if len(names) != count and known and set(names) <= set(known):
        return select_classes(weights, name, [known.index(each) for each in names])
    if len(names) != count:
        among = ", or some of its own names" if known else ""
        raise ValueError(f"class_names must be {count} for {source}{among}, got {len(names)}")
    return change_head(weights, name, class_names=names)


def _spread(paths: list[Path], count: int) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[place] for place in places]


def _batches(paths: list[Path], side: int) -> Iterator[UInt8[Tensor, "B 3 S S"]]:
    for start in range(0, len(paths), CALIBRATION_BATCH):
        images = [
            cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA)
            for path in paths[start : start + CALIBRATION_BATCH]
        ]
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
