import pytest

from mobilevision.detection.formats.names import match_names


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "red kites/b.png", "one/c.jpg", "two/c.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("red kites\\b.png", "red kites/b.png"),
        ("C:\\data\\b.png", "red kites/b.png"),
        ("red%20kites/b.png", "red kites/b.png"),
        ("https://example.org/red%20kites/b.png?key=1", "red kites/b.png"),
        ("/data/local-files/?d=red%20kites/b.png", "red kites/b.png"),
        ("gone/B.PNG", "red kites/b.png"),
        ("images/two/c.jpg", "two/c.jpg"),
        ("/home/user/images/a.jpg", "a.jpg"),
        # Several have this base name.
        ("gone/c.jpg", "gone/c.jpg"),
        ("d.jpg", "d.jpg"),
        ("http://[/d.jpg", "http://[/d.jpg"),
        ("a.jpg" * 100, "a.jpg" * 100),
    ],
)
def test_an_image_is_found_by_the_end_of_its_path_or_its_base_name_alone(folder, name, file):
    findings = []
    assert match_names(folder.parent / "boxes.json", folder, [name], findings.append) == [file]
    assert [finding.kind for finding in findings] == ["found by base name"] * (name != file)


def test_one_note_tells_of_all_images_found_and_no_two_of_them_are_one_file(folder):
    findings = []
    names = ["A.JPG", "x/b.png", "y/b.png", "two/c.jpg", "gone/two/c.jpg"]
    found = match_names(folder.parent / "boxes.json", folder, names, findings.append)
    assert found == ["a.jpg", "x/b.png", "y/b.png", "two/c.jpg", "gone/two/c.jpg"]
    assert [finding.is_problem for finding in findings] == [False]
    assert "1 of 5 images are not where it says" in str(findings[0])
    assert "first 'A.JPG' as a.jpg" in str(findings[0])
    assert match_names(folder, folder / "gone", ["a.jpg"], findings.append) == ["a.jpg"]
