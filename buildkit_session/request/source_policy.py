"""Rules about the sources of a build: which images, URLs and repositories it may use, and what takes their place.

Source: moby/buildkit:sourcepolicy/pb/policy.proto; docker/buildx:build/build.go (EXPERIMENTAL_BUILDKIT_SOURCE_POLICY).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.grpc.wirecheck import check_wire
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import Policy
from buildkit_session.services.policy import Verifier
from buildkit_session.wording import a_type

__all__ = ["read_source_policies", "read_source_policy"]

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of a file with rules."""

_HOW: Final = '{"rules": [{"action": "DENY", "selector": {"identifier": "docker-image://docker.io/library/*"}}]}'


def read_source_policies(given: object) -> tuple[Policy | None, Verifier | None]:
    """Take what is given as policy: rules as :func:`read_source_policy` takes them, a function, or both.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(given, Verifier):
        return (None if given.rules is None else read_source_policy(given.rules)), given
    if callable(given):
        return None, Verifier(given)
    return read_source_policy(given), None


def read_source_policy(given: object) -> Policy:
    """Take rules: a mapping, or the path of a file that has them in JSON or in protobuf's wire format.

    Raises:
        InputError: it is neither, or the file cannot be read or holds no rules.
    """
    if isinstance(given, Mapping):
        return _from_mapping(given, "the source policy")
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"a source policy must be a mapping such as {_HOW}, a path, or a function that decides, not {a_type(given)}"
        )
    path = Path(given)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InputError(f"failed to load the source policy: open {path}: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise InputError(f"the source policy {path} has more than {MAX_FILE} bytes")
    return _from_file(data, path)


def _from_file(data: bytes, path: Path) -> Policy:
    """JSON begins with a brace, which no message of the schema does."""
    try:
        if data.lstrip().startswith(b"{"):
            return Policy.from_json(data.decode())
        check_wire(Policy, data)
        return Policy.parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} holds no source policy, such as {_HOW}: {error}") from error


def _from_mapping(given: Mapping[str, object], what: str) -> Policy:
    try:
        return Policy.from_dict(dict(given))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{what} cannot be read, expected one such as {_HOW}: {error}") from error
