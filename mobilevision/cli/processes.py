"""End the processes of one run together, with the error printed once."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed import DistError

from mobilevision.cli.errors import PARENT_DEADLINE

CHILD_DEADLINE = 4 * PARENT_DEADLINE
"""Seconds within which a process that raises an error has printed it and ended, however busy the machine is."""


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Run ``trainer`` in one of its processes, and end when another process ends with an error.

    The first process ends those that it started itself. torchrun and SLURM end those that they started.

    Raises:
        SystemExit: Another process has printed an error and ended; with its exit code.
        ChildProcessError: Another process was killed, or is lost for another reason.
    """
    try:
        yield
    except Exception as error:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            # To this process, a process that has ended is a broken connection.
            code = _wait_for_failure(launcher.procs) if isinstance(error, RuntimeError) else None
            launcher.kill(signal.SIGKILL)
            if code is not None and code > 0:
                raise SystemExit(code) from error
            if code is not None:
                raise ChildProcessError(f"a process of this run was killed by signal {-code}") from error
        elif _is_lost_connection(error):
            # torchrun ends this process too, before it has printed the reason.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise ChildProcessError(
                f"process {trainer.global_rank} of {trainer.world_size} lost the connection to another one, which was "
                "killed or prints why it ended; fit --ckpt_path last goes on from the last checkpoint"
            ) from error
        raise


def _is_lost_connection(error: Exception) -> bool:
    # gloo has no error class of its own; its source file is in the message.
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def _wait_for_failure(processes: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    """Return the exit code of the first process that ends with an error, or None if none does in time."""
    deadline = time.monotonic() + CHILD_DEADLINE
    while time.monotonic() < deadline:
        codes = [code for process in processes if (code := process.poll())]
        if codes:
            return codes[0]
        time.sleep(0.1)
    return None
