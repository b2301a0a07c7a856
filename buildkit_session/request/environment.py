"""Variables of the environment that change what a build asks for.

Whoever calls passes the environment in: a library must not find settings that its caller does not know of.

Source: docker/buildx:build/opt.go, build/utils.go (noDefaultLoad), commands/build.go (toOptions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError
from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NO_DEFAULT_ATTESTATIONS", "NO_DEFAULT_LOAD", "SOURCE_DATE_EPOCH", "is_on", "read_boolean"]

NO_DEFAULT_ATTESTATIONS: Final = "BUILDX_NO_DEFAULT_ATTESTATIONS"
"""Do not ask for a provenance attestation unasked."""
NO_DEFAULT_LOAD: Final = "BUILDX_NO_DEFAULT_LOAD"
"""Do not keep the result as an image when no output is named."""
SOURCE_DATE_EPOCH: Final = "SOURCE_DATE_EPOCH"
"""One date makes every layer reproducible, so it is a build argument without being asked for."""


def read_boolean(environ: Mapping[str, str], name: str) -> bool | None:
    """Read a variable that is true or false; ``None`` if it is not set.

    Raises:
        InputError: it is neither.
    """
    value = environ.get(name)
    if value is None:
        return None
    if value not in TRUE | FALSE:
        raise InputError(f"invalid {name} {value!r} in the environment: expected true or false")
    return value in TRUE


def is_on(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Read a variable that is true or false; what is neither counts as not set, as it does for buildx."""
    value = environ.get(name, "")
    if value in TRUE:
        return True
    return default and value not in FALSE
