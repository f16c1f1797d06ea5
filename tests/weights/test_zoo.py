"""Published weights, served by this machine as their publishers write them."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv2 import MobileNet_V2_Weights

from mobilevision.complexity import measure
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import TASKS, build_network, get_model, list_models
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import locate_weights, read_weights
from mobilevision.weights.zoo import COCO_NAMES, IMAGENET_NAMES, VOC_NAMES, ZOO, ZooEntry, fetch_entry


@pytest.fixture
def publish(server, hub, monkeypatch):
    """Put tensors on the server and return their entry."""

    def publish(tensors, *, hashed: bool = True, name: str = "tiny") -> ZooEntry:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        body = buffer.getvalue()
        ending = f"-{hashlib.sha256(body).hexdigest()[:8]}" if hashed else ""
        server.files[f"{name}{ending}.pth"] = body
        entry = ZooEntry(
            name=name,
            task="classification",
            url=f"{server.url}/{name}{ending}.pth",
            config={"input_size": 64, "crop_share": 0.9},
            class_names=("a", "b", "c", "d", "e"),
            parameters=1,
            multiply_adds=1,
            published="top-1 71.8",
            source="a test",
            licence="Apache-2.0",
        )
        monkeypatch.setitem(ZOO, name, entry)
        return entry

    return publish


def test_a_network_is_built_from_the_name_of_its_weights(publish, state_dicts, hub):
    entry = publish(state_dicts["torchvision"])

    network = get_model("mobilenet_v2", pretrained="tiny")

    assert torch.equal(network.head.linear.weight, state_dicts["torchvision"]["classifier.1.weight"])
    assert network.head.class_names == ("a", "b", "c", "d", "e")
    assert (network.head.config.input_size, network.head.config.crop_share) == (64, 0.9)
    assert [path.name for path in hub.iterdir()] == [entry.file_name]


def test_what_is_there_is_not_fetched_again(publish, state_dicts, server):
    publish(state_dicts["torchvision"])

    assert locate_weights("tiny") == locate_weights("tiny")
    assert len(server.asked) == 1


def test_the_card_holds_address_licence_and_figure(publish, state_dicts):
    entry = publish(state_dicts["torchvision"])

    provenance = read_weights("tiny").card.provenance

    assert (provenance["url"], provenance["licence"]) == (entry.url, "Apache-2.0")
    assert provenance["published"] == "top-1 71.8 (a test)"
    assert provenance["sha256"].startswith(entry.hash_prefix)


def test_an_interrupted_download_resumes(publish, state_dicts, server):
    entry = publish(state_dicts["torchvision"])
    server.breaks[entry.file_name] = 100_000

    with pytest.raises(OSError, match="try again to go on from there"):
        fetch_entry(entry)
    assert read_weights("tiny").card.tasks == "classification"
    assert [first for _, first in server.asked] == [0, 100_000]


def test_another_hash_than_the_one_in_the_name_is_refused_and_nothing_kept(publish, state_dicts, server, hub):
    entry = publish(state_dicts["torchvision"])
    server.files[entry.file_name] = b"something else"

    with pytest.raises(
        ValueError, match=rf"must have a sha256 of {entry.hash_prefix}, got [0-9a-f]{{64}}: it was fetched"
    ):
        get_model("mobilenet_v2", pretrained="tiny")
    assert list(hub.iterdir()) == []


def test_without_a_hash_in_the_name_the_first_one_is_recorded_and_asked_for_again(publish, state_dicts, server, hub):
    entry = publish(state_dicts["torchvision"], hashed=False)
    path = fetch_entry(entry)
    recorded = (hub / f"{entry.file_name}.sha256").read_text().strip()
    assert recorded == hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch_entry(entry) == path

    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"must have a sha256 of {recorded}, got .*: delete .* to fetch it again"):
        fetch_entry(entry)

    path.unlink()
    server.files[entry.file_name] = b"another file of this name"
    with pytest.raises(ValueError, match=f"must have a sha256 of {recorded}, got .*: it was fetched from"):
        fetch_entry(entry)
    assert not path.exists()


def test_a_file_of_another_class_count_is_refused(publish, state_dicts):
    tensors = state_dicts["torchvision"]
    for name in ("classifier.1.weight", "classifier.1.bias"):
        tensors[name] = tensors[name][:3]
    publish(tensors)

    with pytest.raises(
        ValueError, match=r"tiny must be for classification of 5 .*, its file is for classification of 3"
    ):
        read_weights("tiny")


def test_a_file_of_that_name_goes_first(publish, state_dicts, tmp_path, monkeypatch):
    publish(state_dicts["torchvision"])
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"not weights at all")

    with pytest.raises(ValueError, match="tiny is not a weights file"):
        read_weights("tiny")


def test_the_detector_of_90_numbers_becomes_one_of_cocos_80_classes():
    network = ssdlite_mobilenet_v2(90, preset="tf300", width_mult=0.35)
    for number, predictor in enumerate(network.head.class_predictors):
        # Every row holds which of an anchor's 91 numbers it is.
        bias = torch.arange(91.0).repeat(predictor.pointwise.out_channels // 91)
        predictor.pointwise.bias = nn.Parameter(bias + 1000 * number)

    weights = ZOO["ssdlite_mobilenet_v2_coco"].describe(Weights(network.state_dict(), WeightsCard.of(network)))
    smaller = build_network(weights, "a test")

    bias = smaller.head.class_predictors[1].pointwise.bias.reshape(6, 81) - 1000
    assert (bias == bias[0]).all()
    assert bias[0][:14].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14]
    assert bias[0][-1] == 90
    assert (smaller.head.num_classes, smaller.head.class_names) == (80, COCO_NAMES)


def test_names_are_in_the_order_of_their_classes():
    assert (len(COCO_NAMES), COCO_NAMES[0], COCO_NAMES[11], COCO_NAMES[79]) == (80, "person", "stop sign", "toothbrush")
    assert (len(VOC_NAMES), VOC_NAMES[0], VOC_NAMES[15]) == (21, "background", "person")
    assert (len(IMAGENET_NAMES), IMAGENET_NAMES[0], IMAGENET_NAMES[999]) == (1000, "tench", "toilet tissue")


def test_every_publisher_is_there_with_as_many_networks_as_it_has():
    entries = list_models(pretrained=True)

    assert Counter((entry.source.split(",")[0], entry.task) for entry in entries) == {
        ("torchvision", "classification"): 2,
        ("tensorflow/models", "classification"): 22,
        ("tensorflow/models", "detection"): 1,
        ("tensorflow/models", "segmentation"): 4,
    }
    assert len({entry.url for entry in entries}) == len(entries)
    assert not set(ZOO) & set(list_models())


def test_torchvisions_entries_are_what_torchvision_documents():
    for weights, version in zip(MobileNet_V2_Weights, ("v1", "v2"), strict=True):
        entry = ZOO[f"mobilenet_v2_torchvision_{version}"]
        accuracy = weights.meta["_metrics"]["ImageNet-1K"]
        assert entry.url == weights.url
        assert entry.published == f"ImageNet top-1 {accuracy['acc@1']}, top-5 {accuracy['acc@5']}"
        assert entry.parameters == weights.meta["num_params"]
        assert entry.class_names == tuple(weights.meta["categories"])
        transform = weights.transforms()
        assert entry.config["crop_share"] == transform.crop_size[0] / transform.resize_size[0]


BUILT = {
    "mobilenet_v2_torchvision_v1": {},
    "mobilenet_v2_1.4_224": {"width_mult": 1.4},
    "mobilenet_v2_0.75_160": {"width_mult": 0.75},
    "mobilenet_v2_0.35_96": {"width_mult": 0.35},
    "ssdlite_mobilenet_v2_coco": {"preset": "tf300"},
    "deeplabv3_mnv2_pascal_train_aug": {},
    "deeplabv3_mnv2_dm05_pascal_trainval": {"width_mult": 0.5, "round_to": 1},
}


@pytest.mark.parametrize("name", BUILT)
def test_counts_are_those_of_the_network_that_is_built(name):
    entry = ZOO[name]
    (model,) = (model for model, task in TASKS.items() if task == entry.task)
    options = {**BUILT[name], **entry.config}

    complexity = measure(get_model(model, num_classes=len(entry.class_names), **options))

    assert (complexity.parameters, complexity.multiply_adds) == (entry.parameters, entry.multiply_adds)
