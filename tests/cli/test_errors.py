"""One process of a run writes its errors."""

import pytest

from mobilevision.cli import errors
from mobilevision.cli.errors import is_first_process, one_line, reported_by_parent

WORKER = (
    'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "a.py"\n'
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        # torchrun on the second of two machines.
        ({"RANK": "8", "LOCAL_RANK": "0", "WORLD_SIZE": "16"}, True),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, False),
        ({"SLURM_PROCID": "8", "SLURM_LOCALID": "0"}, False),
        # torchrun started by srun.
        ({"SLURM_PROCID": "1", "RANK": "8", "LOCAL_RANK": "0"}, True),
    ],
)
def test_one_process_of_each_launcher_writes(monkeypatch: pytest.MonkeyPatch, environment: dict, first: bool):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_an_error_that_no_other_process_raises_is_written_by_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(errors, "PARENT_DEADLINE", 0.0)
    assert not reported_by_parent()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError(f"{WORKER}ValueError: cat.jpg does not decode"), "cat.jpg does not decode"),
    ],
)
def test_an_error_is_one_line_without_a_workers_traceback(error: Exception, line: str):
    assert one_line(error) == line
