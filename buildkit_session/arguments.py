"""Checks of what a caller passes: a mistake gets an error that names it, before anything is sent.

Type checkers find most of these, but not all who call have one, and a text is a sequence of texts to any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from buildkit_session.errors import InputError

__all__ = ["attributes", "labels", "network", "platforms", "tags", "texts", "variables"]

# An image reference: [host[:port]/]path[:tag][@digest]. Source: distribution/reference:regexp.go.
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE: Final = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?", re.ASCII)
_PLATFORM: Final = re.compile(r"[\w.()-]+(?:/[\w.-]+){0,2}", re.ASCII)
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


def platforms(value: object) -> tuple[str, ...]:
    """Take platforms.

    Raises:
        InputError: one of them is not ``OS/ARCH[/VARIANT]``.
    """
    names = texts("platforms", value)
    for name in names:
        if not _PLATFORM.fullmatch(name):
            raise InputError(f'invalid platform "{name}": use OS/ARCH[/VARIANT], such as linux/arm64')
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
            raise InputError(f"{name}: the value of {key!r} must be a text, not None; leave it away")
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
        raise InputError(f"{name} must be a mapping, such as {{'NAME': 'value'}}, not a {type(value).__name__}")
    if "" in value:
        raise InputError(f"{name}: a name must not be empty (empty key)")
    for key, one in value.items():
        if not isinstance(key, str) or not isinstance(one, str | None):
            raise InputError(f"{name}: the value of {key!r} must be a text, not a {type(one).__name__}; use str()")
    return dict(value)
