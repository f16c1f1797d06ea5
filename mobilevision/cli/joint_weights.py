"""``mobilevision combine-weights`` and ``split-weights``: put heads on one backbone, and take them apart."""

from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line
from mobilevision.files import replacing_files
from mobilevision.models import build_network
from mobilevision.multitask.heads import NETWORKS
from mobilevision.weights.combine import combine_weights, split_weights
from mobilevision.weights.file import read_weights, save_weights


def combine(arguments: list[str]) -> None:
    """Read weights of networks with one head, and write those of a network with all of the heads."""
    parser = CommandParser(
        "mobilevision combine-weights",
        description="Put the heads of several networks on the backbone of one of them. Where their backbones differ, "
        "the other heads have to be trained again on this one.",
    )
    for task in NETWORKS:
        parser.add_argument(f"--{task}", metavar="WEIGHTS", help=f"{task} weights: a file, or a published name")
    parser.add_argument(
        "--head",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "WEIGHTS"),
        help="weights of any task whose head gets a name of its own; may be repeated",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="the head whose backbone is taken; default: the first that has all of it"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("multitask_mobilenet_v2.safetensors"))
    given = parser.parse_args(arguments)
    sources = {task: getattr(given, task) for task in NETWORKS if getattr(given, task)} | dict(given.head)
    if len(sources) < 2:
        raise ValueError(
            f"two or more of {', '.join(f'--{task}' for task in NETWORKS)}, --head must be given, got {len(sources)}"
        )
    weights = combine_weights({name: read_weights(source) for name, source in sources.items()}, given.backbone)
    network = build_network(weights, " and ".join(sources.values()))
    save_weights(network, given.output, **weights.card.provenance)
    print_line(f"{', '.join(sources)} on the backbone of {weights.card.provenance['backbone']}: {given.output}")


def split(arguments: list[str]) -> None:
    """Read the weights of a network with several heads, and write a file for each head that predicts the same."""
    parser = CommandParser(
        "mobilevision split-weights", description="Save each head of a network with several as a network of its own."
    )
    parser.add_argument("weights", help="weights file or checkpoint of a network with several heads")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=Path("weights"), help="default: %(default)s")
    given = parser.parse_args(arguments)
    weights = read_weights(given.weights)
    if len(weights.card.heads) < 2:
        raise ValueError(f"expected weights with several heads, got {weights.card.tasks} in {given.weights}")
    with replacing_files(given.output) as folder:
        for name in weights.card.heads:
            part = split_weights(weights, name)
            network = build_network(part, given.weights)
            save_weights(network, folder / f"{name}.safetensors", **part.card.provenance)
    for name in weights.card.heads:
        print_line(f"{name}: {given.output / f'{name}.safetensors'}")
