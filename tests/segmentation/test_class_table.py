import numpy as np
import pytest

from mobilevision.segmentation.class_table import pack_colors, read_class_table


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "classes.csv"
        path.write_text(text)
        return path

    return write


def test_classes_come_in_the_order_of_their_first_rows(write):
    table = read_class_table(write("name,id\nroad,9\ncar,3\nroad,1\n,0\n"))
    assert table.names == ("road", "car")
    assert table.codes.tolist() == [0, 1, 3, 9]
    assert table.labels.tolist() == [255, 0, 1, 0]
    assert not table.colored


def test_columns_may_come_in_any_order_with_spaces(write):
    table = read_class_table(write("b, g, r, name\n3, 2, 1, tree\n"))
    assert table.colored
    assert table.to_labels(pack_colors(np.array([[[1, 2, 3]]], np.uint8))).tolist() == [[0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"classes\.csv must begin with name,id or name,r,g,b, got $"),
        ("road,7\n", r"must begin with name,id or name,r,g,b, got road,7"),
        ("name,id\nroad,x\n", r"line 2: id must be a whole number from 0 to 65535, got 'x'"),
        ("name,id\nroad\n", r"line 2: id must be a whole number from 0 to 65535, got ''"),
        ("name,r,g,b\nroad,0,0,256\n", r"line 2: b must be a whole number from 0 to 255, got '256'"),
        ("name,id\nroad,7\ncar,7\n", r"line 3: car,7 has a class already"),
        ("name,id\n,7\n", r"must name 1 to 255 classes, got 0"),
        ("name,id\n" + "".join(f"c{index},{index}\n" for index in range(256)), r"must name 1 to 255 classes, got 256"),
    ],
)
def test_what_is_no_table_is_named_with_its_line(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_class_table(write(text))


def test_a_missing_table_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_class_table(tmp_path / "none.csv")
