"""What JavaScript makes of values where conditions compare them: GrowthBook's cases are defined by its JavaScript, so ours are, too.

After ECMA-262, 7.1 (type conversion) and 7.2 (comparison), for values that JSON can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def is_number(value: Any) -> bool:
    """A number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def truthy(value: Any) -> bool:
    """ToBoolean: null, false, 0, NaN and "" are false, lists and objects are true even when empty."""
    if value.__class__ in (dict, list) or isinstance(value, (tuple, Mapping)):
        return True
    return bool(value) and value == value


def text(value: Any) -> str:
    """ToString: null is "null", 1.0 is "1", a list is its members with commas."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return _number_text(value)
    if isinstance(value, (list, tuple)):
        return ",".join("" if member is None else text(member) for member in value)
    return "[object Object]"


def number(value: Any) -> float:
    """ToNumber: null, "" and [] are 0; what is no number is NaN."""
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return value
    trimmed = text(value).strip()
    if not trimmed:
        return 0
    if trimmed[:2].lower() in ("0x", "0o", "0b"):
        try:
            return int(trimmed, 0)
        except ValueError:
            return math.nan
    if trimmed.lstrip("+-") == "Infinity":
        return float(trimmed)
    if trimmed[-1].isdigit() or trimmed[-1] == ".":  # "nan", "inf" and "1_0" are numbers to Python only
        try:
            return math.nan if "_" in trimmed else float(trimmed)
        except ValueError:
            return math.nan
    return math.nan


def compare(a: Any, b: Any) -> int | None:
    """-1, 0 or 1 as a is less than, equal to or greater than b; None where neither holds: two texts by their characters, else by number."""
    if isinstance(a, (list, tuple, Mapping)):
        a = text(a)
    if isinstance(b, (list, tuple, Mapping)):
        b = text(b)
    if not (isinstance(a, str) and isinstance(b, str)):
        a, b = number(a), number(b)
        if a != a or b != b:
            return None
    return -1 if a < b else int(a > b)


def identical(a: Any, b: Any) -> bool:
    """`===`: no conversion; lists and objects are identical to nothing."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (list, tuple, Mapping)):
        return False
    return bool(a == b)


def same_json(a: Any, b: Any) -> bool:
    """Whether JSON.stringify writes both alike: the order of an object's keys counts."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same_json(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_json, a, b))
    return identical(a, b)


def _number_text(value: float) -> str:
    if isinstance(value, int) or (value == value and abs(value) < 1e21 and value == int(value)):
        if abs(value) < 10**21:
            return str(int(value))
        try:
            value = float(value)
        except OverflowError:  # beyond what a double holds, where JavaScript reads infinity
            return "Infinity" if value > 0 else "-Infinity"
    if not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    written = repr(value)
    if "e" not in written:
        return written
    mantissa, _, exponent = written.partition("e")
    if -7 < int(exponent) < 0:
        return format(Decimal(written), "f")
    return f"{mantissa}e{int(exponent):+d}"
