"""Several heads on one backbone: the networks, and training from several datasets."""

from mobilevision.multitask.heads import multitask_mobilenet_v2

__all__ = ["multitask_mobilenet_v2"]
