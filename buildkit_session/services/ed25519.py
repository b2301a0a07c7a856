"""Ed25519 signatures, for the one use that the session has for them: :mod:`~buildkit_session.services.token_authority`.

Computing with Python's integers takes a different time for each value, so a key could be told from the time that many
signatures take. Here a key proves to a daemon that two sessions have the same owner, so that they may share tokens that
the daemon itself holds: who could measure it has those already. For keys of any other kind, take a library.

Source: RFC 8032, sections 5.1.2 to 5.1.6 and 5.1.4 (addition in extended coordinates).
"""

from __future__ import annotations

from hashlib import sha512
from typing import Final, TypeAlias

__all__ = ["public_key", "sign"]

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P

_Point: TypeAlias = "tuple[int, int, int, int]"  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z

_NEUTRAL: Final[_Point] = (0, 1, 1, 0)
_BASE_X: Final = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE_Y: Final = 4 * pow(5, -1, _P) % _P
_BASE: Final[_Point] = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def public_key(private: bytes) -> bytes:
    """The public key, 32 bytes, of a private one of 32 bytes."""
    return _encode(_times_base(_expand(private)[0]))


def sign(private: bytes, message: bytes) -> bytes:
    """The signature of a message, 64 bytes."""
    scalar, prefix = _expand(private)
    nonce = _number(sha512(prefix + message).digest()) % _ORDER
    point = _encode(_times_base(nonce))
    challenge = _number(sha512(point + _encode(_times_base(scalar)) + message).digest()) % _ORDER
    return point + ((nonce + challenge * scalar) % _ORDER).to_bytes(32, "little")


def _expand(private: bytes) -> tuple[int, bytes]:
    digest = sha512(private).digest()
    # The lowest three bits and the highest are cleared, the second highest is set.
    return _number(digest[:32]) & (2**254 - 8) | 2**254, digest[32:]


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times_base(scalar: int) -> _Point:
    result, power = _NEUTRAL, _BASE
    while scalar:
        if scalar & 1:
            result = _add(result, power)
        power = _add(power, power)
        scalar >>= 1
    return result


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")
