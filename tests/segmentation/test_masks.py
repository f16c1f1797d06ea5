import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mobilevision.segmentation import masks
from mobilevision.segmentation.class_table import read_class_table
from mobilevision.segmentation.masks import read_mask, read_sbd_mask


@pytest.fixture
def read_table(tmp_path):
    def read(text):
        (tmp_path / "classes.csv").write_text(text)
        return read_class_table(tmp_path / "classes.csv")

    return read


def test_palette_indices_are_the_classes(tmp_path):
    values = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(values).convert("P")
    image.putdata(values.flatten().tolist())
    image.putpalette([7, 7, 7] * 256)
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as saved:
        assert saved.mode == "P"
    assert read_mask(tmp_path / "mask.png", 21).tolist() == values.tolist()


def test_gray_values_are_the_classes(tmp_path, save):
    assert read_mask(save(tmp_path / "mask.png", [[3, 255, 0]]), 4).tolist() == [[3, 255, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_a_color_image_is_no_mask_and_the_message_says_what_to_do(tmp_path, save, mode):
    path = save(tmp_path / "mask.tif", [[[0, 0, 0], [0, 1, 0]]], mode)
    with pytest.raises(ValueError, match=rf"mask\.tif must be .* got mode {mode}: .* data\.class_table"):
        read_mask(path, 21)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_gray_that_is_stored_as_colors_is_read_as_gray(tmp_path, save, read_table, mode):
    path = save(tmp_path / "mask.png", [[0, 2, 255]], mode)
    assert read_mask(path, 3).tolist() == [[0, 2, 255]]
    assert read_mask(path, 2, table=read_table("name,id\na,0\nb,2\n")).tolist() == [[0, 1, 255]]


def test_one_bit_holds_two_classes(tmp_path, save):
    mask = read_mask(save(tmp_path / "mask.png", [[0, 255]], "1"), 2)
    assert (mask.tolist(), mask.dtype) == ([[0, 1]], np.uint8)


def test_a_value_that_is_no_class_is_named(tmp_path, save):
    path = save(tmp_path / "mask.png", [[0, 21, 255, 22]])
    with pytest.raises(ValueError, match=r"mask\.png must hold classes 0 to 20 and 255, got 21 \(2 pixels\)"):
        read_mask(path, 21)


def test_where_every_pixel_needs_a_class_255_is_none(tmp_path, save):
    path = save(tmp_path / "mask.png", [[0, 20, 255]])
    with pytest.raises(ValueError, match=r"must hold classes 0 to 20, got 255 \(1 pixels\)"):
        read_mask(path, 21, ignored=False)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n half"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"mask\.png does not decode as a mask"):
        read_mask(tmp_path / "mask.png", 21)


def test_half_a_mask_is_named(tmp_path, save):
    path = save(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 20, (64, 64)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"mask\.png does not decode as a mask"):
        read_mask(path, 21)


def test_numbers_stand_for_what_the_table_says(tmp_path, save, read_table):
    table = read_table("name,id\nroad,7\n,0\ncar,26\nroad,8\n")
    path = save(tmp_path / "mask.png", [[0, 7, 8, 26, 255]])
    assert read_mask(path, 2, table=table).tolist() == [[255, 0, 0, 1, 255]]


def test_numbers_of_16_bits_are_classes_or_the_tables(tmp_path, read_table):
    Image.fromarray(np.array([[300, 5]], np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"must hold classes 0 to 5 and 255, got 300 \(1 pixels\)"):
        read_mask(tmp_path / "mask.png", 6)
    assert read_mask(tmp_path / "mask.png", 2, table=read_table("name,id\na,5\nb,300\n")).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match=r"must hold colors, .* got numbers of mode I;16"):
        read_mask(tmp_path / "mask.png", 1, table=read_table("name,r,g,b\na,5,5,5\n"))
    Image.fromarray(np.array([[4, 255]], np.uint16)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", 5).tolist() == [[4, 255]]


def test_colors_stand_for_what_the_table_says(tmp_path, save, read_table):
    table = read_table("name,r,g,b\nground,0,0,0\ntree,0,128,0\n,224,224,192\n")
    path = save(tmp_path / "mask.png", [[[0, 128, 0], [0, 0, 0], [224, 224, 192]]])
    assert read_mask(path, 2, table=table).tolist() == [[1, 0, 255]]


def test_a_palette_has_colors_too(tmp_path, read_table):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([9, 9, 9, 1, 2, 3])
    image.save(tmp_path / "mask.png")
    table = read_table("name,r,g,b\na,1,2,3\nb,9,9,9\n")
    assert read_mask(tmp_path / "mask.png", 2, table=table).tolist() == [[1, 0]]


def test_what_is_not_in_the_table_is_named(tmp_path, save, read_table):
    colors = save(tmp_path / "colors.png", [[[0, 128, 0], [1, 2, 3], [1, 2, 3]]])
    with pytest.raises(ValueError, match=r"colors\.png must hold what .* lists, got color 1,2,3 \(2 pixels\)"):
        read_mask(colors, 1, table=read_table("name,r,g,b\ntree,0,128,0\n"))
    numbers = save(tmp_path / "numbers.png", [[5, 6]])
    with pytest.raises(ValueError, match=r"numbers\.png must hold what .* lists, got id 6 \(1 pixels\)"):
        read_mask(numbers, 1, table=read_table("name,id\ntree,5\n"))


def test_255_may_be_a_class(tmp_path, save, read_table):
    path = save(tmp_path / "mask.png", [[0, 255]])
    assert read_mask(path, 2, table=read_table("name,id\nground,0\nobject,255\n")).tolist() == [[0, 1]]


@pytest.mark.parametrize("name", ["mask.png", "mask.mat"])
def test_a_missing_mask_is_a_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / name, 2)


def test_the_classes_of_a_file_of_sbd_are_read(tmp_path):
    values, path = np.array([[0, 15], [20, 0]], np.uint8), tmp_path / "a.mat"
    savemat(path, {"GTcls": {"Segmentation": values, "CategoriesPresent": [15, 20]}})
    assert read_mask(path, 21).tolist() == values.tolist()
    with pytest.raises(ValueError, match=r"a\.mat must hold classes 0 to 15 and 255, got 20 \(1 pixels\)"):
        read_mask(path, 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"GTinst": 1}, r"a\.mat does not decode as a mask of SBD with GTcls\.Segmentation"),
        ({"GTcls": 1}, r"a\.mat does not decode as a mask of SBD"),
        ({"GTcls": {"Boundaries": 1}}, r"a\.mat does not decode as a mask of SBD"),
        ({"GTcls": {"Segmentation": np.zeros((2, 2))}}, r"a\.mat must hold an array of 8-bit classes"),
    ],
)
def test_another_file_of_matlab_is_named(tmp_path, content, message):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(ValueError, match=message):
        read_sbd_mask(tmp_path / "a.mat")


@pytest.mark.parametrize("content", [b"", b"no matlab", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_a_broken_file_of_matlab_is_named(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mat does not decode as a mask of SBD"):
        read_sbd_mask(tmp_path / "a.mat")


def test_without_the_optional_dependency_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(masks, "loadmat", None)
    with pytest.raises(ValueError, match=r"pip install 'mobilevision\[sbd\]'"):
        read_sbd_mask(tmp_path / "a.mat")
