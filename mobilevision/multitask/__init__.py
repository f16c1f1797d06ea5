"""The joint network: several heads on one backbone."""

from mobilevision.multitask.model import MultiTaskNetwork, multitask_mobilenet_v2

__all__ = ["MultiTaskNetwork", "multitask_mobilenet_v2"]
