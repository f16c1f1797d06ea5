"""The memory of looking at VOC's largest picture at six scales, mirrored, at output stride 8: the process's peak in MB.

python scripts/measure_multi_scale_memory.py
"""

import resource
import time

import numpy as np
import torch

from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.segmentation.multi_scale import average_probabilities, running_at
from mobilevision.segmentation.transforms import EvalTransform

LARGEST = (500, 500)
"""Height and width."""


def main() -> None:
    """Print the peak and the time."""
    network = deeplabv3_mobilenet_v2().to(memory_format=torch.channels_last).eval()
    image = EvalTransform(network.input_size)(np.zeros((*LARGEST, 3), np.uint8)).image
    start = time.perf_counter()
    with torch.inference_mode(), running_at(network, 8):
        average_probabilities(network, image[None])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{peak:.0f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
