"""Measure a folder of predicted masks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from mobilevision.segmentation.boundary import boundary_f_scores
from mobilevision.segmentation.evaluator import confusion_matrix, mean_boundary_f, mean_iou
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.voc import VOC_CLASSES, VocLayout, find_files

NUM_THREADS = 8


def score_voc(root: Path, split: str, predictions: Path) -> dict[str, float]:
    """Compute VOC 2012's figures of predicted masks: one confusion matrix over the split, at the size of each mask.

    Args:
        root: The folder ``VOC2012``, or one that holds ``VOCdevkit/VOC2012``; its images are not needed.
        split: Name of a list in ``ImageSets/Segmentation``.
        predictions: Folder with a PNG mask of the same name for each id of the split.

    Returns:
        ``miou``, the mean over the classes present; ``miou_voc``, the mean over all classes, which is NaN where one is
        absent; ``pixel_accuracy``; ``boundary_f``; and ``iou/<class>`` and ``boundary_f/<class>`` of each class, which
        are NaN for a class that is neither in the ground truth nor in the predictions.

    Raises:
        FileNotFoundError: The split, its masks or predictions are missing; the message counts and names them.
        ValueError: A mask is not a palette or gray PNG, differs in size from the ground truth, or has a value that is
            not a class.
    """
    truths = VocLayout(root).find_masks(split)
    if not predictions.is_dir():
        raise FileNotFoundError(f"folder of predictions not found: {predictions}")
    predicted = find_files(predictions, list(truths), ".png")
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        confusions, scores = zip(*pool.map(_compare, truths.values(), predicted), strict=True)
    iou = mean_iou(torch.stack(confusions).sum(dim=0))
    boundary_f = mean_boundary_f(torch.from_numpy(np.stack(scores)))
    return {
        "miou": float(iou.miou),
        "miou_voc": float(iou.miou_voc),
        "pixel_accuracy": float(iou.pixel_accuracy),
        "boundary_f": float(boundary_f.mean),
        **{f"iou/{name}": value for name, value in zip(VOC_CLASSES, iou.per_class.tolist(), strict=True)},
        **{f"boundary_f/{name}": value for name, value in zip(VOC_CLASSES, boundary_f.per_class.tolist(), strict=True)},
    }


def _compare(truth: Path, predicted: Path) -> tuple[Int64[Tensor, "C C"], Float32[np.ndarray, " C"]]:
    num_classes = len(VOC_CLASSES)
    mask = torch.from_numpy(read_mask(truth, num_classes))
    guess = torch.from_numpy(read_mask(predicted, num_classes, ignored=False))
    if guess.shape != mask.shape:
        (height, width), (given_height, given_width) = mask.shape, guess.shape
        raise ValueError(f"{predicted} must be as large as {truth}, {width}x{height}, got {given_width}x{given_height}")
    return confusion_matrix(guess, mask, num_classes), boundary_f_scores(guess.numpy(), mask.numpy(), num_classes)
