"""``mobilevision info``: what a network costs."""

import inspect
import json
import sys
from typing import Any

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_table
from mobilevision.complexity import Complexity, PartComplexity, measure
from mobilevision.models import NetworkFunction, find_model, get_model, list_models

MILLION = 1e6
KIBIBYTE = 1024


def run(arguments: list[str]) -> None:
    """Print a network's parameters, multiply-adds and peak activation memory, in all and part by part."""
    parser = CommandParser("mobilevision info", description="Count parameters, multiply-adds and activation memory.")
    parser.add_argument("name", help=f"one of {', '.join(list_models())}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    # The options are those of the network, so that its name has to be known before the rest can be read.
    named = [argument for argument in arguments if argument in list_models()]
    options = _add_options(parser, find_model(named[0])) if named else []
    given = vars(parser.parse_args(arguments))
    network = get_model(given["name"], **{name: given[name] for name in options if given[name] is not None})
    complexity = measure(network)
    if given["json"]:
        sys.stdout.write(json.dumps(_as_json(complexity)) + "\n")
    else:
        _print(given["name"], network.input_size, complexity)


def _add_options(parser: CommandParser, function: NetworkFunction) -> list[str]:
    """Add an argument for every scalar option of a network's function, and give their names."""
    names = []
    for option, parameter in inspect.signature(function).parameters.items():
        kind: Any = int if parameter.annotation == int | None else type(parameter.default)
        if kind not in (int, float, str):
            continue
        default = "the preset's" if parameter.default is None else parameter.default
        parser.add_argument(f"--{option.replace('_', '-')}", type=kind, help=f"default: {default}")
        names.append(option)
    return names


def _as_json(complexity: Complexity) -> dict[str, Any]:
    return {**_total(complexity)._asdict(), "parts": {name: part._asdict() for name, part in complexity.parts.items()}}


def _total(complexity: Complexity) -> PartComplexity:
    return PartComplexity(complexity.parameters, complexity.multiply_adds, complexity.peak_activation_bytes)


def _print(name: str, input_size: int, complexity: Complexity) -> None:
    rows = [
        (
            label.removeprefix("head."),
            f"{part.parameters:,}",
            f"{part.multiply_adds / MILLION:,.2f}",
            f"{part.peak_activation_bytes / KIBIBYTE:,.0f}",
        )
        for label, part in (*complexity.parts.items(), ("all", _total(complexity)))
    ]
    header = ("part", "parameters", "multiply-adds (M)", "peak activations (KiB)")
    print_table(f"{name} at {input_size}x{input_size}", header, rows)
