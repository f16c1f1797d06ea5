"""Options by name, sorted into the frozen dataclasses that they belong to."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from typing import Any


def trained(default: Any) -> Any:
    """Return a dataclass field that weights depend on without showing it in their shapes: it must be what they had."""
    return field(default=default, metadata={"trained": True})


def trained_options(config: Any) -> dict[str, Any]:
    """Return the options that weights depend on without showing it in their shapes."""
    return {each.name: getattr(config, each.name) for each in fields(config) if each.metadata.get("trained")}


def field_names(config: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    return tuple(field.name for field in fields(config))


def split_options(options: Mapping[str, Any], *configs: type) -> list[dict[str, Any]]:
    """Return the part of ``options`` that belongs to each dataclass.

    Raises:
        ValueError: An option is no field of any of them.
    """
    names = [field_names(config) for config in configs]
    check_names("option", options, [name for each in names for name in each])
    return [{name: options[name] for name in each if name in options} for each in names]


def check_names(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are not known, with the closest known one.

    Raises:
        ValueError: A name is unknown.

    >>> check_names("option", ["width_mlt"], ["width_mult", "padding"])
    Traceback (most recent call last):
    ValueError: option must be one of width_mult, padding, got 'width_mlt': did you mean 'width_mult'?
    """
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{kind} must be one of {', '.join(known)}, got {name!r}{hint}")
