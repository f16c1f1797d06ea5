"""Print figures for a person at a terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from mobilevision.training.evaluation import Report

MAX_CLASSES = 100
"""The most classes that are all listed; of more, the worst are."""
NUM_WORST = 20


def print_line(text: str) -> None:
    """Print ``text`` unchanged on a line of its own."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose other columns are figures."""
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_line(title)
    Console().print(table, markup=False)


def print_figures(figures: Mapping[str, float], title: str) -> None:
    """Print figures by name."""
    print_table(title, ("figure", "value"), [(name, format_figure(value)) for name, value in figures.items()])


def print_report(report: Report, title: str) -> None:
    """Print the figures of an evaluation, as a whole and by class."""
    print_figures(report.figures, f"{title}, {report.num_images} images")
    # The classes of different tasks have different figures: one table each.
    for _, rows in groupby(report.per_class.items(), key=lambda row: tuple(row[1])):
        _print_classes(dict(rows))
    # Of several heads each has its own details.
    for details in (report.details, *report.details.values()):
        if isinstance(details, Mapping):
            print_absent(details.get("absent_classes", ()))


def print_absent(names: Sequence[str]) -> None:
    """Print the classes that have no figure, since nothing in the data is of them."""
    if names:
        print_line(f"no pixel of the dataset is of {', '.join(names)}: without a figure, and no part of the means")


def format_figure(value: float) -> str:
    """Return a figure with four decimals, or a dash if it was not measured.

    >>> format_figure(0.12345), format_figure(float("nan"))
    ('0.1235', '-')
    """
    return "-" if math.isnan(value) else f"{value:.4f}"


def report_to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain JSON values."""
    return {
        "figures": without_nan(report.figures),
        "per_class": {name: without_nan(figures) for name, figures in report.per_class.items()},
        "num_images": report.num_images,
        "details": dict(report.details),
    }


def without_nan(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures with None for those that were not measured, which JSON has no number for."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _print_classes(per_class: Mapping[str, Mapping[str, float]]) -> None:
    columns = list(next(iter(per_class.values())))
    classes = list(per_class)
    title = "by class"
    if len(classes) > MAX_CLASSES:
        measured = [name for name in classes if not math.isnan(per_class[name][columns[0]])]
        classes = sorted(measured, key=lambda name: per_class[name][columns[0]])[:NUM_WORST]
        title = f"the worst {len(classes)} of {len(per_class)} classes"
    rows = [(name, *(format_figure(per_class[name][column]) for column in columns)) for name in classes]
    print_table(title, ("class", *columns), rows)
