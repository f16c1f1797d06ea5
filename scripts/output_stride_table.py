"""What an output stride costs and brings on the same weights: mIoU against multiply-adds and time, as a Markdown table.

    python scripts/output_stride_table.py --weights deeplabv3.tflite --root data/voc-real [--multi-scale] [--limit 16]

``--multi-scale`` adds six scales, mirrored, at output stride 8; with ``--limit`` every row is of the first pictures.
"""

import argparse
import logging
import time

import lightning as L
import torch
from mobilevision.segmentation.deeplabv3 import DeepLabV3

from mobilevision.complexity import count_multi_scale, measure
from mobilevision.models import load_model
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.multi_scale import PAPER_SCALES, average_probabilities, running_at
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.weights.file import load_network

HEADER = "| output stride | scales | multiply-adds | mIoU | pixel accuracy | boundary F | seconds |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="a file of weights of any kind that is understood")
    parser.add_argument("--root", required=True, help="folder VOC2012, or one that holds VOCdevkit/VOC2012")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output-strides", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--multi-scale", action="store_true", help="add six scales, mirrored, at output stride 8")
    parser.add_argument("--limit", type=int, help="number of pictures, all by default")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    network = load_model(given.weights)
    assert isinstance(network, DeepLabV3)
    rows = [(output_stride, (1.0,), False) for output_stride in given.output_strides]
    if given.multi_scale:
        rows.append((8, PAPER_SCALES, True))
    print(f"{HEADER}\n|---|---|---|---|---|---|---|")
    for stride, scales, flip in rows:
        report = evaluate(network, given, stride, scales, flip)
        seconds, multiply_adds = cost(network, stride, scales, flip)
        name = "1" if len(scales) == 1 else f"{len(scales)}, mirrored"
        figures = " | ".join(f"{report.figures[key]:.4f}" for key in ("miou", "pixel_accuracy", "boundary_f"))
        print(f"| {stride} | {name} | {multiply_adds / 1e9:.2f}B | {figures} | {seconds:.2f} |", flush=True)
    print(f"{report.num_images} pictures of {given.split}, {torch.get_num_threads()} threads")


def evaluate(network, given, stride, scales, flip):
    """Measure the figures."""
    options = {key: network.options[key] for key in ("head", "width_mult", "padding")}
    task = SegmentationTask(
        network.num_classes, eval_output_stride=stride, eval_scales=list(scales), eval_flip=flip, **options
    )
    load_network(task.network, given.weights)
    data = VocDataModule(given.root, val_split=given.split, batch_size=1, num_workers=0)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=given.limit,
    )
    trainer.validate(task, data, verbose=False)
    return task.report


@torch.inference_mode()
def cost(network, stride, scales, flip):
    """Give the seconds that the network takes for a picture in its square, the best of some, and the multiply-adds."""
    images = torch.randint(0, 256, (1, 3, network.input_size, network.input_size), dtype=torch.uint8)
    network.eval()
    seconds = []
    with running_at(network, stride):
        for _ in range(5 if len(scales) == 1 else 1):
            start = time.perf_counter()
            average_probabilities(network, images, scales, flip=flip)
            seconds.append(time.perf_counter() - start)
        if len(scales) == 1:
            return min(seconds), measure(network).multiply_adds
        return min(seconds), count_multi_scale(network, scales=scales, flip=flip)


if __name__ == "__main__":
    main()
