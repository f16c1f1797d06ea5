"""What a figure was measured on, in words that go beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilevision.segmentation.types import EvalProtocol

DESCRIPTIONS: Mapping[EvalProtocol, str] = {
    "original": "every pixel of the file, at its size; a picture larger than the network's square is scaled into it",
    "pad": "every pixel of the file, at its size; the picture is padded to the network's square, never scaled",
    "centre_crop": "the middle of the picture, scaled until its short side fills the network's square",
}


def describe_protocol(
    protocol: EvalProtocol, *, input_size: int, output_stride: int, scales: Sequence[float], flip: bool
) -> dict[str, Any]:
    """Say how something was measured, as plain JSON values.

    >>> describe_protocol("pad", input_size=513, output_stride=8, scales=(0.5, 1.0), flip=True)["name"]
    'pad to 513, output stride 8, scales 0.5 1, flipped'
    """
    words = {
        "original": "original resolution",
        "pad": f"pad to {input_size}",
        "centre_crop": f"centre crop {input_size}",
    }
    passes = "single scale" if len(scales) == 1 else "scales " + " ".join(f"{scale:g}" for scale in scales)
    return {
        "name": f"{words[protocol]}, output stride {output_stride}, {passes}" + (", flipped" if flip else ""),
        "pixels": protocol,
        "description": DESCRIPTIONS[protocol],
        "input_size": input_size,
        "output_stride": output_stride,
        "scales": list(scales),
        "flip": flip,
    }
