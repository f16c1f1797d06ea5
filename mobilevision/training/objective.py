"""What a network is trained for and measured by, apart from when."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mobilevision.training.report import Report


class Loss(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: The scalar to train on.
        parts: What it is made of, by name, to be logged.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = {}


class Objective(nn.Module):
    """The loss of one task in training, and its loss and figures over a whole validation set.

    It holds what is measured, and no part of the network: several can be had for the heads of one.
    """

    def prepare(self, batch: Any) -> Any:
        """Change a batch before the network is trained on it."""
        return batch

    @abstractmethod
    def loss(self, network: Any, predictions: Any, batch: Any) -> Loss:
        """Compare what the network's head says of a prepared batch with what is true."""

    def begin(self) -> None:
        """Get ready for a validation set."""

    @abstractmethod
    def measure(self, network: Any, predictions: Any, batch: Any) -> None:
        """Take in the rows of a batch of the validation set: loss and metrics from the same pass."""

    @abstractmethod
    def conclude(self, class_names: Sequence[str]) -> Report:
        """Measure the whole set, and forget it.

        Args:
            class_names: Of all classes.
        """
