"""Fine-tuning a classifier through the command line: the head alone, and what its report says."""

import json

import torch

from mobilevision.weights.file import read_weights


def test_the_head_alone_is_fitted_and_measured_and_leaves_the_backbone_as_it_was(trained, setups, run, tmp_path):
    source = trained("classification") / "run_1/checkpoints/weights.safetensors"
    head_only = {
        "model.backbone_weights": source,
        "model.fit_head": "true",
        "model.backbone_rate": 0,
        "model.learning_rate": 0,
        "trainer.limit_train_batches": 1,
    }
    options = [word for name, value in head_only.items() for word in (f"--{name}", value)]
    assert run("fit", *setups["classification"].options(tmp_path, *options)).code == 0
    weights = tmp_path / "run_1/checkpoints/weights.safetensors"
    before, after = read_weights(source), read_weights(weights)
    assert after.card.class_names == ("blue", "red")
    for name, tensor in before.tensors.items():
        assert torch.equal(after.tensors[name], tensor) == (not name.startswith("head.linear."))
    code, out, _ = run("validate", *setups["classification"].options(tmp_path, "--ckpt_path", weights))
    assert code == 0
    assert "ece" in out
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert f"val/top1 {written['figures']['top1']:.4f}" == after.card.provenance["measured"]
    assert written["details"]["images_per_second"] > 0
    wrong = sum(pair["images"] for pair in written["details"]["confusions"])
    assert wrong == round(5 * (1 - written["figures"]["top1"]))
