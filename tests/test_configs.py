"""Every configuration is what its header says, and the header's command is read by the command line."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from mobilevision.cli.training import TrainingCLI

# Lightning's command line calls jsonargparse by a name that it no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
OVERLAYS = [path for path in CONFIGS if path.stem.endswith("_quick")]
RECIPES = [path for path in CONFIGS if path not in OVERLAYS]


def identify(path):
    return path.stem


def header_of(path):
    return re.match(r"(?:#.*\n)+", path.read_text()).group()


def command_of(path):
    (command,) = re.findall(r"^#   (mobilevision fit (?:.*\\\n#)*.*)$", header_of(path), re.MULTILINE)
    return shlex.split(command.replace("\\\n#", " "))


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build task, data module and trainer from the options of ``fit``, without loading weights or data."""
    monkeypatch.chdir(ROOT)

    def build(options):
        here = {"logger": "false", "accelerator": "cpu", "devices": "1", "default_root_dir": str(tmp_path)}
        return TrainingCLI("fit", [*options, *(f"--trainer.{name}={value}" for name, value in here.items())])

    return build


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_the_command_of_a_recipe_builds_its_task_data_and_trainer(path, build):
    command = command_of(path)
    cli = build(command[2:])
    assert command[2:4] == ["--config", str(path.relative_to(ROOT))]
    assert type(cli.model).__module__ == f"mobilevision.{path.parent.name}.task"
    # One of them ends the run: -1 stands for no end.
    assert max(cli.trainer.max_epochs, cli.trainer.max_steps) > 0
    assert yaml.safe_load(path.read_text())["trainer"]["default_root_dir"] == f"runs/{path.stem}"
    assert cli.config["model"]["init_args"].get("heads", {}).keys() == cli.datamodule.by_head.keys()


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_a_recipe_states_nothing_that_its_data_or_the_defaults_supply(path, build):
    assert "num_classes" not in path.read_text()
    assert "input_size" not in path.read_text()
    with torch.device("meta"):
        network = build(["--config", str(path)]).model.network
    assert {int(size) for size in re.findall(r"(\d+) px", header_of(path))} <= {network.input_size}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=identify)
def test_a_quick_look_goes_over_every_recipe_of_its_task(overlay, build):
    recipes = [path for path in RECIPES if path.parent == overlay.parent]
    own = command_of(overlay)
    assert [str(path.relative_to(ROOT)) for path in recipes if path.name in overlay.read_text()] == [own[3]]
    for options in (own[2:], *(["--config", str(path), "--config", str(overlay)] for path in recipes)):
        trainer = build(options).trainer
        assert 0 < trainer.max_epochs <= 10
        assert trainer.max_steps == -1


@pytest.mark.parametrize("path", CONFIGS, ids=identify)
def test_the_header_has_cost_and_figures(path):
    assert {"Cost", "Published", "Measured"} <= set(re.findall(r"^# (\w+):", header_of(path), re.MULTILINE))
