"""Numbers, ids and flags as JSON and text have them."""

import math
import re
from typing import Any

EXACT = 2**53
"""From here on not every whole number is a float."""

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,400}(\.0*)?")

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def to_number(value: Any) -> float:
    """Return a finite number, or NaN for anything else.

    >>> to_number("2.5"), to_number("inf"), to_number(None)
    (2.5, nan, nan)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def to_id(value: Any) -> int | None:
    """Return the whole number that an id is, also as text or as an exact float; None for anything else.

    >>> to_id(" 7 "), to_id(7.0), to_id(10**30), to_id("a7"), to_id(2.0**53)
    (7, 7, 1000000000000000000000000000000, None, None)
    """
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if WHOLE_NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < EXACT else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def to_flag(value: Any) -> bool | None:
    """Return whether a flag is set: 0, 1, true or false in any spelling; None for anything else.

    A flag that is missing is not set.

    >>> to_flag("False"), to_flag(1), to_flag(None), to_flag("no")
    (False, True, False, None)
    """
    if value is None:
        return False
    return FLAGS.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None
