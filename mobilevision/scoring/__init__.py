"""Measure anybody's results with the official protocols."""

from mobilevision.scoring.coco import score_coco
from mobilevision.scoring.voc import score_voc

__all__ = ["score_coco", "score_voc"]
