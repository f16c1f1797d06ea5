"""Non-maximum suppression: from scores and boxes of every anchor to the objects of an image."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mobilevision.detection.boxes import clip_boxes, pairwise_iou
from mobilevision.detection.types import PADDING, Detections, PaddedDetections

BLOCK = 128
"""Candidates that are looked at together: a block costs its square, and the first few mostly suffice."""

FETCH = 2048
"""Candidates that are sorted at first; eight times as many when they do not suffice."""

PLACES = 4
"""Candidates for each anchor that is looked at: one may be of several of many classes."""

MANY_PAIRS = 8
"""Where one in so many pairs is of one class, measuring all of them takes less time than picking those out."""

INDEX_BITS = 32
INDEX_MASK = (1 << INDEX_BITS) - 1
NO_CANDIDATE = -1


def select_detections(
    boxes: Float[Tensor, "B A 4"],
    scores: Float[Tensor, "B A C"],
    *,
    score_threshold: float = 1e-8,
    iou_threshold: float = 0.6,
    max_per_class: int = 100,
    max_per_image: int = 100,
) -> PaddedDetections:
    """Return the best boxes above a score, without those that overlap a better one of their class.

    The result is that of going through each class's boxes by falling score, of equal scores the lower anchor first, and
    keeping those that overlap no kept one by more than ``iou_threshold``; then of merging the classes by falling score,
    of equal scores the lower class first. Greedy suppression never looks back, so all classes are gone through at once,
    block by block from the best score on, until every image is full or has no candidate left.

    Args:
        boxes: In pixels, one for each anchor.
        scores: At least 0; NaN is below every threshold.
        score_threshold: Boxes that do not score more are no candidates.
        iou_threshold: The largest intersection over union of two boxes of a class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most.

    Returns:
        As many columns as the fullest image has detections.

    Raises:
        ValueError: ``score_threshold`` is below 0, ``iou_threshold`` not in [0, 1], or a maximum below 1.

    Reference: TensorFlow Object Detection API, ``post_processing.py``; the arithmetic of the overlap is that of
    ``torchvision.ops.nms``.
    """
    _check_options(score_threshold, iou_threshold, max_per_class, max_per_image)
    scores = scores.float()
    num_anchors, num_classes = scores.shape[1:]
    # Every candidate that may be among the best is at one of the anchors with the best scores.
    best = scores.amax(dim=2) if num_classes else scores.new_zeros(len(scores), num_anchors)
    num_reached = int((~(best <= score_threshold)).sum(dim=1).amax()) if best.numel() else 0
    fetched = FETCH
    while True:
        num_places = min(num_reached, fetched // PLACES)
        ranked = _rank(scores, best, num_places, fetched, score_threshold, everywhere=num_places == num_reached)
        kept = _suppress(ranked, boxes, iou_threshold, max_per_class, max_per_image)
        if num_places == num_reached and ranked.shape[1] < fetched:
            return kept
        full = (kept.labels != PADDING).sum(dim=1) >= max_per_image
        if num_places == num_reached:
            full |= ranked[:, -1] == NO_CANDIDATE
        if bool(full.all()):
            return kept
        fetched *= 8


def clip_detections(detections: PaddedDetections, input_size: int) -> PaddedDetections:
    """Clip boxes to the network's input and drop those that end without area."""
    boxes = clip_boxes(detections.boxes, input_size, input_size)
    sides = boxes[..., 2:] - boxes[..., :2]
    labels = detections.labels.masked_fill((sides <= 0).any(dim=-1), PADDING)
    nothing = PaddedDetections(boxes[:, :0], detections.scores[:, :0], labels[:, :0])
    return _compact(nothing, PaddedDetections(boxes, detections.scores, labels), labels.shape[1])


def rescale_detections(
    detections: PaddedDetections, sizes: Int64[Tensor, "B 2"], input_size: int
) -> tuple[Detections, ...]:
    """Return each image's detections, boxes in pixels of the file; ``sizes`` are (height, width)."""
    scales = (sizes.to(detections.boxes.dtype) / input_size)[:, None, [1, 0, 1, 0]]
    boxes = detections.boxes * scales
    counts = (detections.labels != PADDING).sum(dim=1).tolist()
    return tuple(
        Detections(image_boxes[:count], scores[:count], labels[:count])
        for image_boxes, scores, labels, count in zip(boxes, detections.scores, detections.labels, counts, strict=True)
    )


def _check_options(score_threshold: float, iou_threshold: float, max_per_class: int, max_per_image: int) -> None:
    if not score_threshold >= 0:
        raise ValueError(f"score_threshold must be at least 0, got {score_threshold}")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in [0, 1], got {iou_threshold}")
    for name, value in (("max_per_class", max_per_class), ("max_per_image", max_per_image)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _rank(
    scores: Float[Tensor, "B A C"],
    best: Float[Tensor, "B A"],
    num_places: int,
    most: int,
    score_threshold: float,
    *,
    everywhere: bool,
) -> Int64[Tensor, "B K"]:
    """Return sorted candidates at the ``num_places`` best anchors, ``most`` at most, where no other is before them."""
    num_anchors, num_classes = scores.shape[1:]
    bounds, places = best.topk(num_places, dim=1)
    first = torch.arange(len(scores), device=scores.device)[:, None] * num_anchors
    # Row by row, which gather would do number by number.
    found = scores.flatten(0, 1).index_select(0, (places + first).flatten()).view(*places.shape, num_classes)
    # What is not above all that was left out may come later than some of it.
    above = found > score_threshold if everywhere else found > bounds[:, -1:, None].clamp(min=score_threshold)
    # Few are candidates, as a rule: from here on there is nothing else.
    images, rows, classes = above.nonzero(as_tuple=True)
    keys = _sort_keys(found[images, rows, classes], classes * num_anchors + places[images, rows])
    counts = images.bincount(minlength=len(scores))
    columns = torch.arange(len(keys), device=keys.device) - (counts.cumsum(0) - counts)[images]
    ranked = keys.new_full((len(scores), int(counts.amax()) if len(keys) else 0), NO_CANDIDATE)
    ranked[images, columns] = keys
    return ranked.topk(min(most, ranked.shape[1]), dim=1).values


def _sort_keys(scores: Float[Tensor, " M"], places: Int64[Tensor, " M"]) -> Int64[Tensor, " M"]:
    # Floats of one sign compare as their bits do. With the place in the low half no two keys are equal, so that
    # sorting has one result, whatever the device.
    return scores.view(torch.int32).long().bitwise_left_shift_(INDEX_BITS).add_(INDEX_MASK - places)


def _suppress(
    ranked: Int64[Tensor, "B K"],
    boxes: Float[Tensor, "B A 4"],
    iou_threshold: float,
    max_per_class: int,
    max_per_image: int,
) -> PaddedDetections:
    """Suppress block by block until every image is full or has no candidate left."""
    batch, num_ranked = ranked.shape
    kept = PaddedDetections(boxes.new_zeros(batch, 0, 4), boxes.new_zeros(batch, 0), ranked.new_zeros(batch, 0))
    # The limit of an image comes first.
    max_per_class = max_per_class if max_per_class < max_per_image else num_ranked
    for start in range(0, num_ranked, BLOCK):
        keys = ranked[:, start : start + BLOCK]
        block = _candidates(keys, boxes)
        new = _survivors(kept, block, iou_threshold, max_per_class)
        kept = _compact(kept, block._replace(labels=block.labels.masked_fill(~new, PADDING)), max_per_image)
        full = (kept.labels != PADDING).sum(dim=1) >= max_per_image
        if bool((full | (keys[:, -1] == NO_CANDIDATE)).all()):
            break
    return kept


def _candidates(keys: Int64[Tensor, "B K"], boxes: Float[Tensor, "B A 4"]) -> PaddedDetections:
    num_anchors = boxes.shape[1]
    exists = keys != NO_CANDIDATE
    places = (INDEX_MASK - (keys & INDEX_MASK)).masked_fill_(~exists, 0)
    scores = (keys >> INDEX_BITS).to(torch.int32).view(torch.float32)
    anchors = (places % num_anchors)[..., None].expand(-1, -1, 4)
    labels = (places // num_anchors).masked_fill_(~exists, PADDING)
    return PaddedDetections(boxes.gather(1, anchors), scores, labels)


def _survivors(
    kept: PaddedDetections, block: PaddedDetections, iou_threshold: float, max_per_class: int
) -> Bool[Tensor, "B K"]:
    exists = block.labels != PADDING
    same_as_kept = (block.labels[:, :, None] == kept.labels[:, None, :]) & exists[:, :, None]
    images, places, _ = _overlapping(block, kept, same_as_kept, iou_threshold)
    open_still = _without(exists, images, places)

    earlier = torch.ones(exists.shape[1], exists.shape[1], dtype=torch.bool, device=exists.device).tril(-1)
    same = (block.labels[:, :, None] == block.labels[:, None, :]) & earlier & open_still[:, :, None]
    images, places, better = _overlapping(block, block, same, iou_threshold)
    survives = open_still
    while True:
        # Every round settles at least one more candidate behind those that are settled; a few rounds settle all.
        suppresses = survives[images, better]
        settled = _without(open_still, images[suppresses], places[suppresses])
        if torch.equal(settled, survives):
            break
        survives = settled
    if max_per_class >= kept.labels.shape[1] + exists.shape[1]:
        return survives
    rank_in_class = same_as_kept.sum(dim=2) + (same & survives[:, None, :]).sum(dim=2)
    return survives & (rank_in_class < max_per_class)


def _overlapping(
    first: PaddedDetections, second: PaddedDetections, related: Bool[Tensor, "B N M"], iou_threshold: float
) -> tuple[Int64[Tensor, " P"], Int64[Tensor, " P"], Int64[Tensor, " P"]]:
    """Return the pairs that overlap among those that are related."""
    threshold = _round_down(iou_threshold)
    if int(related.sum()) * MANY_PAIRS > related.numel():
        related = related & (pairwise_iou(first.boxes, second.boxes) > threshold)
        images, rows, columns = related.nonzero(as_tuple=True)
        return images, rows, columns
    # Of many classes few pairs are of one class.
    images, rows, columns = related.nonzero(as_tuple=True)
    overlaps = pairwise_iou(first.boxes[images, rows, None], second.boxes[images, columns, None]).flatten()
    above = (overlaps > threshold).nonzero()[:, 0]
    return images[above], rows[above], columns[above]


def _without(
    mask: Bool[Tensor, "B N"], images: Int64[Tensor, " P"], places: Int64[Tensor, " P"]
) -> Bool[Tensor, "B N"]:
    rest = mask.clone()
    rest[images, places] = False
    return rest


def _round_down(threshold: float) -> float:
    """Return the largest float32 that is not above ``threshold``: what is above the one is above the other.

    A comparison would round it to the nearest. Then the 3 / 5 of two boxes on whole pixels were not above 0.6, as it is
    in torchvision's kernel, which compares in double precision.
    """
    nearest = torch.tensor(threshold, dtype=torch.float32)
    below = torch.nextafter(nearest, torch.tensor(-math.inf))
    return float(nearest if nearest.item() <= threshold else below)


def _compact(first: PaddedDetections, second: PaddedDetections, most: int) -> PaddedDetections:
    """Concatenate both, padding last, and cut to ``most`` and to what the fullest image needs."""
    boxes, scores, labels = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    is_padding = labels == PADDING
    fullest = int((~is_padding).sum(dim=1).max()) if labels.numel() else 0
    order = torch.argsort(is_padding.to(torch.uint8), dim=1, stable=True)[:, : min(most, fullest)]
    padding = is_padding.gather(1, order)
    return PaddedDetections(
        boxes.gather(1, order[..., None].expand(-1, -1, 4)).masked_fill(padding[..., None], 0.0),
        scores.gather(1, order).masked_fill(padding, 0.0),
        labels.gather(1, order),
    )
