"""``mobilevision demo``: train, measure and draw all three tasks on generated scenes, in minutes and without data."""

from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import format_figure, print_line, print_table
from mobilevision.cli.training import plain_errors
from mobilevision.demo.run import run_demo

SHOWN = ("top1", "top5", "map", "map_50", "miou", "pixel_accuracy")


def run(arguments: list[str]) -> None:
    """Run the demo, and print one table of figures."""
    parser = CommandParser(
        "mobilevision demo",
        description="Train, measure and draw all three tasks on generated scenes, one by one and together.",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), help="folder to write to, default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of scenes and training, default: %(default)s")
    given = parser.parse_args(arguments)
    with plain_errors():
        outcomes = run_demo(given.output, seed=given.seed, say=print_line)
    rows = [
        (task, name, format_figure(value), f"{outcome.seconds:.0f}")
        for task, outcome in outcomes.items()
        for name, value in outcome.figures.items()
        if name in SHOWN
    ]
    print_table("validation scenes", ("task", "figure", "value", "seconds"), rows)
    print_line(f"drawings: {given.output / 'demo.png'}")
    print_line(f"figures: {given.output / 'metrics.json'}")
