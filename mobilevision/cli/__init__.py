"""The ``mobilevision`` command."""

from mobilevision.cli.command import main

__all__ = ["main"]
