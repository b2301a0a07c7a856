"""The size of ``/dev/shm`` of RUN steps: ``--shm-size``.

Source: docker/go-units:size.go (RAMInBytes).
"""

from __future__ import annotations

import re
from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.quantity import MAX_DIGITS

__all__ = ["read_shm_size"]

_DIGITS: Final = rf"[0-9]{{1,{MAX_DIGITS}}}"
_SIZE: Final = re.compile(rf"({_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS}) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_PREFIXES: Final = ("", "k", "m", "g", "t", "p")
_MAX: Final = 2**63 - 1


def read_shm_size(given: str | int | None) -> int:
    """Read a number of bytes; all units are powers of 1024, as for memory in all of docker.

    Returns:
        The bytes; 0 leaves it to the daemon.

    Raises:
        InputError: it is no size.
    """
    if given is None or given == "":
        return 0
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= _MAX:
        return given
    from fractions import Fraction  # noqa: PLC0415 - few builds have one

    found = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise InputError(f"invalid size {given!r} for shm-size: expected a size such as 64m or 1g")
    size = int(Fraction(found[1].rstrip(".")) * 1024 ** _PREFIXES.index((found[2] or "").lower()))
    if size > _MAX:
        raise InputError(f"invalid size {given!r} for shm-size: it is more than a machine can have")
    return size
