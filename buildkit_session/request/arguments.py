"""Checks of what a caller passes: a mistake gets an error that names it, before anything is sent.

Type checkers find most of these, but not all who call have one, and a text is a sequence of texts to any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.request.reference import HOST, PATH, TAG
from buildkit_session.wording import a_type

__all__ = ["attributes", "callback", "flag", "labels", "network", "number", "tags", "texts", "variables"]

_REFERENCE: Final = re.compile(rf"(?:{HOST}/)?{PATH}(?:{TAG})?", re.ASCII)
_NETWORKS: Final = ("default", "none", "host")


def texts(name: str, value: object) -> tuple[str, ...]:
    """Take a sequence of texts, or one text for a sequence of one.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        return (value,)
    several = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(one, str) for one in several):
        raise InputError(f"{name} must be a list of texts, not {value!r}")
    return several


def callback(name: str, value: object) -> None:
    """Raise InputError if ``value`` is neither ``None`` nor can be called."""
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function, not {a_type(value)}")


def flag(name: str, value: object) -> bool:
    """Take a boolean; a text is none, for ``"no"`` would count as true.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, not {value!r}")
    return value


def number(name: str, value: object) -> int | None:
    """Take a whole number or ``None``.

    Raises:
        InputError: it is something else.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    return value


def tags(value: object) -> tuple[str, ...]:
    """Take names for an image.

    Raises:
        InputError: one of them is no image reference, or has a digest.
    """
    names = texts("tags", value)
    for name in names:
        if not _REFERENCE.fullmatch(name):
            raise InputError(f'invalid tag "{name}": use [HOST[:PORT]/]NAME[:TAG], the name in lower case')
    return names


def network(value: str | None) -> str:
    """Take the network of ``RUN`` steps.

    Raises:
        InputError: no such mode.
    """
    if value is not None and value not in _NETWORKS:
        raise InputError(f'network mode "{value}" not supported by buildkit; use one of {", ".join(_NETWORKS)}')
    return value or ""


def labels(value: object) -> dict[str, str]:
    """Take a mapping of names to texts.

    Raises:
        InputError: it is something else.
    """
    return {name: text or "" for name, text in variables("labels", value).items()}


def attributes(name: str, value: object) -> dict[str, str]:
    """Take a mapping of names to texts, as :func:`variables` does, but none of them ``None``.

    Raises:
        InputError: it is something else.
    """
    found: dict[str, str] = {}
    for key, text in variables(name, value).items():
        if text is None:
            raise InputError(f"{name}: the value of {key!r} must be a text, not None; leave it out")
        found[key] = text
    return found


def variables(name: str, value: object) -> dict[str, str | None]:
    """Take a mapping of names to texts or ``None``; values are not shown in errors, as people put secrets there.

    Raises:
        InputError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a mapping, such as {{'NAME': 'value'}}, not {a_type(value)}")
    if "" in value:
        raise InputError(f"{name}: a name must not be empty (empty key)")
    for key, one in value.items():
        if not isinstance(key, str) or not isinstance(one, str | None):
            raise InputError(f"{name}: the value of {key!r} must be a text, not {a_type(one)}; use str()")
    return dict(value)
