"""The value of ``--call``: a question to the frontend in place of a build.

Source: docker/buildx:util/buildflags/callfunc.go.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import InputError
from buildkit_session.request.fields import read_fields
from buildkit_session.truth import FALSE, TRUE
from buildkit_session.wording import a_type

__all__ = ["parse", "read_call"]

_BUILD: Final = "build"
_ALIASES: Final = {"check": "lint", "help": "subrequests.describe"}


def read_call(given: object) -> Call | None:
    """Take a question, or a text as :func:`parse` takes it.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, Call):
        return given
    if not isinstance(given, str):
        raise InputError(f"call must be a text such as check, not {a_type(given)}")
    return parse(given)


def parse(text: str) -> Call | None:
    """Read one value of ``--call``: ``NAME[,format=FORMAT][,ignorestatus=BOOLEAN]``.

    Returns:
        The question; ``None`` for ``build`` and an empty text, which ask for a build. ``check`` is ``lint``, and
        ``help`` is ``subrequests.describe``: what else the frontend can be asked.

    Raises:
        InputError: the text breaks the grammar.
    """
    if not text:
        return None
    name, given = "", {"format": "", "ignorestatus": "false"}
    for field in read_fields(text, f"call {text!r}"):
        key, separator, value = field.partition("=")
        if separator and key not in given:
            raise InputError(f"invalid print field: {field}; known are format and ignorestatus")
        if not separator and name:
            raise InputError(f"invalid print value: {text}; use NAME[,format=json][,ignorestatus=true]")
        if separator:
            given[key] = value
        else:
            name = field
    if name == _BUILD:
        return None
    if not name:
        raise InputError(f"invalid print value: {text}; it names no method, such as check, outline or targets")
    return Call(_ALIASES.get(name, name), given["format"], _read_boolean(given["ignorestatus"]))


def _read_boolean(value: str) -> bool:
    if value not in TRUE | FALSE:
        raise InputError(f"invalid ignorestatus print value: {value}; expected true or false")
    return value in TRUE
