import numpy as np
import pytest
from scipy.io import savemat

from mobilevision.segmentation import sbd
from mobilevision.segmentation.masks import read_mask


def save(path, content):
    savemat(path, content)
    return path


def test_the_classes_of_a_file_of_sbd_are_read(tmp_path):
    values = np.array([[0, 15], [20, 0]], np.uint8)
    path = save(tmp_path / "a.mat", {"GTcls": {"Segmentation": values, "CategoriesPresent": [15, 20]}})
    assert sbd.read_sbd_mask(path).tolist() == values.tolist()
    assert read_mask(path, 21).tolist() == values.tolist()
    with pytest.raises(ValueError, match=r"a\.mat must hold classes 0 to 15 and 255, got 20 \(1 pixels\)"):
        read_mask(path, 16)


@pytest.mark.parametrize("content", [{"GTinst": 1}, {"GTcls": 1}, {"GTcls": {"Boundaries": 1}}])
def test_a_file_of_matlab_that_is_none_of_sbds_is_named(tmp_path, content):
    path = save(tmp_path / "a.mat", content)
    with pytest.raises(ValueError, match=r"a\.mat does not decode as a mask of SBD with GTcls\.Segmentation"):
        sbd.read_sbd_mask(path)


def test_classes_that_are_no_picture_are_refused(tmp_path):
    path = save(tmp_path / "a.mat", {"GTcls": {"Segmentation": np.zeros((2, 2))}})
    with pytest.raises(ValueError, match=r"a\.mat must hold a picture of 8-bit classes"):
        sbd.read_sbd_mask(path)


@pytest.mark.parametrize("content", [b"", b"no matlab", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mat does not decode as a mask of SBD"):
        sbd.read_sbd_mask(tmp_path / "a.mat")


def test_without_the_part_that_reads_it_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sbd, "loadmat", None)
    with pytest.raises(ValueError, match=r"pip install 'mobilevision\[sbd\]'"):
        sbd.read_sbd_mask(tmp_path / "a.mat")
