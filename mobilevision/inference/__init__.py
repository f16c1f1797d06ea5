"""Run networks on images: files in, typed results and drawings out."""
