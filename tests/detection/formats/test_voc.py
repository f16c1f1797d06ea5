import pytest

from mobilevision.detection.formats.voc import read_voc
from mobilevision.findings import raise_finding

OBJECT = (
    "<object><name>kite</name>{difficult}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    "</bndbox></object>"
)
BOMB = (
    '<!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
FILE_READER = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]><annotation><filename>&secret;</filename></annotation>'


def read(folder, text, on_finding=raise_finding):
    (folder / "a.xml").write_text(text)
    return read_voc(folder, folder, on_finding)


def annotation(*corners, difficult="", size="<size><width>500</width><height>300</height></size>"):
    return f"<annotation>{size}{OBJECT.format(*corners, difficult=difficult)}</annotation>"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        # The whole image, and its first pixel.
        ((1, 1, 500, 300), (0, 0, 500, 300)),
        ((1, 1, 1, 1), (0, 0, 1, 1)),
        ((48, 240, 195, 371), (47, 239, 195, 371)),
        # A program that counts from 0.
        ((0, 0, 10, 20), (0, 0, 10, 20)),
        (("45.70", "1.5", "97.40", "20"), (44.70, 0.5, 97.40, 20)),
        ((-5, 3, 10, 20), (-6, 2, 10, 20)),
    ],
)
def test_coordinates_count_from_one(tmp_path, written, expected):
    (image,) = read(tmp_path, annotation(*written))
    assert image.objects[0].corners == pytest.approx(expected)
    assert image.size == (300, 500)


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("", False),
        ("<difficult/>", False),
        ("<difficult>0</difficult>", False),
        ("<difficult> False </difficult>", False),
        ("<difficult>1</difficult>", True),
        ("<difficult>TRUE</difficult>", True),
    ],
)
def test_difficult_objects_are_ignored(tmp_path, text, ignored):
    (image,) = read(tmp_path, annotation(1, 1, 5, 5, difficult=text))
    assert image.objects[0].ignored is ignored


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
def test_a_missing_size_is_left_to_the_images_own_file(tmp_path, size):
    (image,) = read(tmp_path, annotation(1, 1, 5, 5, size=size))
    assert image.size is None


def test_an_image_has_the_name_of_its_xml_file_or_the_one_written_in_it(tmp_path):
    text = "<annotation><filename>C.JPG</filename></annotation>"
    assert [image.name for image in read(tmp_path, text)] == ["C.JPG"]
    (tmp_path / "a.JPEG").touch()
    assert [image.name for image in read(tmp_path, text)] == ["a.JPEG"]


def test_of_two_images_with_one_stem_the_one_that_the_file_names_goes_first(tmp_path):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    text = "<annotation><filename>C:\\images\\a.png</filename></annotation>"
    assert [image.name for image in read(tmp_path, text)] == ["a.png"]
    with pytest.raises(ValueError, match=r"a\.xml: belongs to each of a\.jpg, a\.png: give them different names"):
        read(tmp_path, text.replace("a.png", "b.png"))


def test_an_object_keeps_its_parts_out(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    (image,) = read(tmp_path, annotation(1, 1, 5, 5).replace("</object>", f"{part}</object>"))
    assert [(thing.label, thing.corners) for thing in image.objects] == [("kite", (0, 0, 5, 5))]


@pytest.mark.parametrize("text", [BOMB, FILE_READER])
def test_entities_are_not_expanded(tmp_path, text):
    with pytest.raises(ValueError, match=r"a\.xml: is not the XML of an image: a DOCTYPE is not allowed"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no xml", r"a\.xml: is not the XML of an image: syntax error: line 1"),
        ("<annotation>&lol;</annotation>", "undefined entity"),
        (annotation(1, 1, "wide", 5), r"a\.xml: object 1: xmax must be a finite number, got 'wide'"),
        (annotation(1, "nan", 5, 5), r"a\.xml: object 1: ymin must be a finite number, got 'nan'"),
        (annotation(1, 1, 5, 5).replace("ymax", "bottom"), "object 1: ymax must be a finite number, got None"),
        (
            annotation(1, 1, 5, 5, difficult="<difficult>2</difficult>"),
            "difficult must be 0, 1, true or false, got '2'",
        ),
        (annotation(1, 1, 5, 5).replace("kite", " "), "object 1: name must be that of a class, got none"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_object_and_the_rest_goes_on(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read(tmp_path, text)
    assert "\n" not in str(refusal.value)
    (tmp_path / "b.xml").write_text(annotation(1, 1, 5, 5))
    findings = []
    assert len(read(tmp_path, text, findings.append)[-1].objects) == 1
    assert [finding.kind for finding in findings] == ["unreadable annotation"]


def test_a_list_names_its_images_and_a_missing_xml_file_is_named(voc):
    path = voc / "ImageSets/Main/kite_val.txt"
    path.write_text("000000000007 -1\n\n000000000003.png  1\n")
    found = read_voc(path, voc / "JPEGImages", raise_finding)
    assert [image.name for image in found] == ["000000000007.png", "000000000003.png"]
    path.write_text("my kite 1\n000000000003 -1\nmy kite\n")
    (voc / "Annotations/my kite 1.xml").write_text(annotation(1, 1, 5, 5))
    (voc / "Annotations/my kite.xml").write_text(annotation(1, 1, 5, 5))
    found = read_voc(path, voc / "JPEGImages", raise_finding)
    assert [image.name for image in found] == ["my kite 1.jpg", "000000000003.png", "my kite.jpg"]
    path.write_text("8\n")
    with pytest.raises(ValueError, match=r"Annotations/8\.xml: not found"):
        read_voc(path, voc / "JPEGImages", raise_finding)
    with pytest.raises(FileNotFoundError, match=r"gone\.txt not found"):
        read_voc(voc / "gone.txt", voc, raise_finding)
