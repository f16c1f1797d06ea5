"""TensorFlow's outputs, and the pictures they were computed on."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mobilevision.images import read_image

ReadPicture = Callable[[str, int], Tensor]


@pytest.fixture(scope="session")
def references(shared: Path) -> Mapping[str, np.ndarray]:
    """Arrays by ``network/picture/what``."""
    with np.load(shared / "references/references.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def read_picture(shared: Path) -> ReadPicture:
    """Give a picture of the references by name and side, as a batch of one."""

    def read(name: str, side: int) -> Tensor:
        image = read_image(shared / f"references/inputs/{name}_{side}.png")
        return torch.from_numpy(image).permute(2, 0, 1)[None]

    return read
