"""The processes of one run end together, and what went wrong is said once."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mobilevision.cli.errors import PARENT_DEADLINE

CHILD_DEADLINE = 4 * PARENT_DEADLINE
"""Seconds within which a process that has met an error has said so and ended, however busy the machine is."""


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Run ``trainer`` in the first of its processes: end the others with it, and end with them.

    Raises:
        SystemExit: Another process has met an error and said so; with its exit code.
        ChildProcessError: Another process was killed.
    """
    try:
        yield
    except Exception as error:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            # A process that is lost shows as a broken connection.
            code = _wait_for_failure(launcher.procs) if isinstance(error, RuntimeError) else None
            launcher.kill(signal.SIGKILL)
            if code is not None and code > 0:
                raise SystemExit(code) from error
            if code is not None:
                raise ChildProcessError(f"a process of this run was killed by signal {-code}") from error
        raise


def _wait_for_failure(processes: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    deadline = time.monotonic() + CHILD_DEADLINE
    while time.monotonic() < deadline:
        codes = [code for process in processes if (code := process.poll())]
        if codes:
            return codes[0]
        time.sleep(0.1)
    return None
