"""Find the subcommand that is asked for and turn what goes wrong into one line and an exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

from mobilevision import __version__
from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.cli.errors import BAD_INPUT, INTERRUPTED, UsageError, is_first_process, one_line, reported_by_parent

TRACEBACK_VARIABLE = "MOBILEVISION_TRACEBACK"


class Subcommand(NamedTuple):
    """Where a subcommand lives, and what it is for. It is imported when it is asked for: Lightning takes seconds."""

    module: str
    summary: str


SUBCOMMANDS: Mapping[str, Subcommand] = {
    "fit": Subcommand("mobilevision.cli.fit", "train a network"),
    "validate": Subcommand("mobilevision.cli.validate", "measure a network on the validation set"),
    "test": Subcommand("mobilevision.cli.test", "measure a network on the test set"),
    "predict": Subcommand("mobilevision.cli.predict", "say what is in pictures, as JSON lines and drawings"),
    "check-data": Subcommand(
        "mobilevision.cli.check_data", "find what is wrong with a data set before it is trained on"
    ),
    "score": Subcommand("mobilevision.cli.score", "measure anybody's results: COCO detections, VOC masks"),
    "info": Subcommand("mobilevision.cli.info", "count a network's parameters, multiply-adds and memory"),
    "import-weights": Subcommand(
        "mobilevision.cli.import_weights", "take over a network that another program has trained"
    ),
    "combine-weights": Subcommand(
        "mobilevision.cli.combine_weights", "put the heads of several networks on one backbone"
    ),
    "split-weights": Subcommand("mobilevision.cli.split_weights", "give the heads of a joint network back one by one"),
    "models": Subcommand("mobilevision.cli.models", "list the networks and the published weights"),
    "demo": Subcommand("mobilevision.cli.demo", "train, measure and draw all three tasks on made-up scenes"),
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
            _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads the output has seen enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        elif not reported_by_parent():
            _say(f"error: {one_line(error)}")
        return BAD_INPUT


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_usage())
    elif arguments[0] == "--version":
        sys.stdout.write(f"mobilevision {__version__}\n")
    elif arguments[0] not in SUBCOMMANDS:
        raise UsageError(f"the subcommand must be one of {', '.join(SUBCOMMANDS)}, got {arguments[0]!r}")
    else:
        keep_freed_memory()
        return import_module(SUBCOMMANDS[arguments[0]].module).run(arguments[1:]) or 0
    return 0


def _usage() -> str:
    rows = "".join(f"  {name:16}{subcommand.summary}\n" for name, subcommand in SUBCOMMANDS.items())
    return (
        "usage: mobilevision SUBCOMMAND ...\n\nMobileNetV2 for classification, detection and segmentation.\n\n"
        f"{rows}\nmobilevision SUBCOMMAND --help says more. With {TRACEBACK_VARIABLE}=1 errors come with a traceback.\n"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"mobilevision: {text}\n")


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        _say(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
