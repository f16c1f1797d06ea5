"""The processes of one run end together, and what went wrong is said once."""

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
"""Seconds within which a process that has met an error has said so and ended, however busy the machine is."""


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Run ``trainer`` in one of its processes, and end when another one does.

    The first process ends those that it started itself. Those that torchrun or SLURM started are theirs to end.

    Raises:
        SystemExit: Another process has met an error and said so; with its exit code.
        ChildProcessError: Another process was killed, or is lost for another reason.
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
        elif _is_lost_connection(error):
            # torchrun asks this one to end too, before it has said why.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise ChildProcessError(
                f"process {trainer.global_rank} of {trainer.world_size} lost the connection to another one, which was "
                "killed or says why it ended; fit --ckpt_path last goes on from the last checkpoint"
            ) from error
        raise


def _is_lost_connection(error: Exception) -> bool:
    # gloo has no error of its own; its file is in the message.
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def _wait_for_failure(processes: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    deadline = time.monotonic() + CHILD_DEADLINE
    while time.monotonic() < deadline:
        codes = [code for process in processes if (code := process.poll())]
        if codes:
            return codes[0]
        time.sleep(0.1)
    return None
