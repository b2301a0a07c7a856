"""Limits of RUN steps: ``--ulimit NAME=SOFT[:HARD]``.

Source: docker/go-units:ulimit.go (ParseUlimit); docker/cli:opts/ulimit.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from buildkit_session.engine.build_params import Ulimit
from buildkit_session.errors import InputError
from buildkit_session.wording import a_type

__all__ = ["Ulimit", "parse", "read_ulimits"]

_NAMES: Final = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_UNLIMITED: Final = -1
_MAX: Final = 2**63 - 1


def read_ulimits(given: object) -> tuple[Ulimit, ...]:
    """Take a mapping such as ``{"nofile": (1024, 2048)}``, or a sequence of texts or :class:`Ulimit`.

    Returns:
        The limits, ordered by name; of several for one resource the last counts.

    Raises:
        InputError: one of them cannot be.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        limits = [_of_pair(name, value) for name, value in given.items()]
    else:
        several = (given,) if isinstance(given, str | Ulimit) else given
        if not isinstance(several, Iterable):
            raise InputError(f"ulimits must be a list of texts such as nofile=1024, not {a_type(given)}")
        limits = [_checked(one) if isinstance(one, Ulimit) else parse(one) for one in several]
    return tuple(limit for _, limit in sorted({limit.name: limit for limit in limits}.items()))


def parse(text: object) -> Ulimit:
    """Read ``NAME=SOFT[:HARD]``; ``-1`` is unlimited, and the hard limit is the soft one if it is not given.

    Raises:
        InputError: it is something else, or the soft limit is above the hard one.
    """
    if not isinstance(text, str):
        raise InputError(f"a ulimit must be a text such as nofile=1024:2048, not {a_type(text)}")
    name, separator, limits = text.partition("=")
    if not separator:
        raise InputError(f"invalid ulimit argument: {text}; use NAME=SOFT[:HARD], such as nofile=1024:2048")
    return _of_pair(name, limits)


def _of_pair(name: object, value: object) -> Ulimit:
    parts = value.split(":") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    if len(parts) > 2:
        raise InputError(f"too many limit value arguments for {name}: {value}; only SOFT[:HARD] are allowed")
    numbers = [_number(name, part) for part in parts]
    return _checked(Ulimit(str(name), numbers[0], numbers[-1]))


def _number(name: object, part: object) -> int:
    if isinstance(part, bool) or not _NUMBER.fullmatch(str(part)) or abs(int(str(part))) > _MAX:
        raise InputError(f"invalid limit {part!r} for ulimit {name}: expected a number, or -1 for no limit")
    return int(str(part))


def _checked(limit: Ulimit) -> Ulimit:
    if limit.name not in _NAMES:
        raise InputError(f"invalid ulimit type: {limit.name}; known are {', '.join(_NAMES)}")
    if limit.hard != _UNLIMITED and (limit.soft == _UNLIMITED or limit.soft > limit.hard):
        soft = "-1 (unlimited)" if limit.soft == _UNLIMITED else limit.soft
        raise InputError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {limit.hard}")
    return limit
