"""``mobilevision combine-weights``: put the heads of several networks on one backbone."""

from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line
from mobilevision.models import build_network
from mobilevision.weights.file import read_weights, save_weights
from mobilevision.weights.joint import MODELS, combine_weights


def run(arguments: list[str]) -> None:
    """Read the weights of single networks, and write those of a joint one."""
    parser = CommandParser(
        "mobilevision combine-weights",
        description="Put the heads of several networks on the backbone of one of them. Where their backbones differ, "
        "the heads of the others have to be trained again on this one.",
    )
    for task, model in MODELS.items():
        parser.add_argument(f"--{task}", metavar="WEIGHTS", help=f"of {model}: a file, or a name of published weights")
    parser.add_argument(
        "--backbone", choices=tuple(MODELS), help="whose backbone it is; default: the first one's that is whole"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("multitask_mobilenet_v2.safetensors"))
    given = parser.parse_args(arguments)
    sources = {task: getattr(given, task) for task in MODELS if getattr(given, task)}
    if len(sources) < 2:
        raise ValueError(
            f"two or more of {', '.join(f'--{task}' for task in MODELS)} must be given, got {len(sources)}"
        )
    weights = combine_weights({task: read_weights(source) for task, source in sources.items()}, given.backbone)
    network = build_network(weights, " and ".join(sources.values()))
    save_weights(network, given.output, **weights.card.provenance)
    print_line(f"{', '.join(sources)} on the backbone for {weights.card.provenance['backbone']}: {given.output}")
