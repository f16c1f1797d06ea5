import lightning as L
import pytest
import torch
from torch.nn import functional as F

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.head import mobilenet_v2
from mobilevision.classification.linear_probe import compute_features, fit_layer, nearest_rows
from mobilevision.classification.task import ClassificationTask
from mobilevision.weights.file import read_weights, save_weights

SIZE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_dataset):
    return write_dataset("classification", tmp_path_factory.mktemp("data"), train=10, val=7)


@pytest.fixture
def data(root):
    return ImageNetDataModule(str(root), batch_size=3, num_workers=0)


def make_task(**options):
    return ClassificationTask(**{"width_mult": 0.1, "input_size": SIZE} | options)


def take_batch(data, task):
    data.setup("validate")
    data.attach(task.network.head)
    return next(iter(data.val_dataloader()))


class Losses(L.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


def test_the_loss_is_that_of_smoothed_labels_in_training_and_of_the_whole_dataset_in_validation(data, make_trainer):
    task = make_task(num_classes=2, label_smoothing=0.2, dropout=0.0)
    make_trainer().validate(task, data, verbose=False)
    batches = list(data.val_dataloader())
    with torch.no_grad():
        outputs = torch.cat([task.network.eval()(batch.images) for batch in batches])
        losses = task.compute_losses({"classification": batches[0]}, 0)
    labels = torch.cat([batch.labels for batch in batches])
    expected = F.cross_entropy(outputs, labels, label_smoothing=0.2)
    assert task.report.figures["loss"] == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(
        losses["classification"]["loss"], F.cross_entropy(outputs[:3], labels[:3], label_smoothing=0.2)
    )


def test_a_batch_is_mixed_with_its_labels_and_the_step_alone_decides_how(data, root, make_trainer):
    losses = [Losses(), Losses()]
    for each in losses:
        torch.manual_seed(3)
        task = make_task(mixup_alpha=0.5, cutmix_alpha=0.5, dropout=0.0)
        make_trainer(each, max_epochs=2, limit_val_batches=0).fit(task, data)
    assert losses[0].losses == pytest.approx(losses[1].losses, rel=1e-4)
    batch = next(iter(data.val_dataloader()))
    mixed = task.prepare_batch("classification", batch)
    assert (mixed.images.dtype, mixed.labels.shape) == (torch.float32, (3, 2))
    assert torch.equal(mixed.positions, batch.positions)


def test_the_head_is_fitted_before_the_first_step_and_a_step_without_rate_leaves_it(
    data, settle, make_trainer, tmp_path
):
    network, path = settle(mobilenet_v2(2, width_mult=0.1, input_size=SIZE)), tmp_path / "start.safetensors"
    save_weights(network, path)
    options = {"fit_head": True, "label_smoothing": 0.0, "learning_rate": 0.0, "backbone_rate": 0.0}
    task = make_task(backbone_weights=str(path), **options)
    make_trainer(max_steps=1, limit_val_batches=1).fit(task, data)
    torch.testing.assert_close(task.network.backbone.state_dict(), network.backbone.state_dict())
    features = compute_features(task.network, data.feature_dataloader())
    expected = fit_layer(features, nearest_rows(features, 2, read_weights(path)))
    linear = task.network.head.linear
    torch.testing.assert_close(linear.weight, expected.weight, atol=1e-3, rtol=1e-2)
    assert (linear(features.features).argmax(dim=1) == features.labels).all()


def test_a_run_that_is_resumed_keeps_its_head(data, make_trainer, tmp_path):
    first = make_task()
    trainer = make_trainer(max_epochs=1, limit_val_batches=1)
    trainer.fit(first, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    task = make_task(fit_head=True)
    make_trainer(max_epochs=1).fit(task, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(task.network.head.linear.weight, first.network.head.linear.weight)
