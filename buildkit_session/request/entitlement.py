"""Privileges that a build is allowed to use: ``--allow``.

Source: moby/buildkit:util/entitlements/entitlements.go (Parse, ParseDevicesConfig).
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import texts
from buildkit_session.request.fields import read_fields

__all__ = ["NETWORK_HOST", "read_entitlements"]

NETWORK_HOST: Final = "network.host"
_DEVICE: Final = "device"
_PLAIN: Final = ("network.host", "security.insecure", "device")


def read_entitlements(given: object) -> tuple[str, ...]:
    """Take privileges: ``network.host``, ``security.insecure``, ``device`` or ``device=NAME[,alias=NAME]``.

    Raises:
        InputError: one of them is not known.
    """
    chosen = tuple(text for text in texts("allow", given) if text)
    for text in chosen:
        _check(text)
    return chosen


def _check(text: str) -> None:
    name, separator, rest = text.partition("=")
    if name == _DEVICE and separator and rest:
        for field in read_fields(rest, f"entitlement {text!r}")[1:]:
            _check_device_field(field)
    elif text.removesuffix("=") != _DEVICE and text not in _PLAIN:
        raise InputError(f"unknown entitlement {text}; known are {', '.join(_PLAIN)}")


def _check_device_field(field: str) -> None:
    key, separator, _ = field.partition("=")
    if not separator:
        raise InputError(f"invalid device config {field!r}: expected alias=NAME")
    if key != "alias":
        raise InputError(f"unknown device config key {key!r}; known is alias")
