"""Table of output strides on the same weights, as Markdown: mIoU against multiply-adds and time.

    python scripts/output_stride_table.py --weights deeplabv3.tflite --root data/voc-real [--multi-scale] [--limit 16]

``--multi-scale`` adds six scales, mirrored, at output stride 8; with ``--limit`` every row is of the first images.
"""

import argparse
import logging
import time

import lightning as L
import torch

from mobilevision.complexity import count_multi_scale
from mobilevision.models import load_model
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.multi_scale import PAPER_SCALES, average_probabilities, scale_size
from mobilevision.segmentation.task import SegmentationTask

HEADER = "| output stride | scales | multiply-adds | mIoU | pixel accuracy | boundary F | seconds |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="a weights file of any known program")
    parser.add_argument("--root", required=True, help="folder VOC2012, or one that holds VOCdevkit/VOC2012")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output-strides", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--multi-scale", action="store_true", help="add six scales, mirrored, at output stride 8")
    parser.add_argument("--limit", type=int, help="number of images, all by default")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    network = load_model(given.weights)
    rows = [(output_stride, (1.0,), False) for output_stride in given.output_strides]
    if given.multi_scale:
        rows.append((8, PAPER_SCALES, True))
    print(f"{HEADER}\n|---|---|---|---|---|---|---|")
    for stride, scales, flip in rows:
        report = evaluate(network, given, stride, scales, flip)
        seconds, multiply_adds = cost(network.with_output_stride(stride), scales, flip)
        name = "1" if len(scales) == 1 else f"{len(scales)}, mirrored"
        figures = " | ".join(f"{report.figures[key]:.4f}" for key in ("miou", "pixel_accuracy", "boundary_f"))
        print(f"| {stride} | {name} | {multiply_adds / 1e9:.2f}B | {figures} | {seconds:.2f} |", flush=True)
    print(f"{report.num_images} images of {given.split}, {torch.get_num_threads()} threads")


def evaluate(network, given, stride, scales, flip):
    """Return the report of a validation."""
    task = SegmentationTask(network, eval_output_stride=stride, eval_scales=list(scales), eval_flip=flip)
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
def cost(network, scales, flip):
    """Return the seconds of the network on one image, the best of some, and the multiply-adds."""
    side = network.input_size
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    network.eval()
    seconds = []
    for _ in range(5 if len(scales) == 1 else 1):
        start = time.perf_counter()
        average_probabilities(network, images, scales, flip=flip)
        seconds.append(time.perf_counter() - start)
    sides = [scale_size((side, side), scale)[0] for scale in scales]
    return min(seconds), count_multi_scale(network, sides, flip=flip)


if __name__ == "__main__":
    main()
