"""Questions to the frontend in place of a build: ``--call`` and ``--check``.

Source: docker/buildx:util/buildflags/callfunc.go, build/build.go (frontend.caps and requestid).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError
from buildkit_session.request.fields import read_fields
from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CallRequest", "parse"]

_BUILD: Final = "build"
_CAPS: Final = "frontend.caps"
_SUBREQUESTS: Final = "moby.buildkit.frontend.subrequests+forward"
_ALIASES: Final = {"check": "lint"}


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One question.

    Attributes:
        name: what is asked for: ``lint``, ``outline``, ``targets`` or what else the frontend knows.
        format: of the answer that is shown; ``json`` or empty.
        ignore_status: whether the answer's own exit code is left out of account.
    """

    name: str
    format: str = ""
    ignore_status: bool = False

    def attributes(self, attrs: Mapping[str, str]) -> dict[str, str]:
        """Add the question to the attributes of the frontend. Only a gateway client gets the answer."""
        caps = attrs.get(_CAPS)
        joined = _SUBREQUESTS if caps is None else f"{caps},{_SUBREQUESTS}"
        return {**attrs, _CAPS: joined, "requestid": f"frontend.{self.name}"}


def parse(text: str) -> CallRequest | None:
    """Read one value of ``--call``: ``NAME[,format=FORMAT][,ignorestatus=BOOLEAN]``.

    Returns:
        The question; ``None`` for ``build`` and an empty text, which ask for a build. ``check`` is ``lint``.

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
    return CallRequest(_ALIASES.get(name, name), given["format"], _read_boolean(given["ignorestatus"]))


def _read_boolean(value: str) -> bool:
    if value not in TRUE | FALSE:
        raise InputError(f"invalid ignorestatus print value: {value}; expected true or false")
    return value in TRUE
