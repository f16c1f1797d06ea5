"""The class that TensorFlow's classifiers have for everything else."""

from mobilevision.weights.card import Weights

CLASSIFIER_OUTPUTS = ("linear.weight", "linear.bias")


def drop_background(weights: Weights) -> Weights:
    """Leave out the first class of a classifier: what is left are the classes in torchvision's order.

    Raises:
        ValueError: It is no classifier, or it would be left without classes.
    """
    tensors, card = weights
    num_classes = card.options.get("num_classes")
    if card.model != "mobilenet_v2" or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"only a classifier of two classes or more has a background to leave out, got {card.model} of {num_classes}"
        )
    kept = {name: tensor[1:] if name in CLASSIFIER_OUTPUTS else tensor for name, tensor in tensors.items()}
    return Weights(
        kept,
        card._replace(options={**card.options, "num_classes": num_classes - 1}, class_names=card.class_names[1:]),
    )
