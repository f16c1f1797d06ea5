"""``mobilevision import-weights``: import a network that another program has trained."""

import sys
from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.import_weights import import_network
from mobilevision.network import Network
from mobilevision.weights.file import save_as_torchvision, save_weights

SUFFIXES = (".gz", ".tar", ".tgz", ".tflite", ".pb", ".ckpt", ".pth", ".pt", ".safetensors")

DESCRIBED = ("num_classes", "output_stride", "score_function")
"""The options that a person recognizes a head by."""


def run(arguments: list[str]) -> None:
    """Read a weights file of another program, and write it as safetensors of this library."""
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
    parser.add_argument("--drop-background", action="store_true", help="leave out the background class of a classifier")
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="one name per line: of all classes in their order, or of those to keep of the source's own",
    )
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="images that make a .tflite file trainable")
    parser.add_argument(
        "--num-images", type=int, default=256, help="images of FOLDER to calibrate with, default: %(default)s"
    )
    parser.add_argument(
        "--to",
        choices=("mobilevision", "torchvision"),
        default="mobilevision",
        help="the library that the file is for, default: %(default)s",
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


def _describe(network: Network) -> str:
    backbone = network.backbone.config
    lines = []
    for name, head in network.named_heads.items():
        options = [f"{key} {getattr(head.config, key)}" for key in DESCRIBED if hasattr(head.config, key)]
        lines.append(f"{name} for {head.input_size}x{head.input_size} pixels: {', '.join(options)}")
    return "\n".join([*lines, f"backbone: width_mult {backbone.width_mult}, padding {backbone.padding}"])
