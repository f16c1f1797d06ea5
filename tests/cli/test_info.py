"""``info``, ``models`` and the frame around the subcommands."""

import json

import pytest

from mobilevision import __version__, list_models
from mobilevision.cli import main


def counts(run, *arguments):
    code, out, err = run("info", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


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
    found = counts(run, *arguments)
    assert found["parameters"] == parameters
    assert found["multiply_adds"] == pytest.approx(multiply_adds, rel=5e-4)
    assert found["peak_activation_bytes"] == max(part["peak_activation_bytes"] for part in found["parts"].values())
    for key in ("parameters", "multiply_adds"):
        assert sum(part[key] for part in found["parts"].values()) == found[key]
    assert found.keys() == {"parameters", "multiply_adds", "peak_activation_bytes", "parts"}


def test_the_table_names_every_part(run):
    code, out, _ = run("info", "ssdlite_mobilenet_v2")
    assert code == 0
    for part in ("backbone", "extras", "class_predictors", "box_predictors", "4,337,013", "788.83"):
        assert part in out


def test_models_lists_every_network(run):
    code, out, _ = run("models")
    assert code == 0
    for name in list_models():
        assert name in out


def test_the_frame_says_what_there_is(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "mobilevision SUBCOMMAND --help says more" in out
    assert run("--version") == (0, f"mobilevision {__version__}\n", "")


@pytest.mark.parametrize("name", ["predict", "score", "info", "models", "import-weights", "demo", "fit"])
def test_every_subcommand_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"mobilevision {name}" in capsys.readouterr().out
