"""Docker's credential helpers: programs that keep the passwords of registries.

What a helper prints is a secret or may hold one, so no error shows any of it.

Source: docker/docker-credential-helpers:client/client.go, credentials/credentials.go.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import anyio

from buildkit_session.errors import InputError
from buildkit_session.services.credentials import Credentials
from buildkit_session.services.programs import find_program, run_program

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ask_helper", "find_helper"]

PATIENCE: Final = 45.0
"""Seconds that a helper may take: it may ask its user, and a source of credentials is waited for 50."""

MAX_OUTPUT: Final = 256 * 1024
"""Bytes that a helper may print; a token has a few thousand."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

# Of the version 0.1 on, and in no other words: this is the protocol.
_NOT_FOUND: Final = b"credentials not found in native keychain"

_TOKEN: Final = "<token>"  # noqa: S105 - a user's name that says what the secret is


def find_helper(suffix: str, environ: Mapping[str, str]) -> str | None:
    """Return the path of ``docker-credential-<suffix>``, ``None`` if it is not there.

    Raises:
        InputError: the suffix could lead elsewhere.
    """
    if not _NAME.fullmatch(suffix):
        raise InputError(f"{suffix!r} is not the name of a credential helper: correct docker's config.json")
    return find_program(f"docker-credential-{suffix}", environ)


async def ask_helper(
    suffix: str, key: str, environ: Mapping[str, str], *, patience: float = PATIENCE
) -> Credentials | None:
    """Ask a helper for the credentials it keeps under ``key``, ``None`` if it has none.

    A helper that does not answer is killed, with what it has started; so is one whose call is cancelled.

    Args:
        suffix: of the program's name.
        key: the registry as docker's config.json spells it.
        environ: passed on to the helper; its ``PATH`` says where to look for it.
        patience: seconds.

    Raises:
        InputError: the helper is missing, failed, or answered with something else.
    """
    program = await anyio.to_thread.run_sync(find_helper, suffix, environ)
    name = f"docker-credential-{suffix}"
    if program is None:
        raise InputError(f"{name} is not installed, but docker's config.json names it for {key}")
    try:
        with anyio.fail_after(patience):
            status, printed = await run_program([program, "get"], key.encode(), environ, max_output=MAX_OUTPUT)
    except TimeoutError:
        raise InputError(f"{name} gave no answer for {key} within {patience:g} s") from None
    except OSError as error:
        raise InputError(f"{name} cannot be run: {error.strerror}") from error
    if len(printed) > MAX_OUTPUT:
        raise InputError(f"{name} printed more than {MAX_OUTPUT} bytes for {key}")
    if status != 0:
        if printed.strip() == _NOT_FOUND:
            return None
        raise InputError(f"{name} failed for {key} with status {status}: run '{name} get' to see why")
    return _credentials(printed, f"{name} did not answer for {key} as a credential helper does")


def _credentials(printed: bytes, complaint: str) -> Credentials | None:
    try:
        answer = json.loads(printed)
    except (ValueError, RecursionError):
        raise InputError(complaint) from None  # the decoder's own error holds all of it
    if not isinstance(answer, dict):
        raise InputError(complaint)
    fields = {str(name).lower(): value for name, value in answer.items()}
    username, secret = fields.get("username", ""), fields.get("secret", "")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise InputError(complaint)
    if not secret:
        return None
    try:
        return Credentials(identity_token=secret) if username == _TOKEN else Credentials(username, secret)
    except InputError:
        raise InputError(complaint) from None
