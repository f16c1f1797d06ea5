"""Run networks on images: a file or an array in, a typed result out."""

import warnings
from pathlib import Path

import numpy as np
import torch

from mobilevision.detection.preprocess import EvalTransform as StretchTransform
from mobilevision.head import Selection
from mobilevision.images import read_image
from mobilevision.inference.drawing import Pixels
from mobilevision.inference.results import RESULTS, MultiTaskResult, Result
from mobilevision.models import get_model, list_models, load_model
from mobilevision.network import Network


class Predictor:
    """A network ready to run on images one by one, on the device it is on.

    Args:
        network: It is switched to evaluation mode.
        score_threshold: Objects of a detector that do not score more are left out.
        iou_threshold: The largest intersection over union of two objects of a class.
    """

    def __init__(self, network: Network, *, score_threshold: float = 0.3, iou_threshold: float = 0.6) -> None:
        self.network = network.eval()
        self.selection = Selection(score_threshold, iou_threshold)

    @torch.inference_mode()
    def __call__(self, image: str | Path | Pixels) -> Result:
        """Return the result of an image.

        Heads of one network share a view of it, so that the backbone runs once: the whole image in a square, whatever
        its aspect. A single head has its own evaluation transform.

        Args:
            image: A file, or RGB pixels.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file does not decode, or the pixels are none.
        """
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"image must be uint8 of shape [H, W, 3], got {pixels.dtype} of {list(pixels.shape)}")
        heads = self.network.named_heads
        side = self.network.input_size if len(heads) > 1 else None
        view = self.network.head.preprocess(pixels) if side is None else StretchTransform(side)(pixels)
        device = self.network.normalization.mean.device
        outputs = self.network.compute(view[None].to(device))
        sizes = torch.tensor([pixels.shape[:2]], device=device)
        results = {}
        for name, head in heads.items():
            (answer,) = head.postprocess(outputs[name], sizes, self.selection, stretched_to=side)
            results[name] = RESULTS[head.task].from_answer(answer, head.class_names)
        return MultiTaskResult(results) if side is not None else next(iter(results.values()))


def inference_model(model: Network | str | Path, image: str | Path | Pixels) -> Result:
    """Return the result of running a network on one image; for more of them build a :class:`Predictor`.

    Args:
        model: A network, a weights file, or a name of :func:`mobilevision.list_models`.
        image: A file, or RGB pixels.

    Raises:
        FileNotFoundError: There is no such image or weights file.
        ValueError: The image does not decode, or the weights file is none.
    """
    return Predictor(model if isinstance(model, Network) else _find_network(model))(image)


def _find_network(model: str | Path) -> Network:
    if str(model) not in list_models():
        return load_model(model)
    warnings.warn(f"no weights come with the package: {model} has randomly initialized weights", stacklevel=3)
    return get_model(str(model))
