"""What an error comes to for a person at a terminal."""

import argparse
import os
import re
import time
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 130

PARENT_DEADLINE = 5.0
"""Seconds within which a process that meets an error itself has ended."""

WORKER_TRACEBACK = re.compile(r"^Caught \w+ in .*?\.\nOriginal Traceback", re.DOTALL)
LAST_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception)): ", re.MULTILINE)


class UsageError(ValueError):
    """The command line itself is wrong."""


class CommandParser(argparse.ArgumentParser):
    """A parser that raises where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message)


def one_line(error: BaseException) -> str:
    """Say what is wrong on one line.

    The traceback that a data loader's worker sends along is left out, as is the number of a system's error.

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
    """Whether this is a process that speaks for a run, or there is no other.

    Where a launcher of its own runs on each machine, as torchrun does, this is one process of each machine: every
    launcher has a terminal, and ends only its own processes. SLURM has one launcher and one terminal for all.
    """
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_PROCID") or "0") == 0


def reported_by_parent() -> bool:
    """Whether this is one of a run's further processes, and the first one is ending with an error of its own.

    What is wrong with the data is wrong in all of them, and is to be said once. What only this one has met, the first
    one cannot know of: it waits for it. Where a launcher started all of them, it ends this one meanwhile, as soon as
    the first one has ended.
    """
    if is_first_process():
        return False
    parent, deadline = os.getppid(), time.monotonic() + PARENT_DEADLINE
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.1)
    return os.getppid() != parent
