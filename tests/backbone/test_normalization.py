import pytest
import torch

from mobilevision.backbone import Normalization
from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD, check_range
from mobilevision.classification.head import Classifier


def test_pixels_are_scaled_to_minus_one_and_one_by_default():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(Normalization()(images).flatten(), torch.tensor([-1.0, -0.6, 1.0]))


def test_hand_computed_values():
    normalization = Normalization(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 2.0))
    images = torch.tensor([1.0, 0.4, 0.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalization(images).flatten(), torch.tensor([1.0, 2.0, 0.25]))


def test_bytes_and_floats_come_to_the_same():
    normalization = Normalization(IMAGENET_MEAN, IMAGENET_STD)
    images = torch.arange(256, dtype=torch.uint8).expand(1, 3, 2, 256)
    torch.testing.assert_close(normalization(images), normalization(images / 255))


def test_normalized_pixels_are_channels_last():
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert Normalization()(images).is_contiguous(memory_format=torch.channels_last)


def test_mean_and_std_travel_with_the_weights():
    normalization = Normalization()
    normalization.load_state_dict(Normalization(IMAGENET_MEAN, IMAGENET_STD).state_dict())
    torch.testing.assert_close(normalization(torch.zeros(1, 3, 1, 1))[0, 0].item(), -0.485 / 0.229)


def test_half_precision_weights_give_half_precision_pixels():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert Normalization().to(torch.bfloat16)(images).dtype == torch.bfloat16


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))])
def test_other_than_three_values_or_a_std_of_zero_is_refused(mean, std):
    with pytest.raises(ValueError, match="mean and std must be three values each, std above 0, got"):
        Normalization(mean, std)


def test_integers_other_than_bytes_are_refused():
    with pytest.raises(ValueError, match=r"images must be uint8 in 0 to 255, or floats in 0 to 1, got torch\.int64"):
        Normalization()(torch.zeros(1, 3, 1, 1, dtype=torch.int64))


@pytest.mark.parametrize("values", [(0.0, 255.0), (-2.1, 2.6), (0.0, 1.2)])
def test_floats_beyond_0_and_1_are_refused(values):
    with pytest.raises(ValueError, match=rf"images of floats must be in 0 to 1, got {values[0]:g} to {values[1]:g}"):
        check_range(torch.tensor(values))


def test_floats_of_interpolation_meta_tensors_and_bytes_are_taken():
    check_range(torch.tensor([-0.005, 1.005]))
    check_range(torch.tensor([0, 255], dtype=torch.uint8))
    check_range(torch.empty(1, 3, 0, 0))
    check_range(torch.empty(1, 3, 4, 4, device="meta"))


def test_a_network_looks_at_its_first_batch_of_floats():
    network = Classifier.from_options(width_mult=0.1, input_size=32, num_classes=2).eval()
    images = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    network(images)
    for call in (network, network.extract_feat):
        with pytest.raises(ValueError, match="must be in 0 to 1, got 255 to 255: divide by 255"):
            call(images.float())
    torch.testing.assert_close(network(images.float() / 255), network(images))
    # From here on it costs nothing.
    network(images.float())
