"""The evaluation of a whole dataset: the same figures on any number of processes and with any batch size."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors


class Report(NamedTuple):
    """Figures of one evaluation.

    Attributes:
        figures: Name to value, as logged but without the split: ``map``, ``miou``, ``top1``, ``loss``.
        per_class: Class name to its figures. A figure that a class does not have is NaN.
        num_images: Images that were evaluated.
        details: Under which conditions the figures were measured, as plain JSON values by name.
    """

    figures: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    num_images: int
    details: Mapping[str, Any] = {}


class Evaluator(Metric):
    """Evaluator of one task: a row of numbers for every image in, figures of the whole dataset out.

    The rows of all processes are gathered, repeats of a distributed sampler dropped, and what is left is sorted by
    image, on the CPU. Figures that are computed from these rows with sums whose order is fixed do not depend on how
    many processes there are, nor on how the images came in batches.

    Args:
        num_classes: Classes of the data.
        class_names: Their names, or none. They may be changed later.
        columns: For each number of a row, by name, the shape of its values for one image and their type.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] = (),
        *,
        columns: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    ) -> None:
        # Rows are gathered where they are asked for: figures and analysis need the same.
        super().__init__(sync_on_compute=False)
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self._columns = {"positions": ((), torch.int64), **columns}
        for name in self._columns:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where there are no names."""
        return self.class_names or tuple(map(str, range(self.num_classes)))

    @abstractmethod
    def update(self, outputs: Any, batch: Any) -> None:
        """Add the images of a batch.

        Args:
            outputs: Of the task's head.
            batch: Of the task's validation or test split.
        """

    @abstractmethod
    def compute(self) -> Report:
        """Return the figures over all images; with several processes every one of them must call it."""

    def analyze(self) -> dict[str, Any]:
        """Return what explains the figures, as plain JSON values; with several processes every one must call it."""
        return {}

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        # torchmetrics would look for tensors among all values of a report: with a thousand classes this takes longer
        # than computing them.
        return compute

    def add_rows(self, positions: Int64[Tensor, " B"], **columns: Shaped[Tensor, "B ..."]) -> None:
        """Add a row for each image of a batch.

        Args:
            positions: The images' places in the dataset.
            columns: All of the columns by name, each with a value for every image.
        """
        for name, values in ({"positions": positions} | columns).items():
            getattr(self, name).append(values.detach().to(self.device))

    def rows(self) -> dict[str, Tensor]:
        """Return the columns by name, ``positions`` first, with one row for each image, sorted by position.

        They are on the CPU. With several processes every one of them must call it, and gets all rows.
        """
        columns = [gather_rows(self._concatenate(name), self.device) for name in self._columns]
        return dict(zip(self._columns, distinct_rows(*columns), strict=True))

    def _concatenate(self, name: str) -> Tensor:
        shape, dtype = self._columns[name]
        # A process may have no image.
        return torch.cat([torch.empty(0, *shape, dtype=dtype, device=self.device), *getattr(self, name)])


def distinct_rows(indices: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Return rows sorted by their image's index, the first of those that repeat.

    Args:
        indices: ``[N]`` int64, the image of each row.
        columns: ``[N, ...]`` each.

    Returns:
        ``indices`` and ``columns`` with one row per image.

    >>> distinct_rows(torch.tensor([2, 0, 2]), torch.tensor([5.0, 1.0, 5.0]))
    (tensor([0, 2]), tensor([1., 5.]))
    """
    order = torch.argsort(indices, stable=True)
    ordered = indices[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    kept = order[first]
    return indices[kept], *(column[kept] for column in columns)


def mean_loss(sums: Float[Tensor, " N"], counts: Shaped[Tensor, " N"]) -> float:
    """Return the loss of a dataset: all images' losses over all that counted in them; 0 where nothing counted.

    The sum is rounded once, so that its order does not matter.

    Args:
        sums: Each image's summed loss.
        counts: What counted in it: pixels, matched anchors, or 1 for the image itself.

    >>> mean_loss(torch.tensor([6.0, 1.0]), torch.tensor([3, 0]))
    2.3333333333333335
    """
    return math.fsum(sums.tolist()) / max(1.0, math.fsum(counts.tolist()))


def mean_per_class(labels: Int64[Tensor, " N"], values: Shaped[Tensor, " N"], num_classes: int) -> Float[Tensor, " C"]:
    """Return the mean of the values of each class in double precision; NaN for a class without values.

    They are added in their order, whatever the number of threads.

    >>> mean_per_class(torch.tensor([0, 0, 2]), torch.tensor([1.0, 0.5, 3.0]), num_classes=3)
    tensor([0.7500,    nan, 3.0000], dtype=torch.float64)
    """
    sums = torch.bincount(labels, weights=values.double(), minlength=num_classes)
    return sums / torch.bincount(labels, minlength=num_classes)


def gather_rows(rows: Tensor, device: torch.device) -> Tensor:
    """Return the rows of all processes, on the CPU; every one of them must call it.

    Args:
        rows: Of this process, any number of them.
        device: The device that the processes exchange tensors from.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows.cpu()
    return torch.cat(gather_all_tensors(rows.to(device))).cpu()
