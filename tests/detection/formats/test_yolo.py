import pytest

from mobilevision.detection.formats.description import read_description, read_names
from mobilevision.detection.formats.yolo import Lines, read_yolo, read_yolo_lists
from mobilevision.findings import raise_finding

NAMES = ("boat", "kite")

BOMB = (
    "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    + "names: *a11"
)


def read(folder, text, on_finding=raise_finding, keypoints=None):
    (folder / "a.txt").write_text(text)
    (folder / "a.jpg").touch()
    return read_yolo(folder, folder, Lines(NAMES, keypoints), on_finding)


def test_a_line_is_class_center_and_sides_in_fractions_of_the_image(tmp_path):
    (image,) = read(tmp_path, "1 0.5 0.25 0.2 0.1\n\n0 0.5 0.5 1 1\n")
    assert [thing.label for thing in image.objects] == ["kite", "boat"]
    assert image.objects[0].corners == pytest.approx((0.4, 0.2, 0.6, 0.3))
    assert [thing.place for thing in image.objects] == ["line 1", "line 3"]
    assert image.relative


def test_an_outline_stands_for_the_box_around_it(tmp_path):
    (image,) = read(tmp_path, "0 0.1 0.5 0.3 0.2 0.4 0.9 0.2 0.6")
    assert image.objects[0].corners == (0.1, 0.2, 0.4, 0.9)


@pytest.mark.parametrize(
    ("keypoints", "line"),
    [((2, 3), "1 0.5 0.25 0.2 0.1 0.4 0.2 2 0 0 0"), ((3, 2), "1 0.5 0.25 0.2 0.1 0.4 0.2 0.5 0.3 0.9 0.9")],
)
def test_a_line_with_keypoints_is_its_box(tmp_path, keypoints, line):
    for text in (line, "1 0.5 0.25 0.2 0.1"):
        (image,) = read(tmp_path, text, keypoints=keypoints)
        assert image.objects[0].corners == pytest.approx((0.4, 0.2, 0.6, 0.3))
    columns = len(line.split())
    with pytest.raises(ValueError, match=f"must have {columns} columns, one less: is the last one a confidence"):
        read(tmp_path, f"{line} 0.9", keypoints=keypoints)
    with pytest.raises(ValueError, match=f"must have 5 columns, or {columns} with keypoints, as kpt_shape says, got"):
        read(tmp_path, "0 0.1 0.5 0.3 0.2 0.4 0.9", keypoints=keypoints)


def test_a_label_file_of_two_images_is_told_and_goes_to_the_first(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.txt: belongs to each of a\.jpg, a\.png: give them different names"):
        read(tmp_path, "0 0.5 0.5 0.1 0.1")
    findings = []
    assert [image.name for image in read(tmp_path, "0 0.5 0.5 0.1 0.1", findings.append)] == ["a.jpg"]
    assert [finding.kind for finding in findings] == ["several images"]
    (tmp_path / "a.txt").unlink()
    found = read_yolo(tmp_path, tmp_path, Lines(NAMES), raise_finding)
    assert [image.name for image in found] == ["a.jpg", "a.png"]
    (tmp_path / "train.txt").write_text("a.png\n")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (image,) = read_yolo_lists([tmp_path / "train.txt"], tmp_path, Lines(NAMES), raise_finding)
    assert (image.name, len(image.objects)) == ("a.png", 1)


def test_a_label_file_that_is_not_text_is_told_and_the_others_are_read(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe0")
    (tmp_path / "b.jpg").touch()
    (tmp_path / "._a.txt").write_bytes(b"\xff")
    findings = []
    found = read(tmp_path, "\ufeff0 0.5 0.5 0.1 0.1\n", findings.append)
    assert [len(image.objects) for image in found] == [1, 0]
    assert [(finding.file.name, finding.message[:24]) for finding in findings] == [
        ("b.txt", "is not text in UTF-8: 'u")
    ]


def test_lists_name_images_by_paths_of_any_machine_in_the_dataset(tmp_path):
    for name in ("images/train/a.jpg", "more/b.jpg", "more/c.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    (tmp_path / "secret.jpg").touch()
    root = tmp_path / "set"
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.2 0.2\n")
    (root / "more/b.txt").write_text("1 0.5 0.5 0.1 0.1")
    lines = [
        "./images/train/a.jpg",
        "",
        "C:\\sets\\more\\b.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "gone.jpg",
    ]
    (root / "train.txt").write_text("\n".join(lines))
    findings = []
    found = read_yolo_lists([root / "train.txt"], root, Lines(NAMES), findings.append)
    assert [(image.name, len(image.objects)) for image in found] == [("images/train/a.jpg", 2), ("more/b.jpg", 1)]
    assert [(finding.kind, finding.file.name) for finding in findings] == [("missing image", "train.txt")] * 3
    found = read_yolo_lists([root / "images/train", root / "more"], root, Lines(NAMES), raise_finding)
    assert [(image.name, len(image.objects)) for image in found] == [
        ("images/train/a.jpg", 2),
        ("more/b.jpg", 1),
        ("more/c.jpg", 0),
    ]


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
        (
            "0 0.5 0.5 0.1 0.1 0.9",
            "unreadable annotation",
            r"must have 5 columns, one less: is the last one a confidence",
        ),
        ("0,0.5,0.5,0.1,0.1", "unreadable annotation", "must be separated by spaces, not by commas"),
        ("0 0.5, 0.5, 0.1, 0.1", "unreadable annotation", "must be separated by spaces, not by commas"),
        ("0 50 50 10 10", "unreadable annotation", "fractions of the image's sides from 0 to 1: are they pixels?"),
        (
            "0 0.5 0.5 0.1 0.1 0.4 0.4 2",
            "unreadable annotation",
            "keypoints, it seems: kpt_shape in data.yaml must say",
        ),
        ("0 0.5 0.5 0.1 0.1 0.4 0.4 2 0.5 0.5 1", "unreadable annotation", "keypoints, it seems"),
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
        ("boats.yaml", "train: images\nnames: [boat, kite]"),
        ("data.yaml", "\ufeffnames: [boat, kite]"),
        ("obj.names", "boat\nkite"),
        ("_darknet.labels", "boat\nkite"),
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
        (BOMB, "names must be texts, got list"),
        ("names: {0: boat, 2: kite}", "must count from 0 without gaps, got 0, 2"),
        ("names: {boat: 0}", "must count from 0 without gaps, got boat"),
        ("names: 2", "must be a list or a mapping, got '2'"),
        ("names: [a]\nkpt_shape: [17, 4]", "kpt_shape must be .number of keypoints, 2 or 3., got .'17', '4'"),
        ("nc: 2", r"does not name its classes: expected names in data\.yaml, or classes\.txt"),
        ("names: !!python/object/apply:os.getcwd []", "does not name its classes"),
        ("? [1]\n: 2", "is not YAML: while constructing a mapping"),
    ],
)
def test_names_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
        read_names(tmp_path, tmp_path / "labels")
    assert "\n" not in str(refusal.value)


def test_every_word_of_yaml_may_be_a_class_and_keys_without_a_meaning_are_told(tmp_path):
    (tmp_path / "data.yaml").write_text(
        "path: ../boats\ntrain: [a, b]\nvalid: c.txt\nnc: 3\nnames: [yes, no, 010, 1e3]\nkpt_shape: [17, 3]\n"
        "augment: 1\nroboflow: {url: x}\ntest: {a: b}\n"
    )
    found = read_description(tmp_path)
    assert found.names == ("yes", "no", "010", "1e3")
    assert found.splits == {"train": ("a", "b"), "val": ("c.txt",)}
    assert (found.base, found.keypoints) == ("../boats", (17, 3))
    assert [(finding.kind, finding.message) for finding in found.findings] == [
        ("unreadable description", "test must be a folder, a list of images, or several of them"),
        ("unreadable description", "nc must be the number of names, 4, got 3"),
        ("not understood", "does nothing here: augment"),
    ]


def test_several_descriptions_are_not_guessed_at(tmp_path):
    for name in ("a.yaml", "b.yml", "other.yaml"):
        (tmp_path / name).write_text("train: a\nnames: [a]" if name < "c" else "steps: [1]")
    with pytest.raises(ValueError, match=r"is described by a\.yaml, b\.yml: keep one, or call it data\.yaml"):
        read_description(tmp_path)
