"""What ``import mobilevision`` offers."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import mobilevision


def test_every_public_name_is_there_and_says_what_it_does():
    assert dir(mobilevision) == sorted(mobilevision.__all__)
    assert mobilevision.__version__ == version("mobilevision")
    for name in mobilevision.__all__:
        thing = getattr(mobilevision, name)
        assert isinstance(thing, str) or inspect.getdoc(thing)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mobilevision' has no attribute 'resnet'"):
        _ = mobilevision.resnet


def test_importing_the_package_imports_next_to_nothing():
    code = "import sys, mobilevision; print([name for name in ('torch', 'lightning', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
