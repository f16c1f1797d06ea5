"""Every configuration is read by the command that it is for, and its header says what it is."""

from pathlib import Path

import pytest
import yaml

from mobilevision.cli.training import TrainingCLI

# Lightning's command line calls jsonargparse by a name that it no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

CONFIGS = Path(__file__).parents[1] / "configs"
WHOLE = sorted(path for path in CONFIGS.rglob("*.yaml") if not path.stem.endswith("_quick"))
OVERLAYS = sorted(CONFIGS.rglob("*_quick.yaml"))


def header(path):
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def identify(path):
    return path.stem


@pytest.mark.parametrize("path", WHOLE, ids=identify)
def test_a_configuration_builds_its_task_data_and_trainer(path, tmp_path, monkeypatch):
    # A file of weights that is to be downloaded or made first cannot be there.
    config = yaml.safe_load(path.read_text())
    options = config["model"]["init_args"]
    options.update({name: None for name in ("weights", "backbone_weights") if name in options})
    config["trainer"] |= {
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 1,
        "default_root_dir": str(tmp_path),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    cli = TrainingCLI("fit", ["--config", str(tmp_path / "config.yaml")])
    network, datamodule = cli.model.network, cli.datamodule
    parts = [(options, network, datamodule)] if "num_classes" in options else []
    for head, chosen in options.get("heads", {}).items():
        parts.append((chosen, network.members[head], datamodule.members[head]))
    assert parts
    for chosen, each, data in parts:
        assert each.num_classes == chosen["num_classes"]
        assert each.input_size == data.input_size
    assert cli.trainer.max_epochs or cli.trainer.max_steps


@pytest.mark.parametrize("overlay", OVERLAYS, ids=identify)
def test_a_quick_look_goes_over_every_configuration_of_its_task(overlay, tmp_path):
    (task,) = [path for path in WHOLE if path.parent == overlay.parent and path.name in overlay.read_text()]
    options = ["--trainer.logger", "false", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path)]
    cli = TrainingCLI("fit", ["--config", str(task), "--config", str(overlay), *options])
    assert cli.trainer.max_epochs <= 10


@pytest.mark.parametrize("path", [*WHOLE, *OVERLAYS], ids=identify)
def test_the_header_says_command_cost_and_figures(path):
    text = header(path)
    for part in (
        f"configs/{path.parent.name}/{path.name}",
        "mobilevision fit",
        "# Cost:",
        "# Published:",
        "# Measured:",
    ):
        assert part in text
