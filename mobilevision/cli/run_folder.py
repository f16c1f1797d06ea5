"""The output folder of a training run: ``<default_root_dir>/run_1``, ``run_2`` and so on."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

CHECKPOINTS = "checkpoints"
BEST = "best"
LAST = "last"


class RunFolder(NamedTuple):
    """The output folder of one run.

    Attributes:
        path: The folder.
        resumed: Whether the run resumes an earlier one in the same folder.
    """

    path: Path
    resumed: bool = False

    @classmethod
    def claim(cls, root: Path) -> Self:
        """Create the next folder below ``root``, so that no run overwrites another one's results."""
        root.mkdir(parents=True, exist_ok=True)
        number = max((_number(folder) for folder in root.iterdir()), default=0) + 1
        while True:
            path = root / f"run_{number}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, root: Path) -> Self | None:
        """Return the folder that ``checkpoint`` was written to, if it is a run's folder below ``root``."""
        folder = checkpoint.resolve().parent.parent
        if checkpoint.parent.name == CHECKPOINTS and _number(folder) and folder.parent == root.resolve():
            return cls(root / folder.name, resumed=True)
        return None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints and the weights."""
        return self.path / CHECKPOINTS

    @property
    def weights(self) -> Path:
        """The file of the best weights."""
        return self.checkpoints / "weights.safetensors"

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that ended before its first checkpoint."""
        if self.resumed or any(self.checkpoints.glob("*.ckpt")):
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()


def find_checkpoint(name: str, root: Path) -> Path | None:
    """Return the file that ``--ckpt_path`` names: a path, or ``best`` or ``last`` of the newest run below ``root``.

    Raises:
        FileNotFoundError: The path does not exist.
    """
    if name in (BEST, LAST):
        found = root.glob(f"run_*/{CHECKPOINTS}/{name}.ckpt")
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    if not Path(name).is_file():
        raise FileNotFoundError(f"checkpoint not found: {name}")
    return Path(name)


def _number(folder: Path) -> int:
    """Return the number of a run's folder, or 0 for another folder."""
    digits = folder.name.removeprefix("run_")
    return int(digits) if folder.name.startswith("run_") and digits.isdigit() else 0
