"""Of the processes of a run one says what is wrong."""

import pytest

from mobilevision.cli import errors
from mobilevision.cli.errors import is_first_process, reported_by_parent

TORCHRUN_ON_THE_SECOND_OF_TWO_MACHINES = {"RANK": "8", "LOCAL_RANK": "0", "WORLD_SIZE": "16"}
TORCHRUN_UNDER_SRUN = {"SLURM_PROCID": "1", "RANK": "8", "LOCAL_RANK": "0"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        (TORCHRUN_ON_THE_SECOND_OF_TWO_MACHINES, True),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, False),
        ({"SLURM_PROCID": "8", "SLURM_LOCALID": "0"}, False),
        (TORCHRUN_UNDER_SRUN, True),
    ],
)
def test_one_process_of_each_launcher_speaks(monkeypatch: pytest.MonkeyPatch, environment: dict, first: bool):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_what_nobody_else_ends_for_is_said_by_the_process_that_met_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(errors, "PARENT_DEADLINE", 0.0)
    assert not reported_by_parent()
