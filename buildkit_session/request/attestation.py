"""Statements about how an image was made: ``--attest``, ``--provenance`` and ``--sbom``.

Source: docker/buildx:util/buildflags/attests.go, commands/build.go (toOptions), build/opt.go (toSolveOpt).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.request.environment import NO_DEFAULT_ATTESTATIONS, read_boolean
from buildkit_session.request.fields import read_fields, write_record
from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["asked_for", "for_frontend", "read_attestations"]

_PROVENANCE: Final = "provenance"
_GRAMMAR: Final = "write type=sbom or type=provenance"
_DEFAULT: Final = "mode=min,inline-only=true"  # the type is not in it, as buildx sends it


def read_attestations(attests: object = None, sbom: object = None, provenance: object = None) -> dict[str, str | None]:
    """Take attestations of all three kinds of arguments.

    Args:
        attests: a sequence of ``type=TYPE,KEY=VALUE...``, or a mapping of types to the rest: a text, a boolean or a
            mapping.
        sbom: a boolean, or the rest for this type.
        provenance: the same.

    Returns:
        For each type what the frontend is told, or ``None`` for one that is refused. Of several of a type the first
        counts.

    Raises:
        InputError: a value breaks the grammar, or has no type.
    """
    chosen: dict[str, str | None] = {}
    for kind, attrs in _all(attests, sbom, provenance):
        if kind not in chosen:
            chosen[kind] = attrs
    return chosen


def asked_for(attestations: Mapping[str, str | None]) -> dict[str, str]:
    """Those that are wanted."""
    return {kind: attrs for kind, attrs in attestations.items() if attrs is not None}


def for_frontend(
    attestations: Mapping[str, str | None], *, supported: bool, environ: Mapping[str, str]
) -> dict[str, str]:
    """Add what is asked for by default: a small provenance, unless the caller or the environment speaks against it.

    Args:
        attestations: as read.
        supported: whether the daemon and its image store can have any.
        environ: may hold ``BUILDX_NO_DEFAULT_ATTESTATIONS``.

    Raises:
        UnsupportedError: some are asked for, and the daemon cannot have any.
        InputError: the variable is neither true nor false.
    """
    wanted = asked_for(attestations)
    if not supported:
        if wanted:
            raise UnsupportedError(
                f"attestations ({', '.join(wanted)}) are not supported by this daemon and image store; "
                "use another builder, turn on the containerd image store, or leave them out"
            )
        return {}
    if _PROVENANCE not in attestations and not read_boolean(environ, NO_DEFAULT_ATTESTATIONS):
        wanted[_PROVENANCE] = _DEFAULT
    return wanted


def _all(attests: object, sbom: object, provenance: object) -> Iterator[tuple[str, str | None]]:
    if isinstance(attests, Mapping):
        yield from ((str(kind), _canonical(str(kind), rest)) for kind, rest in attests.items())
    else:
        yield from (_parse(text) for text in _texts(attests) if text)
    for kind, rest in ((_PROVENANCE, provenance), ("sbom", sbom)):
        if rest is not None and rest != "":
            yield kind, _canonical(kind, rest)


def _texts(attests: object) -> Iterable[str]:
    given = [attests] if isinstance(attests, str) else attests or []
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise InputError(f"attests must be a list of texts such as type=sbom, or a mapping, not {attests!r}")
    return given


def _canonical(kind: str, rest: object) -> str | None:
    """Read what a type is given: true or false, or its attributes."""
    if not kind:
        raise InputError("attestation type not specified: the name of a type must not be empty")
    if isinstance(rest, Mapping):
        return _write(kind, {str(key): str(value) for key, value in rest.items()})
    text = str(rest).lower() if isinstance(rest, bool) else "false" if rest is None else rest
    if not isinstance(text, str):
        raise InputError(f"{kind} must be true, false or a text such as mode=max, not {rest!r}")
    if text in FALSE:
        return None
    return _write(kind, {}) if text in TRUE or not text else _parse(f"type={kind},{text}")[1]


def _parse(text: str) -> tuple[str, str | None]:
    what = f"attestation {text!r}"
    kind, disabled, attrs = "", False, {}
    for item in read_fields(text, what):
        key, separator, value = item.partition("=")
        if not separator:
            raise InputError(f"invalid value {item!r} in {what}: expected key=value; {_GRAMMAR}")
        match key.lower().strip():
            case "type":
                kind = value
            case "disabled":
                disabled = _read_boolean(item, value)
            case _:
                attrs[key] = value
    if not kind:
        raise InputError(f"attestation type not specified in {text!r}: {_GRAMMAR}")
    return kind, None if disabled else _write(kind, attrs)


def _read_boolean(item: str, value: str) -> bool:
    if value not in TRUE | FALSE:
        raise InputError(f"invalid value {item} of an attestation: expected true or false")
    return value in TRUE


def _write(kind: str, attrs: Mapping[str, str]) -> str:
    return write_record([("type", kind), *sorted(attrs.items())])
