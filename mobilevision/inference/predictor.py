"""Run networks on images: an image of any kind in, a typed result out."""

import warnings
from pathlib import Path
from typing import cast, overload

import torch

from mobilevision.detection.preprocess import StretchTransform
from mobilevision.head import Selection
from mobilevision.images import Pixels
from mobilevision.inference.inputs import ImageInput, read_pixels, split_batch
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

    @overload
    def __call__(self, image: ImageInput) -> Result: ...
    @overload
    def __call__(self, image: list[ImageInput] | tuple[ImageInput, ...]) -> list[Result]: ...
    def __call__(self, image: ImageInput | list[ImageInput] | tuple[ImageInput, ...]) -> Result | list[Result]:
        """Return the result of an image, or of each image of a list or batch.

        Heads of one network share a view of it, so that the backbone runs once: the whole image in a square, whatever
        its aspect. A single head has its own evaluation transform.

        Args:
            image: A path, an address of http or https, the content of a file, an image of Pillow's in any mode, or an
                array or tensor: gray, RGB or RGBA, uint8 or floats in [0, 1], channels last or first. Arrays of four
                dimensions are batches.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The image does not decode, cannot be fetched, or is none.
        """
        images = split_batch(image)
        if images is None:
            return self._predict(read_pixels(image))
        return [self._predict(read_pixels(each)) for each in images]

    @torch.inference_mode()
    def _predict(self, pixels: Pixels) -> Result:
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


@overload
def inference_model(model: Network | str | Path, image: ImageInput) -> Result: ...
@overload
def inference_model(model: Network | str | Path, image: list[ImageInput] | tuple[ImageInput, ...]) -> list[Result]: ...
def inference_model(
    model: Network | str | Path, image: ImageInput | list[ImageInput] | tuple[ImageInput, ...]
) -> Result | list[Result]:
    """Return the result of running a network on an image, or on each of a list; for more build a :class:`Predictor`.

    Args:
        model: A network, a weights file, or a name of :func:`mobilevision.list_models`.
        image: A path, an address, bytes, an image of Pillow's, an array or a tensor; see :class:`Predictor`.

    Raises:
        FileNotFoundError: There is no such image or weights file.
        ValueError: The image does not decode or is none, or the weights file is none.
    """
    return Predictor(model if isinstance(model, Network) else _find_network(model))(cast(ImageInput, image))


def _find_network(model: str | Path) -> Network:
    if str(model) not in list_models():
        return load_model(model)
    warnings.warn(f"no weights come with the package: {model} has randomly initialized weights", stacklevel=3)
    return get_model(str(model))
