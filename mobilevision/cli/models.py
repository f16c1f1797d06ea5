"""``mobilevision models``: which networks there are, and which weights others have published for them."""

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line, print_table
from mobilevision.complexity import measure
from mobilevision.models import get_model, list_models
from mobilevision.weights.joint import TASKS

DASH = "-"


def run(arguments: list[str]) -> None:
    """Print what every network costs as the paper has it, and the published weights with their figures."""
    CommandParser("mobilevision models", description="List the networks and the published weights.").parse_args(
        arguments
    )
    rows = []
    for name in list_models():
        network = get_model(name)
        complexity = measure(network)
        counts = f"{complexity.parameters:,}", f"{complexity.multiply_adds / 1e6:,.2f}"
        rows.append((name, str(network.input_size), str(network.num_classes), *counts))
    print_table("networks", ("name", "input", "classes", "parameters", "multiply-adds (M)"), rows)
    print_line("published weights: get_model(MODEL, pretrained=NAME), --weights NAME, --model.weights NAME")
    for entry in list_models(pretrained=True):
        costs = f"{entry.parameters:,} parameters, {entry.multiply_adds / 1e6:,.2f} M multiply-adds"
        print_line(
            f"{entry.name}\n  {TASKS[entry.model]}, {costs}, size {entry.size or DASH}, {entry.licence}\n"
            f"  published: {entry.published} ({entry.source}); measured: {entry.measured or DASH}"
        )
