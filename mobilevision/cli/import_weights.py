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
    options = _build_parser().parse_args(arguments)
    names = options.class_names.read_text(encoding="utf-8").splitlines() if options.class_names else ()
    network, provenance = import_network(
        options.source,
        background=options.background,
        without_background=options.drop_background,
        class_names=names,
        calibration_folder=options.calibrate,
        num_calibration_images=options.num_images,
    )
    output = options.output or Path(f"{_stem(Path(options.source))}.safetensors")
    if options.to == "torchvision":
        save_as_torchvision(network, output)
    else:
        save_weights(network, output, **provenance)
    sys.stdout.write(f"{_describe(network)}\nwrote {output}\n")


def _build_parser() -> CommandParser:
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
    return parser


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
        details = [f"{key} {getattr(head.config, key)}" for key in DESCRIBED if hasattr(head.config, key)]
        lines.append(f"{name} for {head.input_size}x{head.input_size} pixels: {', '.join(details)}")
    return "\n".join([*lines, f"backbone: width_mult {backbone.width_mult}, padding {backbone.padding}"])
