"""Training: the base of all tasks and data modules."""
