"""Fixtures that several rooms' tests need."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

# How long an example takes is the machine's affair.
settings.register_profile("mobilevision", deadline=None)
settings.load_profile("mobilevision")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, trained weights and reference outputs that the tests compare with."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("MOBILEVISION_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set MOBILEVISION_SHARED to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Draw the same numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def settle() -> Callable[[nn.Module], nn.Module]:
    """Give a fresh network the running statistics of noise, without which everything it computes is next to 0."""

    def settle(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.momentum = 1.0
        with torch.no_grad():
            network.train()(torch.rand(2, 3, 96, 96))
        return network.eval()

    return settle
