"""Values of JSON that a peer sent, taken as what they ought to be.

Each function here raises ``TypeError`` or ``ValueError`` for anything else; who calls decides what that means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

__all__ = ["Json", "as_list", "as_number", "as_object", "as_text"]

Json: TypeAlias = Mapping[str, object]

MAX_NUMBER: Final = 2**32 - 1
MIN_NUMBER: Final = -(2**31)


def as_object(value: object) -> Json:
    """Take an object; ``null`` and what is absent are an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError
    return value


def as_list(value: object) -> list[object]:
    """Take a list; ``null`` and what is absent are an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError
    return value


def as_text(value: object) -> str:
    """Take a text; ``null`` and what is absent are an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def as_number(value: object) -> int:
    """Take a number of 32 bits, signed or not, or its digits; ``null`` and what is absent are 0.

    The JSON form of protobuf spells numbers of 64 bits as text.
    """
    number = int(value) if isinstance(value, str) else 0 if value is None else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError
    if not MIN_NUMBER <= number <= MAX_NUMBER:
        raise ValueError(number)
    return number
