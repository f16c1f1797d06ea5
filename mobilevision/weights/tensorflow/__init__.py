"""TensorFlow's files: two containers, one graph of layers, and the networks that are recognized in it."""
