"""The Python of the README and the quickstart runs as it is there, and their commands are read by the command line."""

import re
import shlex
from pathlib import Path

import pytest

from mobilevision.cli.command import SUBCOMMANDS
from mobilevision.cli.training import TrainingCLI

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/quickstart.md")


def blocks(language):
    found = []
    for page in PAGES:
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        codes = [code for name, code in fences if name == language]
        found += [pytest.param(code, id=f"{page}-{index}") for index, code in enumerate(codes)]
    return found


@pytest.mark.filterwarnings("ignore:.*tensorboardX")
@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, write_dataset, tmp_path, monkeypatch):
    if "data/coco" in code:
        write_dataset("detection", tmp_path / "data/coco", train=2, val=1)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {})


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.parametrize("code", blocks(""))
def test_commands_and_the_files_of_the_project_that_they_name_exist(code, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    here = {"logger": "false", "accelerator": "cpu", "devices": "1", "default_root_dir": str(tmp_path)}
    for line in filter(None, code.replace("\\\n", " ").splitlines()):
        program, *words = shlex.split(line)
        if program == "mobilevision":
            assert words[0] in SUBCOMMANDS
            options = [word for word in words[1:] if word != "--dry-run"]
            if words[0] in ("fit", "validate", "test"):
                TrainingCLI(words[0], [*options, *(f"--trainer.{name}={value}" for name, value in here.items())])
        elif program == "make":
            assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text()


def test_images_that_are_shown_are_there():
    for page in PAGES:
        for name in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / name).is_file()
