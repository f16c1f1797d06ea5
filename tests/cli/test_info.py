"""``info``, ``models`` and the list of subcommands."""

import json

import pytest

from mobilevision import __version__, list_models
from mobilevision.cli import main
from mobilevision.cli.command import SUBCOMMANDS


@pytest.mark.parametrize(
    ("arguments", "parameters", "multiply_adds"),
    [
        (("mobilenet_v2",), 3_504_872, 300.77e6),
        (("mobilenet_v2", "--num-classes", 1001, "--width-mult", 0.35, "--input-size", 96), 1_678_409, 11.94e6),
        (("ssdlite_mobilenet_v2",), 4_337_013, 788.83e6),
        (("ssdlite_mobilenet_v2", "--preset", "tf300", "--num-classes", 90), 4_500_543, 749.50e6),
        (("deeplabv3_mobilenet_v2",), 2_113_557, 2740.7e6),
        (("deeplabv3_mobilenet_v2", "--output-stride", 8), 2_113_557, 8826e6),
        (("deeplabv3_mobilenet_v2", "--head", "atrous"), 4_523_541, 5363.5e6),
    ],
)
def test_published_counts_are_printed(arguments, parameters, multiply_adds, run):
    code, out, err = run("info", *arguments, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.keys() == {"parameters", "multiply_adds", "peak_activation_bytes", "parts"}
    assert found["parameters"] == parameters
    assert found["multiply_adds"] == pytest.approx(multiply_adds, rel=5e-4)
    assert found["peak_activation_bytes"] == max(part["peak_activation_bytes"] for part in found["parts"].values())
    for key in ("parameters", "multiply_adds"):
        assert sum(part[key] for part in found["parts"].values()) == found[key]


def test_the_table_names_every_part(run):
    code, out, _ = run("info", "ssdlite_mobilenet_v2")
    assert code == 0
    for part in ("backbone", "extras", "class_predictors", "box_predictors", "4,337,013", "788.83"):
        assert part in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet50",), "resnet50"),
        (("mobilenet_v2", "--preset", "tf300"), "--preset"),
        (("mobilenet_v2", "--width-mult", "wide"), "--width-mult"),
        (("mobilenet_v2", "--width-mult", "-1"), "width_mult must be above 0, got -1.0"),
    ],
)
def test_an_unknown_network_or_option_is_one_line(arguments, message, run):
    code, out, err = run("info", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_models_lists_every_network_and_all_published_weights(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for name in (*list_models(), *(entry.name for entry in list_models(pretrained=True))):
        assert name in out
    lines = out.splitlines()
    entry = lines.index("mobilenet_v2_torchvision_v2")
    costs = "  classification, 3,504,872 parameters, 300.77 M multiply-adds, size 13.6 MB, BSD-3-Clause"
    assert lines[entry + 1] == costs
    assert lines[entry + 2].endswith(
        "published: ImageNet top-1 72.154, top-5 90.822 (torchvision, MobileNet_V2_Weights); measured: -"
    )


def test_help_lists_the_subcommands(run):
    code, out, _ = run("--help")
    assert code == 0
    for name, subcommand in SUBCOMMANDS.items():
        assert f"{name} " in out
        assert subcommand.summary in out
    assert run("--version") == (0, f"mobilevision {__version__}\n", "")


def test_an_unknown_subcommand_is_one_line(run):
    code, out, err = run("train")
    assert (code, out) == (2, "")
    assert "the subcommand must be one of fit, validate, " in err
    assert err.endswith("got 'train'\n")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_a_help_text(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"mobilevision {name}" in capsys.readouterr().out
