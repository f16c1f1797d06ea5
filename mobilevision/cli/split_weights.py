"""``mobilevision split-weights``: take a joint network apart."""

from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line
from mobilevision.files import replacing_files
from mobilevision.models import build_network
from mobilevision.weights.file import read_weights, save_weights
from mobilevision.weights.joint import MODEL, heads_of, split_weights


def run(arguments: list[str]) -> None:
    """Read the weights of a joint network, and write a file for every head that predicts the same."""
    parser = CommandParser(
        "mobilevision split-weights", description="Give every head of a joint network back as a network of its own."
    )
    parser.add_argument("weights", help=f"of {MODEL}: a weights file or checkpoint")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=Path("weights"), help="default: %(default)s")
    given = parser.parse_args(arguments)
    weights = read_weights(given.weights)
    if weights.card.model != MODEL:
        raise ValueError(f"expected weights of {MODEL}, got {weights.card.model} in {given.weights}")
    tasks = list(heads_of(weights))
    with replacing_files(given.output) as folder:
        for task in tasks:
            part = split_weights(weights, task)
            network = build_network(part, given.weights)
            save_weights(network, folder / f"{task}.safetensors", **part.card.provenance)
    for task in tasks:
        print_line(f"{task}: {given.output / f'{task}.safetensors'}")
