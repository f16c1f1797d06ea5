"""Measure the peak memory of a segmenter on VOC's largest image at six scales, mirrored, at output stride 8.

python scripts/measure_multi_scale_memory.py
"""

import resource
import time

import numpy as np
import torch

from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.segmentation.multi_scale import average_probabilities

LARGEST = (500, 500)
"""Height and width."""


def main() -> None:
    """Print the peak in MB and the time."""
    network = deeplabv3_mobilenet_v2().eval().with_output_stride(8)
    image = network.head.preprocess(np.zeros((*LARGEST, 3), np.uint8))
    start = time.perf_counter()
    with torch.inference_mode():
        average_probabilities(network, image[None])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{peak:.0f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
