import pytest
import torch

from mobilevision.models import build_network, get_model
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.combine import combine_weights, split_weights

MODELS = {
    "classification": ("mobilenet_v2", 3),
    "detection": ("ssdlite_mobilenet_v2", 2),
    "segmentation": ("deeplabv3_mobilenet_v2", 4),
}


def weights_for(task, **options):
    model, num_classes = MODELS[task]
    network = get_model(model, num_classes=num_classes, **{"width_mult": 0.1, "input_size": 64, **options})
    network.head.class_names = tuple(f"{task} {number}" for number in range(num_classes))
    return Weights(network.state_dict(), WeightsCard.of(network, source=f"{task}.pth"))


@pytest.fixture
def parts():
    return {task: weights_for(task) for task in MODELS}


@pytest.mark.parametrize(("backbone", "taken"), [("detection", "detection"), (None, "classification")])
def test_heads_are_copied_and_the_backbone_is_the_one_that_is_chosen_or_the_first_whole_one(parts, backbone, taken):
    tensors, card = combine_weights(dict(reversed(parts.items())) if backbone else parts, backbone)

    assert (card.provenance["backbone"], card.provenance["detection source"]) == (taken, "detection.pth")
    assert card.backbone == parts[taken].card.backbone
    for task, part in parts.items():
        assert card.heads[task] == part.card.heads[task]
        for name, tensor in part.tensors.items():
            if task == taken or name.startswith("heads."):
                assert tensors[name] is tensor
    assert len(tensors) == len(set().union(*(part.tensors for part in parts.values())))


def test_combined_weights_compute_what_each_network_does_alone_and_come_apart_again(parts):
    # All on the backbone of the first, so that each computes the same alone.
    common = {name: tensor for name, tensor in parts["classification"].tensors.items() if not name.startswith("heads.")}
    for part in parts.values():
        part.tensors.update({name: common[name] for name in part.tensors.keys() & common.keys()})
    joint = combine_weights(
        {"pets": parts["classification"], "signs": parts["detection"], "road": parts["segmentation"]}
    )
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)

    outputs = build_network(joint, "a test")(images)

    for name, (task, part) in zip(("pets", "signs", "road"), parts.items(), strict=True):
        alone = build_network(part, "a test")(images)
        torch.testing.assert_close(outputs[name], alone)
        split = split_weights(joint, name)
        assert split.card.heads == part.card.heads
        assert list(split.card.heads) == [task]
        torch.testing.assert_close(build_network(split, "a test")(images), alone)


def test_two_heads_for_one_task_share_a_backbone():
    joint = combine_weights({"signs": weights_for("detection"), "cars": weights_for("detection")})

    assert joint.card.tasks == "signs (detection), cars (detection)"
    assert list(build_network(joint, "a test").heads) == ["signs", "cars"]


def test_a_segmenters_backbone_serves_the_segmenter_and_no_head_that_reads_more(parts):
    alone = combine_weights({"segmentation": parts["segmentation"]})
    assert alone.tensors.keys() == parts["segmentation"].tensors.keys()
    with pytest.raises(
        ValueError,
        match="backbone of segmentation has no last convolution, which classification and detection read",
    ):
        combine_weights(parts, "segmentation")


def test_widths_and_paddings_must_be_the_same(parts):
    with pytest.raises(ValueError, match=r"one width_mult, got 0\.1 for classification and 0\.5 for detection"):
        combine_weights({**parts, "detection": weights_for("detection", width_mult=0.5)})
    with pytest.raises(ValueError, match="one padding, got symmetric for classification and tf_same for segmentation"):
        combine_weights({**parts, "segmentation": weights_for("segmentation", padding="tf_same")})
    with pytest.raises(ValueError, match=r"one shape, got \[8, 3, 3, 3\] for classification and \[16"):
        combine_weights({**parts, "segmentation": weights_for("segmentation", min_channels=16)})


def test_parts_and_heads_that_there_are_not_are_refused(parts):
    joint = combine_weights({"pets": parts["classification"], "signs": parts["detection"]})
    with pytest.raises(ValueError, match=r"both must be weights with one head, got pets .*, signs"):
        combine_weights({"both": joint})
    with pytest.raises(ValueError, match="backbone must be one of pets, got detection"):
        combine_weights({"pets": parts["classification"]}, "detection")
    with pytest.raises(ValueError, match="head must be one of pets, signs, got 'detection'"):
        split_weights(joint, "detection")
