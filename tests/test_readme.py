"""The Python of the README and the quickstart runs as it stands there, and their commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from mobilevision.cli.command import SUBCOMMANDS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/quickstart.md")


def blocks(language):
    found = []
    for page in PAGES:
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        codes = [code for name, code in fences if name == language]
        found += [pytest.param(code, id=f"{page}-{index}") for index, code in enumerate(codes)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {})


@pytest.mark.parametrize("code", blocks(""))
def test_commands_and_the_files_of_the_project_that_they_name_exist(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words[:1] == ["mobilevision"]:
            assert words[1] in SUBCOMMANDS
            for word in words:
                assert not word.startswith("configs/") or (ROOT / word).is_file()
        elif words[:1] == ["make"]:
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()


def test_pictures_that_are_shown_are_there():
    for page in PAGES:
        for name in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / name).is_file()
