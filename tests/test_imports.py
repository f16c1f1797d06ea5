"""Using networks, predicting and scoring work in an environment that cannot train."""

import json
import subprocess
import sys
from pathlib import Path

CHECKPOINT = Path(__file__).parent / "weights/legacy/classification.ckpt"

TRAINING = {"lightning", "torchmetrics", "albumentations", "jsonargparse"}
IMAGES = {"cv2", "PIL"}

# Each line, and the packages that it may not load.
STEPS = [
    ("import mobilevision", {"torch", *IMAGES, *TRAINING}),
    ("import mobilevision.backbone", IMAGES | TRAINING),
    ("import mobilevision.models, mobilevision.weights.file", TRAINING),
    (f"assert mobilevision.get_model('mobilenet_v2', pretrained={str(CHECKPOINT)!r}).head.num_classes == 2", TRAINING),
    ("from mobilevision import Predictor, inference_model", {"lightning"}),
    ("import mobilevision.import_weights, mobilevision.scoring", {"lightning"}),
]

PROGRAM = """
import json, sys
found = []
for line in json.loads(sys.argv[1]):
    exec(line)
    found.append(sorted({name.split(".")[0] for name in sys.modules}))
print(json.dumps(found))
"""


def test_no_step_loads_more_than_it_needs() -> None:
    lines = json.dumps([line for line, _ in STEPS])
    output = subprocess.run([sys.executable, "-c", PROGRAM, lines], capture_output=True, text=True, check=True)
    found = json.loads(output.stdout)
    assert "torch" in found[1]
    assert [(line, set(loaded) & refused) for (line, refused), loaded in zip(STEPS, found, strict=True)] == [
        (line, set()) for line, _ in STEPS
    ]
