import pytest
import torch
from mobilevision.weights.joint import combine_weights, heads_of, split_weights

from mobilevision import get_model
from mobilevision.weights.card import Weights, WeightsCard

MODELS = {
    "classification": ("mobilenet_v2", 3),
    "detection": ("ssdlite_mobilenet_v2", 2),
    "segmentation": ("deeplabv3_mobilenet_v2", 4),
}


def weights_for(task, **options):
    model, num_classes = MODELS[task]
    network = get_model(model, num_classes=num_classes, **{"width_mult": 0.35, **options})
    network.class_names = tuple(f"{task} {number}" for number in range(num_classes))
    return Weights(network.state_dict(), WeightsCard.of(network, source=f"{task}.pth"))


@pytest.fixture
def parts():
    return {task: weights_for(task) for task in MODELS}


@pytest.mark.parametrize("backbone", ["classification", "detection"])
def test_heads_are_copied_and_the_backbone_is_the_one_that_is_chosen(parts, backbone):
    tensors, card = combine_weights(parts, backbone)
    assert card.model == "multitask_mobilenet_v2"
    assert card.provenance["backbone"] == backbone
    assert card.provenance["detection source"] == "detection.pth"
    stem = "backbone.stem.conv.weight"
    assert torch.equal(tensors[stem], parts[backbone].tensors[stem])
    assert torch.equal(tensors["heads.classification.linear.bias"], parts["classification"].tensors["head.linear.bias"])
    heads = sum(name.startswith("head.") for part in parts.values() for name in part.tensors)
    assert sum(name.startswith("heads.") for name in tensors) == heads


def test_what_was_combined_comes_apart_again(parts):
    joint = combine_weights(parts, "detection")
    for task, part in parts.items():
        tensors, card = split_weights(joint, task)
        assert tensors.keys() == part.tensors.keys()
        assert card.model == part.card.model
        assert card.class_names == part.card.class_names
        assert card.options == {**part.card.options, "norm_momentum": parts["detection"].card.options["norm_momentum"]}
        assert all(torch.equal(tensors[name], t) for name, t in part.tensors.items() if name.startswith("head."))
    assert split_weights(joint, "detection").tensors.keys() == parts["detection"].tensors.keys()


def test_a_combined_file_computes_what_the_single_network_does(parts, tmp_path):
    joint = combine_weights({task: parts[task] for task in ("classification", "segmentation")})
    network = get_model(joint.card.model, **joint.card.options).eval()
    network.load_state_dict(joint.tensors)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    alone = get_model("mobilenet_v2", **parts["classification"].card.options).eval()
    alone.load_state_dict(parts["classification"].tensors)
    torch.testing.assert_close(network(images).classification, alone(images))


def test_the_segmenters_backbone_serves_no_other_head(parts):
    with pytest.raises(
        ValueError,
        match="the backbone for segmentation has no last convolution, which classification and detection read",
    ):
        combine_weights(parts, "segmentation")


def test_the_segmenters_backbone_serves_the_segmenter(parts):
    tensors, _ = combine_weights({"segmentation": parts["segmentation"]})
    assert not any(name.startswith("backbone.last.") for name in tensors)


def test_widths_and_paddings_must_be_the_same(parts):
    with pytest.raises(ValueError, match=r"one width_mult, got 0\.35 for classification and 0\.5 for detection"):
        combine_weights({**parts, "detection": weights_for("detection", width_mult=0.5)})
    with pytest.raises(ValueError, match="one padding, got symmetric for classification and tf_same for segmentation"):
        combine_weights({**parts, "segmentation": weights_for("segmentation", padding="tf_same")})
    with pytest.raises(ValueError, match=r"one shape, got \[16, 3, 3, 3\] for classification and \[1"):
        combine_weights({**parts, "segmentation": weights_for("segmentation", round_to=1)})


def test_a_task_wants_weights_of_its_own_model(parts):
    with pytest.raises(ValueError, match="expected weights of ssdlite_mobilenet_v2 for detection, got mobilenet_v2"):
        combine_weights({"detection": parts["classification"]})
    with pytest.raises(ValueError, match="backbone must be one of classification, got detection"):
        combine_weights({"classification": parts["classification"]}, "detection")


def test_a_head_that_is_not_there_cannot_be_split_off(parts):
    joint = combine_weights({"classification": parts["classification"]})
    with pytest.raises(ValueError, match=r"expected weights with a head for detection, got .* for classification"):
        split_weights(joint, "detection")
    with pytest.raises(ValueError, match="expected weights with a head for detection, got mobilenet_v2"):
        split_weights(parts["classification"], "detection")


@pytest.mark.parametrize("heads", [None, 3, {"pose": {}}])
def test_a_damaged_description_is_refused(heads):
    with pytest.raises(ValueError, match="its description must have heads among"):
        heads_of(Weights({}, WeightsCard("multitask_mobilenet_v2", {"heads": heads})))
