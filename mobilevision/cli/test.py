"""``mobilevision test``: measure a network on the test set."""

from mobilevision.cli.evaluation import evaluate


def run(arguments: list[str]) -> None:
    """Measure."""
    evaluate("test", arguments)
