"""``mobilevision models``: list the networks and the published weights."""

import torch

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line, print_table
from mobilevision.complexity import measure
from mobilevision.models import get_model, list_models


def run(arguments: list[str]) -> None:
    """Print the networks with their complexity at default options, and the published weights with their figures."""
    parser = CommandParser("mobilevision models", description="List the networks and the published weights.")
    parser.parse_args(arguments)
    rows = []
    for name in list_models():
        with torch.device("meta"):
            network = get_model(name)
        complexity = measure(network)
        classes = ", ".join(str(head.num_classes) for head in network.named_heads.values())
        counts = f"{complexity.parameters:,}", f"{complexity.multiply_adds / 1e6:,.2f}"
        rows.append((name, str(network.input_size), classes, *counts))
    print_table("networks", ("name", "input", "classes", "parameters", "multiply-adds (M)"), rows)
    print_line("published weights: get_model(MODEL, pretrained=NAME), --weights NAME, --model.pretrained NAME")
    for entry in list_models(pretrained=True):
        costs = f"{entry.parameters:,} parameters, {entry.multiply_adds / 1e6:,.2f} M multiply-adds"
        print_line(
            f"{entry.name}\n  {entry.task}, {costs}, size {entry.size or '-'}, {entry.licence}\n"
            f"  published: {entry.published} ({entry.source}); measured: {entry.measured or '-'}"
        )
