"""What ``import mobilevision`` offers."""

from importlib.metadata import version

import pytest

import mobilevision


def test_every_public_name_is_there_and_has_a_docstring_of_its_own():
    assert dir(mobilevision) == sorted(mobilevision.__all__)
    assert mobilevision.__version__ == version("mobilevision")
    for name in set(mobilevision.__all__) - {"__version__"}:
        # Not the one that a class inherits or a dataclass writes.
        own = getattr(mobilevision, name).__doc__
        assert own
        assert not own.startswith(f"{name}("), name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mobilevision' has no attribute 'resnet'"):
        _ = mobilevision.resnet
