"""Generated scenes, and one run of all tasks on them."""
