"""Errors as one line for a person at a terminal, written by one process of a run."""

import argparse
import os
import re
import time
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 130

PARENT_DEADLINE = 5.0
"""Seconds within which a process that raises an error itself has ended."""

WORKER_TRACEBACK = re.compile(r"^Caught \w+ in .*?\.\nOriginal Traceback", re.DOTALL)
LAST_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception)): ", re.MULTILINE)


class UsageError(ValueError):
    """An error in the command line itself."""


class CommandParser(argparse.ArgumentParser):
    """Parser that raises where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, without a data loader worker's traceback or a system's error number.

    >>> one_line(FileNotFoundError(2, "No such file or directory", "cat.jpg"))
    'cat.jpg: No such file or directory'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    if WORKER_TRACEBACK.match(text):
        text = LAST_ERROR.split(text)[-1]
    return " ".join(text.split()) or type(error).__name__


def is_first_process() -> bool:
    """Return whether this is the process that writes for its launcher, or the only process.

    Where a launcher runs on each machine, as torchrun does, there is one such process on each machine: every launcher
    has a terminal, and ends only its own processes. SLURM has one launcher and one terminal for all.
    """
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_PROCID") or "0") == 0


def reported_by_parent() -> bool:
    """Return whether this is a further process of a run whose first process is ending with an error of its own.

    An error in the data is raised in all processes, and should be printed once. The first process does not know of an
    error that is raised in this one alone: it waits for this one. Where a launcher started all of them, it ends this
    one as soon as the first one has ended.
    """
    if is_first_process():
        return False
    parent, deadline = os.getppid(), time.monotonic() + PARENT_DEADLINE
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.1)
    return os.getppid() != parent
