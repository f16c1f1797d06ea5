"""Sphinx configuration."""

import os

from mobilevision import __version__

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

project = "mobilevision"
author = "The mobilevision authors"
copyright = "2026, the mobilevision authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mobilevision {__version__}"
nitpicky = False

# Shapes read well in a signature's source and badly in its rendering: the Args repeat them.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
