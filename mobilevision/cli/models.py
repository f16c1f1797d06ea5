"""``mobilevision models``: which networks there are."""

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_table
from mobilevision.complexity import measure
from mobilevision.models import get_model, list_models


def run(arguments: list[str]) -> None:
    """Print every network's name and what it costs as the paper has it."""
    CommandParser("mobilevision models", description="List the networks.").parse_args(arguments)
    rows = []
    for name in list_models():
        network = get_model(name)
        complexity = measure(network)
        counts = f"{complexity.parameters:,}", f"{complexity.multiply_adds / 1e6:,.2f}"
        rows.append((name, str(network.input_size), str(network.num_classes), *counts))
    print_table("networks", ("name", "input", "classes", "parameters", "multiply-adds (M)"), rows)
