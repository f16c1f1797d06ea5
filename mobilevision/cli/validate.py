"""``mobilevision validate``: measure a network on the validation set."""

from mobilevision.cli.evaluation import evaluate


def run(arguments: list[str]) -> None:
    """Measure."""
    evaluate("validate", arguments)
