"""Measure imported TensorFlow weights with ``mobilevision validate``: ``python scripts/validate_imported.py SHARED``.

SHARED is a folder with ``weights/`` and ``data/`` as the tests use it. Every row runs the ordinary command on the
foreign file itself and compares one figure with that of the network's reference implementation; rows without an
expected figure show the effect of another way of resizing. ``--only TASK`` measures one task, ``--json FILE`` writes
the figures.
"""

import argparse
import json
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from mobilevision.cli import main
from mobilevision.files import write_json

COMMON = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--data.num_workers", "0"]

BASE = {
    "classification": "--model ClassificationTask --model.pretrained {weights}/"
    "mobilenet_v2_1.0_224_quant.tflite --data ImageNetDataModule --data.root {data}/imagenet-mini",
    "segmentation": "--model SegmentationTask --model.pretrained {weights}/"
    "deeplabv3_mnv2_pascal_quant.tflite --data VocDataModule --data.root {data}/voc-real/VOCdevkit/VOC2012",
    "detection": "--model DetectionTask --model.pretrained {weights}/"
    "ssdlite_mobilenet_v2_person.pb --data CocoDataModule --data.root {data}/coco-mini --data.classes [person]",
}


class Row(NamedTuple):
    """One run: the options that it adds, and the figure that is compared."""

    task: str
    name: str
    options: str
    figure: str
    expected: float | None = None
    tolerance: float = 0.0


ROWS = (
    Row("classification", "short side 256, square of 224", "", "top1", 0.880, 0.01),
    Row("classification", "central 0.875 of each side, as slim", "--model.eval_crop central", "top1"),
    Row("classification", "short side 224, square of 224", "--model.crop_share 1.0", "top1"),
    Row("segmentation", "native size, padded to 513", "", "miou", 0.575, 0.005),
    Row("segmentation", "fitted into 257", "--model.input_size 257", "miou"),
    Row("detection", "300 x 300, aspect not kept", "", "map", 0.18, 0.015),
    Row("detection", "320 x 320, aspect not kept", "--model.input_size 320", "map"),
)


def measure(row: Row, shared: Path) -> float:
    """Run the command and return the figure."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "metrics.json"
        words = f"{BASE[row.task]} {row.options}".format(weights=shared / "weights", data=shared / "data").split()
        with redirect_stdout(StringIO()):
            code = main(["validate", *COMMON, *words, "--output", str(output)])
        if code:
            sys.exit(code)
        return float(json.loads(output.read_text())["figures"][row.figure])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--only", choices=tuple(BASE))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    measured, failed = [], False
    for row in ROWS:
        if given.only in (None, row.task):
            value = measure(row, given.shared)
            right = row.expected is None or abs(value - row.expected) <= row.tolerance
            failed |= not right
            expected = "" if row.expected is None else f"  expected {row.expected} +- {row.tolerance}: {right}"
            print(f"{row.task:15} {row.name:36} {row.figure} {value:.4f}{expected}")
            measured.append({**row._asdict(), "measured": value})
    if given.json:
        write_json(given.json, measured)
    sys.exit(failed)
