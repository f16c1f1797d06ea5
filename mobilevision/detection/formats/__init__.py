"""The file formats of datasets with boxes."""
