import subprocess
import sys

TRAINING = {"lightning", "torchmetrics", "albumentations", "jsonargparse"}
PICTURES = {"cv2", "PIL"}


def loaded_by(*modules: str) -> set[str]:
    """Import ``modules`` in a fresh interpreter and name the packages that are loaded then."""
    program = f"import sys, {', '.join(modules)}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(output.stdout.split())


def test_a_backbone_needs_nothing_that_trains_or_reads_pictures() -> None:
    loaded = loaded_by("mobilevision.backbone")
    assert "torch" in loaded
    assert loaded & (TRAINING | PICTURES) == set()


def test_the_networks_and_their_weights_need_nothing_that_trains() -> None:
    rooms = [f"mobilevision.{room}" for room in ("classification", "detection", "segmentation", "training")]
    assert loaded_by(*rooms, "mobilevision.weights.file", "mobilevision.models") & TRAINING == set()


def test_predicting_and_scoring_do_not_load_lightning() -> None:
    assert "lightning" not in loaded_by("mobilevision.inference.predictor", "mobilevision.scoring")
