"""The ``grpc-timeout`` header."""

from __future__ import annotations

import math
import re
from typing import Final

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status

__all__ = ["format_timeout", "parse_timeout"]

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LONGEST: Final = (10**8 - 1) * 3600.0


def parse_timeout(value: bytes) -> float:
    """Return a timeout in seconds from its wire form, such as ``29999954u``; zero has expired.

    Raises:
        RpcError: INTERNAL, the value is malformed (what gRPC servers answer).

    Source: grpc/grpc:doc/PROTOCOL-HTTP2.md (Timeout: at most 8 digits and a unit).
    """
    if (match := _TIMEOUT.fullmatch(value)) is None:
        raise RpcError(Status.INTERNAL, "malformed grpc-timeout")
    return int(match[1]) * _SECONDS[match[2]]


def format_timeout(seconds: float) -> bytes:
    """Return the wire form of a timeout, in the finest unit that eight digits can hold; never less than it was.

    What has passed is zero, and what is longer than can be said (11,000 years, or for ever) the longest that can.

    Source: as :func:`parse_timeout`.
    """
    seconds = min(max(seconds, 0.0), _LONGEST)
    for unit in (b"n", b"u", b"m", b"S", b"M"):
        if (count := math.ceil(seconds / _SECONDS[unit])) < 10**8:
            return b"%d%s" % (count, unit)
    return b"%dH" % math.ceil(seconds / 3600)
