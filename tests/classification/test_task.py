import math

import lightning as L
import numpy as np
import pytest
import torch
from mobilevision.classification.features import LinearLayer, compute_features, fit_layer
from PIL import Image
from torch.nn import functional as F

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.task import ClassificationTask
from mobilevision.classification.types import Batch
from mobilevision.weights.file import load_network, read_weights

SIZE = 64


def make_task(**options):
    small = {"num_classes": 2, "width_mult": 0.1, "input_size": SIZE, "norm_momentum": 0.3}
    return ClassificationTask(**small | options)


def make_trainer(folder, *callbacks, **options):
    settled = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
    }
    return L.Trainer(callbacks=list(callbacks), **settled | options)


class Losses(L.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


def make_data(root, **options):
    return ImageNetDataModule(str(root), **{"input_size": SIZE, "batch_size": 10, "num_workers": 0} | options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Dark and bright pictures, 10 to train and 7 to validate."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 7)):
        for index in range(count):
            name = ("bright", "dark")[index % 2]
            pixels = rng.integers(0, 128, (40, 50, 3)) + (128 if name == "bright" else 0)
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def trained(root):
    """A task after enough epochs to have settled from any first weights, its checkpoint, and the losses on the way."""
    torch.manual_seed(0)
    task, losses = make_task(learning_rate=0.01, label_smoothing=0.0, dropout=0.0), Losses()
    trainer = make_trainer(root, losses, max_epochs=45)
    trainer.fit(task, make_data(root))
    assert task.monitor in trainer.callback_metrics
    trainer.save_checkpoint(root / "last.ckpt")
    return task, root / "last.ckpt", losses.losses


def test_it_learns_what_it_is_shown(trained):
    task, _, losses = trained
    assert np.mean(losses[-3:]) < 0.3 * np.mean(losses[:3])
    assert task.report.figures["top1"] == 1.0


def test_a_checkpoint_says_what_it_is(trained):
    task, path, _ = trained
    card = read_weights(path).card
    assert (card.model, card.class_names, card.options["width_mult"]) == ("mobilenet_v2", ("bright", "dark"), 0.1)
    again = make_task()
    load_network(again.network, path)
    assert again.network.class_names == ("bright", "dark")
    assert torch.equal(again.network.head.linear.weight, task.network.head.linear.weight)


def test_a_checkpoint_builds_its_task_again_without_unpickling(trained):
    task, path, _ = trained
    again = ClassificationTask.load_from_checkpoint(path, weights_only=True)
    assert again.hparams == task.hparams
    assert again.network.options == task.network.options


def test_the_report_has_every_figure_and_every_class(trained, root):
    task, path, _ = trained
    trainer = make_trainer(root)
    (logged,) = trainer.validate(task, make_data(root), ckpt_path=path, verbose=False, weights_only=True)
    assert task.report.num_images == 7
    assert {f"val/{name}": figure for name, figure in task.report.figures.items()} == pytest.approx(logged)
    assert logged.keys() == {"val/loss", "val/top1", "val/top5", "val/ece"}
    assert task.report.per_class == {"bright": {"top1": 1.0}, "dark": {"top1": 1.0}}
    assert task.report.details["confusions"] == []
    assert task.report.details["images_per_second"] > 0
    (tested,) = trainer.test(task, make_data(root), verbose=False)
    assert tested == {name.replace("val", "test"): figure for name, figure in logged.items()}


def test_the_validation_loss_is_that_of_the_whole_set_whatever_the_batches(trained, root):
    task = trained[0]
    whole = make_data(root)
    whole.setup("validate")
    (batch,) = whole.val_dataloader()
    with torch.no_grad():
        expected = F.cross_entropy(task.eval().network(batch.images), batch.labels)
    make_trainer(root).validate(task, make_data(root, batch_size=3), verbose=False)
    assert task.report.figures["loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_an_image_that_comes_twice_counts_once(settle):
    task = make_task()
    settle(task.network)
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    batch = Batch(images, torch.tensor([0, 1]), torch.tensor([0, 1]))
    for rows in ([0, 1], [1]):
        task.validation_step(Batch(*(column[rows] for column in batch)), 0)
    expected = F.cross_entropy(task.network(images), batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(task.objective.mean_loss.compute(), expected)
    assert task.objective.top_k.compute().num_images == 2


def test_the_report_names_what_is_taken_for_what(root):
    task = make_task()
    torch.nn.init.zeros_(task.network.head.linear.weight)
    task.network.head.linear.bias.data = torch.tensor([1.0, 0.0])
    make_trainer(root).validate(task, make_data(root), verbose=False)
    # 3 of the 7 are dark.
    assert task.report.details["confusions"] == [{"label": "dark", "predicted": "bright", "images": 3}]
    confidence = 1 / (1 + math.exp(-1))
    assert task.report.figures["ece"] == pytest.approx(abs(confidence - 4 / 7), abs=1e-5)


def test_label_smoothing_spreads_a_share_of_the_label(settle):
    task = make_task(label_smoothing=0.2)
    settle(task.network)
    batch = Batch(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), torch.tensor([0]), torch.tensor([0]))
    scores = task.network(batch.images).softmax(dim=1)[0].tolist()
    task.validation_step(batch, 0)
    expected = -(0.9 * math.log(scores[0]) + 0.1 * math.log(scores[1]))
    assert task.objective.mean_loss.compute().item() == pytest.approx(expected, rel=1e-4)


def test_a_mixed_batch_is_learned_with_its_mixed_labels_and_the_step_alone_decides_how(root):
    losses = [Losses(), Losses()]
    for each in losses:
        torch.manual_seed(3)
        task = make_task(mixup_alpha=0.5, cutmix_alpha=0.5, dropout=0.0)
        make_trainer(root, each, max_epochs=3).fit(task, make_data(root))
    assert losses[0].losses == pytest.approx(losses[1].losses, rel=1e-4)
    images, targets = task.objective.mixing(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), torch.tensor([0, 1]))
    assert (images.dtype, targets.shape) == (torch.float32, (2, 2))


def test_another_number_of_classes_is_refused(root):
    with pytest.raises(ValueError, match=r"the data has 2 classes .*, the network has 3: set model\.num_classes to 2"):
        make_trainer(root).validate(make_task(num_classes=3), make_data(root), verbose=False)


def test_the_network_is_built_with_the_tasks_scalars():
    task = ClassificationTask(
        3, width_mult=0.5, padding="tf_same", input_size=96, dropout=0.3, norm_eps=1e-5, norm_momentum=0.2
    )
    wanted = {"num_classes": 3, "width_mult": 0.5, "padding": "tf_same", "input_size": 96, "dropout": 0.3}
    assert task.network.options.items() >= (wanted | {"norm_eps": 1e-5, "norm_momentum": 0.2}).items()


def test_the_head_is_fitted_before_the_first_step_and_a_step_without_rate_leaves_it(root, trained):
    path = trained[1]
    options = {"fit_head": True, "label_smoothing": 0.0, "learning_rate": 0.0, "backbone_rate": 0.0}
    task = make_task(backbone_weights=str(path), **options)
    assert not torch.equal(task.network.head.linear.weight, trained[0].network.head.linear.weight)
    make_trainer(root, max_steps=1).fit(task, make_data(root))
    assert task.report.figures["top1"] == 1.0
    data = make_data(root)
    data.setup("fit")
    torch.testing.assert_close(task.network.backbone.state_dict(), trained[0].network.backbone.state_dict())
    features = compute_features(task.network, data.feature_dataloader())
    again = fit_layer(features, LinearLayer(*trained[0].network.head.linear.state_dict().values()))
    torch.testing.assert_close(task.network.head.linear.weight, again.weight, atol=1e-3, rtol=1e-3)


def test_a_run_that_goes_on_keeps_its_head(root, trained):
    task = make_task(fit_head=True, learning_rate=0.0)
    trainer = make_trainer(root, max_epochs=45)
    trainer.fit(task, make_data(root), ckpt_path=trained[1], weights_only=True)
    torch.testing.assert_close(task.network.head.linear.weight, trained[0].network.head.linear.weight)
