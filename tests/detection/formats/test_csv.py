import pytest

from mobilevision.detection.formats.csv import read_csv
from mobilevision.findings import raise_finding

HEADER = "path,xmin,ymin,xmax,ymax,label\n"


def read(folder, text, on_finding=raise_finding):
    path = folder / "boxes.csv"
    path.write_text(text)
    return {image.name: image.objects for image in read_csv(path, on_finding)}


@pytest.mark.parametrize("header", [HEADER, ""])
def test_a_line_is_an_object_and_a_line_without_a_box_an_image_without_objects(tmp_path, header):
    found = read(tmp_path, f'{header}a.jpg,1,2,3.5,4,kite\n"b,1.jpg",,,,,\n\na.jpg,0,0,9,9,"big, red boat"\nc.jpg\n')
    assert list(found) == ["a.jpg", "b,1.jpg", "c.jpg"]
    assert [(thing.corners, thing.label) for thing in found["a.jpg"]] == [
        ((1, 2, 3.5, 4), "kite"),
        ((0, 0, 9, 9), "big, red boat"),
    ]
    assert found["b,1.jpg"] == found["c.jpg"] == ()


def test_a_header_gives_the_order_and_may_have_more_columns(tmp_path):
    found = read(tmp_path, "﻿filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,50,60,kite,1,2,3,4\n")
    assert [(thing.corners, thing.label) for thing in found["a.jpg"]] == [((1, 2, 3, 4), "kite")]


@pytest.mark.parametrize("header", ["\n\npath;xmin;ymin;xmax;ymax;label\n", ""])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_may_stand_for_commas_and_these_for_points(tmp_path, header, delimiter):
    found = read(tmp_path, f"{header}\na,1.jpg;1,5;2;3,5;4.5;big, red boat\nb.jpg\n".replace(";", delimiter))
    (thing,) = found["a,1.jpg"]
    assert (thing.corners, thing.label) == ((1.5, 2, 3.5, 4.5), "big, red boat")
    assert found["b.jpg"] == ()


def test_an_empty_table_is_a_dataset_without_images(tmp_path):
    assert read(tmp_path, "") == read(tmp_path, HEADER) == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,1,2,x,4,kite", r"boxes\.csv: line 2: xmax must be a finite number, got 'x'"),
        ("a.jpg,1,2,inf,4,kite", "xmax must be a finite number, got 'inf'"),
        ("a.jpg,1,2,3", "ymax must be a finite number, got ''"),
        ("a.jpg,1,2,3,4,", "label must be the name of a class, got none"),
        (",1,2,3,4,kite", "line 2: path must name an image, got none"),
    ],
)
def test_a_wrong_line_is_named_and_the_rest_goes_on(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, f"{HEADER}{line}\n")
    findings = []
    found = read(tmp_path, f"{HEADER}{line}\nb.jpg,1,2,3,4,kite\n", findings.append)
    assert len(found["b.jpg"]) == 1
    assert [finding.kind for finding in findings] == ["unreadable annotation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,xmin,ymin,xmax,ymax\n", "line 1 must name the columns path, xmin, .*, label is missing"),
        ('path,xmin\n"a', r"boxes\.csv is not CSV: line 2: unexpected end of data"),
        ("\xff", "is not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    path = tmp_path / "boxes.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_csv(path, raise_finding)
