"""The ``mobilevision`` command: run a subcommand, and turn an error into one line and an exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple, cast

from mobilevision import __version__
from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.cli.errors import BAD_INPUT, INTERRUPTED, UsageError, is_first_process, one_line, reported_by_parent

TRACEBACK_VARIABLE = "MOBILEVISION_TRACEBACK"


class Subcommand(NamedTuple):
    """A subcommand: its summary, and the function that runs it, imported when it is called: Lightning takes seconds.

    Attributes:
        summary: For the list of subcommands.
        module: In ``mobilevision.cli``.
        function: Takes the arguments behind the subcommand and returns an exit code, or None for 0.
    """

    summary: str
    module: str
    function: str = "run"

    def load(self) -> Callable[[list[str]], int | None]:
        """Import the function."""
        module = import_module(f"mobilevision.cli.{self.module}")
        return cast(Callable[[list[str]], int | None], getattr(module, self.function))


SUBCOMMANDS: Mapping[str, Subcommand] = {
    "fit": Subcommand("train a network", "fit"),
    "validate": Subcommand("measure a network on the validation split", "evaluation", "validate"),
    "test": Subcommand("measure a network on the test split", "evaluation", "test"),
    "predict": Subcommand("run a network on images, write JSON lines and drawings", "predict"),
    "check-data": Subcommand("find errors in a dataset before training on it", "check_data"),
    "score": Subcommand("measure predictions of any program: COCO detections, VOC masks", "score"),
    "info": Subcommand("count a network's parameters, multiply-adds and memory", "info"),
    "import-weights": Subcommand("convert weights that were trained in another framework", "import_weights"),
    "combine-weights": Subcommand("put the heads of several networks on one backbone", "joint_weights", "combine"),
    "split-weights": Subcommand("save each head of a joint network as a network", "joint_weights", "split"),
    "models": Subcommand("list the networks and the published weights", "models"),
    "demo": Subcommand("train, measure and draw all three tasks on generated scenes", "demo"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name; those of the process where None.

    Returns:
        The exit code: 0, 1 where a check has found problems, 2 after bad input, 130 after an interrupt.
    """
    try:
        with _warnings_on_one_line():
            code = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        if is_first_process():
            _print_message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed it. Python would raise once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        elif not reported_by_parent():
            _print_message(f"error: {one_line(error)}")
        return BAD_INPUT


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"mobilevision {__version__}\n")
        return 0
    if arguments[0] not in SUBCOMMANDS:
        raise UsageError(f"the subcommand must be one of {', '.join(SUBCOMMANDS)}, got {arguments[0]!r}")
    keep_freed_memory()
    return SUBCOMMANDS[arguments[0]].load()(arguments[1:]) or 0


def _usage() -> str:
    rows = "".join(f"  {name:17}{subcommand.summary}\n" for name, subcommand in SUBCOMMANDS.items())
    return (
        "usage: mobilevision SUBCOMMAND ...\n\nMobileNetV2 for classification, detection and segmentation.\n\n"
        f"{rows}\nmobilevision SUBCOMMAND --help lists the options. With {TRACEBACK_VARIABLE}=1 errors come with a "
        "traceback.\n"
    )


def _print_message(text: str) -> None:
    sys.stderr.write(f"mobilevision: {text}\n")


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        # All processes of a run read the same data.
        if is_first_process():
            _print_message(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
