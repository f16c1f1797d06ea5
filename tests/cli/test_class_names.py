"""Classes keep what was learned under their names, whatever their number and order, through the commands."""

import json

import pytest
import torch

from mobilevision import get_model, load_model, save_weights

MODELS = {
    "classification": "mobilenet_v2",
    "detection": "ssdlite_mobilenet_v2",
    "segmentation": "deeplabv3_mobilenet_v2",
}
NOT_TRAINED = ("--model.learning_rate", "0", "--trainer.limit_train_batches", "1")


def class_rows(head):
    """View every tensor of a head that has rows for classes as groups of rows, those of its classes only."""
    layout, state = head.class_rows(), head.state_dict()
    for name in layout.tensors:
        groups = state[name].view(-1, layout.num_hidden + head.num_classes, *state[name].shape[1:])
        yield groups[:, layout.num_hidden :]


@pytest.fixture
def write(tmp_path):
    """Write weights whose row of class k is filled with k."""

    def write(task, *names):
        network = get_model(MODELS[task], num_classes=len(names), width_mult=0.1, input_size=64)
        network.head.class_names = names
        for rows in class_rows(network.head):
            rows.copy_(torch.arange(len(names)).view(1, -1, *[1] * (rows.ndim - 2)).expand_as(rows))
        path = tmp_path / f"{'_'.join(names)}.safetensors"
        save_weights(network, path)
        return path

    return write


@pytest.fixture
def fit(write, setups, run, tmp_path):
    """Start a training from weights with these class names, with a rate of 0; return its output and its rows."""

    def fit(task, names, *more):
        options = setups[task].options(tmp_path, "--model.pretrained", write(task, *names), *NOT_TRAINED, *more)
        outcome = run("fit", *options)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out, rows_of(tmp_path / "run_1/checkpoints/weights.safetensors")

    return fit


@pytest.fixture
def validate(write, setups, run, tmp_path):
    """Measure weights with these class names, given as one option or another."""

    def validate(task, names, option):
        return run("validate", *setups[task].options(tmp_path, option, write(task, *names)))

    return validate


def rows_of(path):
    """Return the number that every class's rows are filled with, None where they are not."""
    head = load_model(path).head
    numbers = {}
    for label, name in enumerate(head.class_names):
        found = torch.cat([rows[:, label].flatten() for rows in class_rows(head)]).unique()
        numbers[name] = found.item() if len(found) == 1 else None
    return numbers


def lines_of(out):
    return [line.partition(": ")[2].partition("; ")[2] for line in out.splitlines() if ": loaded " in line]


@pytest.mark.parametrize(
    ("task", "names", "rows", "line"),
    [
        (
            "detection",
            ("owl", "red", "dog", "blue", "cat"),
            {"blue": 3, "red": 1},
            "adapted: 2 classes of 5 by name; unexpected: 3 classes of 5",
        ),
        (
            "detection",
            ("owl", "red", "dog"),
            {"blue": None, "red": 1},
            "adapted: 1 classes of 3 by name; missing: 1 classes of 2; unexpected: 2 classes of 3",
        ),
        ("detection", ("red", "blue"), {"blue": 1, "red": 0}, "adapted: 2 classes of 2 by name"),
        (
            "classification",
            ("red", "owl"),
            {"blue": None, "red": 0},
            "adapted: 1 classes of 2 by name; missing: 1 classes of 2; unexpected: 1 classes of 2",
        ),
        # Another spelling in the same place.
        ("classification", ("azure", "red"), {"blue": 0, "red": 1}, ""),
        (
            "segmentation",
            ("background", "owl", "red", "blue"),
            {"background": 0, "blue": 3, "red": 2},
            "adapted: 3 classes of 4 by name; unexpected: 1 classes of 4",
        ),
    ],
)
def test_a_training_starts_every_class_from_the_rows_of_its_name(task, names, rows, line, fit):
    out, started = fit(task, names)

    assert lines_of(out) == [line]
    assert started == rows


def test_an_average_of_the_weights_starts_from_the_rows_too(fit):
    never = ("--trainer.callbacks.update_starting_at_step", "1000")
    average = ("--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", *never)

    assert fit("classification", ("red", "blue"), *average)[1] == {"blue": 1, "red": 0}


def test_a_resumed_run_keeps_its_rows_and_needs_no_other_file(fit, run, tmp_path):
    fit("classification", ("red", "owl", "blue"))
    source = tmp_path / "red_owl_blue.safetensors"
    source.unlink()
    again = ["--config", tmp_path / "run_1/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]

    code, out, _ = run("fit", *again, "--trainer.default_root_dir", tmp_path)

    assert (code, lines_of(out)) == (0, [])
    assert rows_of(tmp_path / "run_1/checkpoints/last.ckpt") == {"blue": 2, "red": 0}
    assert str(source) in (tmp_path / "run_1/config.yaml").read_text()


def test_a_run_is_not_resumed_with_its_classes_in_another_order(setups, trained, run, tmp_path):
    setup = setups["classification"]
    (tmp_path / "classes.txt").write_text("red red\nblue blue\n")
    more = ("--data.class_list", tmp_path / "classes.txt", "--trainer.max_epochs", "2")
    checkpoint = trained("classification") / "checkpoints/last.ckpt"

    code, _, err = run("fit", *setup.options(tmp_path / "out", "--ckpt_path", checkpoint, *more))

    assert code == 2
    assert "the checkpoint has blue, red, ..., the data has red, blue, ..." in err


@pytest.mark.parametrize("option", ["--model.pretrained", "--ckpt_path"])
@pytest.mark.parametrize("names", [("red", "blue"), ("owl", "red", "blue")])
def test_classes_are_measured_by_their_names(option, names, validate, tmp_path):
    # The logits of every image rise with the class's number, so that all are predicted as blue, as three of five are.
    code, _, err = validate("classification", names, option)

    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "metrics.json").read_text())["figures"]["top1"] == pytest.approx(0.6)


def test_a_class_that_the_weights_lack_is_not_measured(validate):
    code, _, err = validate("detection", ("red", "owl"), "--ckpt_path")

    assert code == 2
    assert "missing: 1 classes of 2; unexpected: 1 classes of 2: classes that were never trained" in err
