import pytest

from mobilevision.detection.formats.yolo import read_names, read_yolo
from mobilevision.findings import raise_finding

NAMES = ("boat", "kite")

BOMB = (
    "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    + "names: *a11"
)


def read(folder, text, on_finding=raise_finding):
    (folder / "a.txt").write_text(text)
    (folder / "a.jpg").touch()
    return read_yolo(folder, folder, NAMES, on_finding)


def test_a_line_is_class_center_and_sides_in_fractions_of_the_image(tmp_path):
    (image,) = read(tmp_path, "1 0.5 0.25 0.2 0.1\n\n0 0.5 0.5 1 1\n")
    assert [thing.label for thing in image.objects] == ["kite", "boat"]
    assert image.objects[0].corners == pytest.approx((0.4, 0.2, 0.6, 0.3))
    assert [thing.place for thing in image.objects] == ["line 1", "line 3"]
    assert image.relative


def test_an_outline_stands_for_the_box_around_it(tmp_path):
    (image,) = read(tmp_path, "0 0.1 0.5 0.3 0.2 0.4 0.9 0.2 0.6")
    assert image.objects[0].corners == (0.1, 0.2, 0.4, 0.9)


def test_images_without_a_label_file_or_with_an_empty_one_have_no_objects(tmp_path):
    (tmp_path / "b.png").touch()
    assert [(image.name, image.objects) for image in read(tmp_path, "\n")] == [("a.jpg", ()), ("b.png", ())]


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            "0 0.5 0.5 0.1",
            "unreadable annotation",
            r"a\.txt: line 1: a line must be 'class cx cy width height' in numbers, got",
        ),
        ("0 0.5 0.5 0.1 0.1 0.9", "unreadable annotation", "a line must be"),
        ("boat 0.5 0.5 0.1 0.1", "unreadable annotation", "a line must be"),
        ("0.5 0.5 0.5 0.1 0.1", "unreadable annotation", "a line must be"),
        ("0 0.5 nan 0.1 0.1", "unreadable annotation", "a line must be"),
        ("0", "unreadable annotation", "a line must be"),
        ("2 0.5 0.5 0.1 0.1", "unknown class", r"a\.txt: line 1: class must be from 0 to 1, got 2"),
        ("-1 0.5 0.5 0.1 0.1", "unknown class", "got -1"),
    ],
)
def test_a_wrong_line_is_named_and_the_rest_goes_on(tmp_path, line, kind, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, line)
    findings = []
    (image,) = read(tmp_path, f"{line}\n0 0.5 0.5 0.1 0.1\n", findings.append)
    assert len(image.objects) == 1
    assert [finding.kind for finding in findings] == [kind]


def test_a_label_file_without_an_image_is_named(tmp_path):
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "classes.txt").write_text("boat\nkite\n")
    with pytest.raises(ValueError, match=r"b\.txt: there is no image for it in"):
        read(tmp_path, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names: [boat, kite]"),
        ("dataset.yaml", "names: {1: kite, 0: boat}"),
        ("data.yml", "names: {'1': kite, '0': boat}"),
        ("classes.txt", "boat\nkite\n\n"),
        ("labels/classes.txt", "boat\nkite"),
    ],
)
def test_names_come_from_yaml_or_a_list(tmp_path, name, text):
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path, tmp_path / "labels/train") == NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [", r"data\.yaml is not YAML: while parsing"),
        ("- boat", "must be a mapping with 'names', got list"),
        (BOMB, "names in data.yaml must be texts, got list"),
        ("names: {0: boat, 2: kite}", "must count from 0 without gaps, got 0, 2"),
        ("names: {boat: 0}", "must count from 0 without gaps, got boat"),
        ("names: 2", "must be a list or a mapping, got int"),
        ("nc: 2", r"does not name its classes: expected names in data\.yaml, or classes\.txt"),
        ("names: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
)
def test_names_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
        read_names(tmp_path, tmp_path / "labels")
    assert "\n" not in str(refusal.value)
