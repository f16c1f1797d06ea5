"""``mobilevision info``: parameters, multiply-adds and activation memory of a network."""

import json
import sys
from dataclasses import MISSING

import torch

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_table
from mobilevision.complexity import Complexity, PartComplexity, measure
from mobilevision.detection.head import PRESETS, SSDLiteHead
from mobilevision.models import TASKS, get_model, list_models, option_fields

MILLION = 1e6
KIBIBYTE = 1024


def run(arguments: list[str]) -> None:
    """Print the complexity of a network, as a whole and part by part."""
    parser = CommandParser("mobilevision info", description="Count parameters, multiply-adds and activation memory.")
    parser.add_argument("name", help=f"one of {', '.join(list_models())}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    # The options are those of the network, so that its name is needed before the rest can be parsed.
    named = [argument for argument in arguments if argument in list_models()]
    options = _add_options(parser, named[0]) if named else []
    given = vars(parser.parse_args(arguments))
    # Shapes are enough to count.
    with torch.device("meta"):
        network = get_model(given["name"], **{name: given[name] for name in options if given[name] is not None})
    complexity = measure(network)
    if given["json"]:
        parts = {name: part._asdict() for name, part in complexity.parts.items()}
        sys.stdout.write(json.dumps({**complexity._asdict(), "parts": parts}) + "\n")
    else:
        # With a single head, its parts alone say whose they are.
        prefix = "heads." if len(network.heads) > 1 else f"heads.{next(iter(network.heads))}."
        _print(f"{given['name']} at {network.input_size}x{network.input_size}", complexity, prefix)


def _add_options(parser: CommandParser, name: str) -> list[str]:
    """Add an argument for every number or word among a network's options, and return their names."""
    names = []
    for option, field in option_fields(name).items():
        kind = int if field.type in (int, int | None) else type(field.default)
        if kind not in (int, float, str):
            continue
        default = "the model's" if field.default in (None, MISSING) else field.default
        parser.add_argument(f"--{option.replace('_', '-')}", type=kind, help=f"default: {default}")
        names.append(option)
    if TASKS.get(name) == SSDLiteHead.task:
        # It stands for several options, and is none itself.
        parser.add_argument("--preset", choices=PRESETS, help="default: paper320")
        names.append("preset")
    return names


def _print(title: str, complexity: Complexity, prefix: str) -> None:
    rows = [
        (
            label.removeprefix(prefix),
            f"{part.parameters:,}",
            f"{part.multiply_adds / MILLION:,.2f}",
            f"{part.peak_activation_bytes / KIBIBYTE:,.0f}",
        )
        for label, part in (*complexity.parts.items(), ("all", PartComplexity(*complexity[:3])))
    ]
    print_table(title, ("part", "parameters", "multiply-adds (M)", "memory (KiB)"), rows)
