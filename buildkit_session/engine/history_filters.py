"""Which builds of a history are meant: ``status=error``, ``ref=abc``, ``startedAt>24h``, ``duration<=90s``.

The filters are those of ``docker buildx history ls``; all of them must hold. They are judged here: daemons have
learned to do it in BuildKit 0.20, pass over those that run, and may die of it: see
:mod:`~buildkit_session.engine.history`.

Source: docker/buildx:commands/history/utils.go (dockerFiltersToBuildkit).
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.engine.durations import read_duration
from buildkit_session.engine.history_values import BuildState
from buildkit_session.engine.timestamps import read_timestamp
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.engine.history_values import BuildRecord

    Condition: TypeAlias = Callable[[BuildRecord], bool]

__all__ = ["read_history_filters"]

_FILTER: Final = re.compile(r"([^=!<>]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_COMPARISONS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_GIT_URL: Final = re.compile(r"(?:https?|git|ssh)://|git@")


def read_history_filters(texts: Iterable[str], *, now: int) -> Condition:
    """Read filters, and return what tells whether a build is meant.

    Args:
        texts: as a person writes them.
        now: nanoseconds since the Unix epoch on the daemon's clock; ages count back from it.

    Raises:
        InputError: one is malformed.
    """
    conditions = [_condition(text, now) for text in texts]
    return lambda record: all(condition(record) for condition in conditions)


def _condition(text: str, now: int) -> Condition:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise InputError(f'invalid filter "{text}"')
    key, sign, value = found.groups()
    if key in {"ref", "repository", "status"}:
        if sign not in {"=", "!="}:
            raise InputError(f'invalid separator for "{text}", expected = or !=')
        if key == "status" and value not in set(BuildState):
            raise InputError(f'invalid status in "{text}", expected {", ".join(BuildState)}')
        return _text_condition(key, value, equal=sign == "=")
    if key not in {"startedAt", "completedAt", "duration"}:
        raise InputError(f'unsupported filter "{text}"')
    if sign not in _COMPARISONS:
        raise InputError(f'invalid separator for "{text}", expected <=, <, >= or >')
    return _number_condition(key, sign, read_duration(value) if key == "duration" else _time(value, now))


def _text_condition(key: str, value: str, *, equal: bool) -> Condition:
    # A part of a name is enough, but "not this name" means the whole of it.
    if key == "status":
        return lambda record: (record.state.value == value) == equal
    if key == "ref":
        return lambda record: value in record.ref if equal else record.ref != value
    return lambda record: value in _repository(record) if equal else _repository(record) != value


def _number_condition(key: str, sign: str, limit: int) -> Condition:
    compare = _COMPARISONS[sign]
    if key == "duration":
        return lambda record: compare(record.duration or 0, limit)
    if key == "startedAt":
        return lambda record: compare(record.created or 0, limit)
    return lambda record: compare(record.completed or 0, limit)


def _repository(record: BuildRecord) -> str:
    if source := record.frontend_attrs.get("vcs:source"):
        return source
    context = record.frontend_attrs.get("context", "")
    return context.partition("#")[0] if _GIT_URL.match(context) else ""


def _time(value: str, now: int) -> int:
    """A moment, or how long ago it was, in nanoseconds since the Unix epoch."""
    try:
        return now - read_duration(value)
    except InputError:
        pass
    try:
        return read_timestamp(value)
    except ValueError as error:
        raise InputError(f"invalid time {value}: expected an age such as 24h, or RFC 3339: {error}") from error
