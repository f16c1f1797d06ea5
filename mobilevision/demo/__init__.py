"""Drawn scenes, and one run over all tasks on them."""
