"""Measure the predictions of any program with the official protocols."""

from mobilevision.scoring.coco import score_coco, score_coco_in_detail
from mobilevision.scoring.voc import score_voc

__all__ = ["score_coco", "score_coco_in_detail", "score_voc"]
