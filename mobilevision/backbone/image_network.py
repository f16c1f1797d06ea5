"""What every network that takes images has in common, whatever it says of them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mobilevision.backbone.mobilenet_v2 import MobileNetV2
from mobilevision.backbone.normalization import Normalization

Scalar = bool | int | float | str | None | list[float] | tuple[str, ...] | dict[str, dict[str, Any]]
"""An option, as JSON has it; of a joint network also those of its heads, by head."""


class ImageNetwork(nn.Module):
    """A backbone behind its normalisation and before a head, with a description from which it can be built again.

    Args:
        backbone: Computes the taps that the heads read.
        normalization: Applied to the images first.
        input_size: The side of the images it is made for, in pixels.
        model_name: The name under which ``get_model`` builds it.
        options: The scalars to build it with, ``num_classes`` among them.
    """

    taps: ClassVar[tuple[str, ...]]
    """The maps of the backbone that the head takes, in this order."""

    head: nn.Module

    def __init__(
        self,
        backbone: MobileNetV2,
        normalization: Normalization,
        *,
        input_size: int,
        model_name: str,
        options: Mapping[str, Scalar],
    ) -> None:
        super().__init__()
        self.normalization = normalization
        self.backbone = backbone
        self.input_size = input_size
        self.model_name = model_name
        # As JSON gives them back.
        self._options: dict[str, Scalar] = {
            name: list(cast(Any, value)) if isinstance(value, tuple) else value for name, value in options.items()
        }
        self.class_names: tuple[str, ...] = ()
        """As many names as classes, or none."""
        self.own_output_stride: int | None = None
        """At which stride it reads a backbone that others read too; the backbone's where None."""

        self.members: dict[str, ImageNetwork] = {}
        """The networks it is put together from, with one backbone for all of them; a single one has none."""

    @property
    def options(self) -> dict[str, Scalar]:
        """The scalars to build it with."""
        return self._options

    def take_options(self, options: Mapping[str, Scalar]) -> None:
        """Take over what comes with weights."""
        self._options.update(options)

    @property
    def num_classes(self) -> int:
        """The classes a person can name; a segmenter counts the background among them, a detector does not."""
        num_classes = self.options["num_classes"]
        assert isinstance(num_classes, int)
        return num_classes

    @property
    def output_stride(self) -> int:
        """The stride at which the backbone runs for it."""
        return self.backbone.output_stride if self.own_output_stride is None else self.own_output_stride

    def compute_taps(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Give the maps that the head takes."""
        return tuple(self.backbone(self.normalization(images), self.taps, self.output_stride).values())

    def run_head(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> Any:
        """Give what the head says as it is trained on: a segmenter's logits at the output stride."""
        return self.head(*self.compute_taps(images))

    @abstractmethod
    def extract_feat(self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Give the feature maps that the head reads, for use in another project."""
