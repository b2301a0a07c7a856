"""The grammar that most values of the command line share: one CSV record of ``key=value`` fields.

Source: docker/buildx:vendor/github.com/tonistiigi/go-csvvalue/csvvalue.go (Fields), util/buildflags/export.go
(csvBuilder).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["read_fields", "split_pair", "write_record"]

# One field of a CSV record: quoted, with "" for a quote inside, or free of quotes. Both branches are linear in time.
_FIELD: Final = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"(?=,|\Z)|(?P<plain>[^",]*)(?=,|\Z)')


def read_fields(text: str, what: str) -> list[str]:
    """Take a record apart.

    Args:
        text: one record; one line break at its end is no part of it.
        what: names the record in errors. It need not hold the text: some people type secrets there.

    Raises:
        InputError: a quote stands where none may.
    """
    return list(_fields(text.removesuffix("\n").removesuffix("\r"), what))


def split_pair(field: str, what: str) -> tuple[str, str]:
    """Split a field at its first ``=``.

    Raises:
        InputError: it has none.
    """
    key, separator, value = field.partition("=")
    if not separator:
        raise InputError(f"invalid value {field!r} in {what}: expected key=value")
    return key, value


def write_record(pairs: Iterable[tuple[str, str]]) -> str:
    """Join fields to a record; the inverse of the two above."""
    return ",".join(_quoted(f"{key}={value}") for key, value in pairs)


def _fields(text: str, what: str) -> Iterator[str]:
    position = 0
    while position <= len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise InputError(
                f"misplaced quote in {what} after character {position}; "
                'quote a whole field, and write "" for a quote inside it'
            )
        quoted = match["quoted"]
        yield match["plain"] if quoted is None else quoted.replace('""', '"')
        position = match.end() + 1


def _quoted(field: str) -> str:
    if '"' in field or "," in field:
        return '"' + field.replace('"', '""') + '"'
    return field
