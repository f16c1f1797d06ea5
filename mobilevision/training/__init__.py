"""What the three tasks share in training."""
