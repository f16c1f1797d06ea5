"""``mobilevision import-weights``: take over a network that another program has trained."""

import sys
from pathlib import Path

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.cli.errors import CommandParser
from mobilevision.import_weights import import_network
from mobilevision.weights.file import save_as_torchvision, save_weights

SUFFIXES = (".gz", ".tar", ".tgz", ".tflite", ".pb", ".ckpt", ".pth", ".pt", ".safetensors")

DESCRIBED = ("num_classes", "width_mult", "output_stride", "padding", "score_function")
"""The options that a person recognises a network by."""


def run(arguments: list[str]) -> None:
    """Read a foreign weights file, and write it as safetensors of ours."""
    parser = CommandParser(
        "mobilevision import-weights",
        description="Turn weights of TensorFlow (.tflite, a frozen graph, or the .tar.gz of either), torchvision, "
        "timm, OpenMMLab or Hugging Face into safetensors.",
    )
    parser.add_argument("source", help="a file, or the name of published weights, see mobilevision models")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: SOURCE's name in the current folder")
    parser.add_argument(
        "--background",
        choices=("first", "last", "none"),
        help="where a classifier has a class for the background; default: the first of 1001, otherwise none",
    )
    parser.add_argument("--drop-background", action="store_true", help="leave out a classifier's background")
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="one name per line: all in the order of the classes, or those that are kept of the source's own",
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="pictures to make a .tflite file trainable with"
    )
    parser.add_argument("--num-images", type=int, default=256, help="of them to look at, default: %(default)s")
    parser.add_argument(
        "--to",
        choices=("mobilevision", "torchvision"),
        default="mobilevision",
        help="whose names, default: %(default)s",
    )
    given = parser.parse_args(arguments)
    names = given.class_names.read_text(encoding="utf-8").splitlines() if given.class_names else ()
    network, provenance = import_network(
        given.source,
        background=given.background,
        without_background=given.drop_background,
        class_names=names,
        calibration_folder=given.calibrate,
        num_calibration_images=given.num_images,
    )
    output = given.output or Path(f"{_stem(Path(given.source))}.safetensors")
    if given.to == "torchvision":
        save_as_torchvision(network, output)
    else:
        save_weights(network, output, **provenance)
    sys.stdout.write(f"{_describe(network)}\nwrote {output}\n")


def _stem(source: Path) -> str:
    stem = source.name
    # Path.stem would take ".0_224" of "mobilenet_v2_1.0_224.tar.gz" for a suffix as well.
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _describe(network: ImageNetwork) -> str:
    options = ", ".join(f"{name} {network.options[name]}" for name in DESCRIBED if name in network.options)
    return f"{network.model_name} for {network.input_size}x{network.input_size} pixels: {options}"
