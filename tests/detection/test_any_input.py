"""Whatever a file holds, reading it ends with what could be read, or with one line that names the file."""

import json
import tempfile
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilevision.detection.anchors import make_anchors
from mobilevision.detection.check import CheckedSplit, check_annotations, clean_annotations, measure_coverage
from mobilevision.detection.formats.layout import Part, find_dataset, read_part
from mobilevision.findings import InspectedImage

ANCHORS = make_anchors([(4, 4), (2, 2)], 64)

NUMBERS = st.one_of(st.integers(-10, 200), st.floats(), st.sampled_from(["", "nan", "1e400", "x", "0.5", "-0"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5),
)


def rows(*keys):
    likely = {"id": st.integers(0, 3), "image_id": st.integers(0, 3), "category_id": st.integers(0, 3)}
    likely |= {
        "width": st.integers(1, 90),
        "height": st.integers(1, 90),
        "file_name": st.sampled_from(["a.png", "b.png"]),
    }
    likely |= {"bbox": st.lists(NUMBERS, min_size=4, max_size=4)}
    return st.lists(
        st.fixed_dictionaries({}, optional={key: likely.get(key, st.nothing()) | VALUES for key in keys}), max_size=4
    )


COCO = st.fixed_dictionaries(
    {
        "images": rows("id", "width", "height", "file_name"),
        "annotations": rows("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"),
        "categories": rows("id", "name"),
    }
)
SHAPES = st.fixed_dictionaries(
    {"label": st.sampled_from(["boat", 1]), "points": st.lists(st.lists(NUMBERS, max_size=3), max_size=3) | VALUES},
    optional={"shape_type": st.sampled_from(["circle", "rectangle", "point", None]) | VALUES},
)
DESCRIPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "names": st.lists(st.text(max_size=3), max_size=3) | st.dictionaries(st.integers(0, 3), st.text(max_size=3)),
        **dict.fromkeys(("train", "path"), st.sampled_from(["a.ppm", "..", "", "/", "list.txt", "images"]) | VALUES),
        **dict.fromkeys(("val", "nc", "kpt_shape", "other"), VALUES),
    },
)
LINES = st.lists(st.lists(NUMBERS, max_size=9), max_size=5)


def survives(name, files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, content in files.items():
            (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        part = Part(root / next(iter(files)) if name in ("coco", "csv") else root, root)
        findings = []
        try:
            if "data.yaml" in files:
                part = find_dataset(root, name, {"train": (None, None)}).parts["train"]
            annotations = read_part(name, root, part, on_finding=findings.append)
        except (FileNotFoundError, ValueError) as error:
            message = str(error)
        else:
            message = check_all(part, annotations, findings)
        assert "\n" not in message
        assert folder in message


def check_all(part, annotations, findings):
    findings += check_annotations(annotations)
    images = tuple(InspectedImage(part.images / str(place), (1, 1), "", ()) for place in annotations.image_ids)
    split = CheckedSplit(part, annotations, images, tuple(findings))
    measure_coverage([split], ANCHORS, 64)
    json.dumps(clean_annotations(split), allow_nan=False)
    return " ".join(map(str, [part.annotations, *findings]))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(COCO)
def test_any_coco_file(data):
    survives("coco", {"a.json": json.dumps(data)})


@given(LINES)
def test_any_lines_of_numbers(lines):
    text = "\n".join(" ".join(map(str, line)) for line in lines)
    survives("yolo", {"a.txt": text, "classes.txt": "boat\nkite\n", "a.ppm": b"P6 30 20 255\n"})


@given(st.dictionaries(st.sampled_from(["imagePath", "imageWidth", "imageHeight"]), VALUES), st.lists(SHAPES | VALUES))
def test_any_shapes(data, shapes):
    survives("labelme", {"a.json": json.dumps(data | {"shapes": shapes}), "a.ppm": b"P6 30 20 255\n"})


@given(DESCRIPTIONS | VALUES | st.text(max_size=30), st.text(max_size=9) | st.sampled_from(["a.ppm", "../a.ppm"]))
def test_any_description_and_list(content, line):
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    files = {"data.yaml": text, "list.txt": line, "a.txt": "0 0.5 0.5 1 1", "a.ppm": b"P6 30 20 255\n"}
    survives(
        "yolo",
        {name: text.encode("utf-8", "replace") if isinstance(text, str) else text for name, text in files.items()},
    )


@given(LINES | st.lists(st.lists(st.text(max_size=4), max_size=7), max_size=4))
def test_any_table(lines):
    text = "\n".join(",".join(["a.ppm", *map(str, line)]) for line in lines)
    survives("csv", {"a.csv": text.encode("utf-8", "replace"), "a.ppm": b"P6 30 20 255\n"})


@given(st.text(max_size=40) | st.lists(NUMBERS, min_size=4, max_size=4))
def test_any_xml(content):
    if isinstance(content, list):
        corners = "".join(
            f"<{name}>{value}</{name}>" for name, value in zip(["xmin", "ymin", "xmax", "ymax"], content, strict=True)
        )
        content = f"<annotation><object><name>boat</name><bndbox>{corners}</bndbox></object></annotation>"
    survives("voc", {"a.xml": content.encode("utf-8", "replace"), "a.ppm": b"P6 30 20 255\n"})
