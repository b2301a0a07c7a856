"""The credentials that ``docker login`` has left: in docker's config.json or with the helpers that it names.

Owns the rules by which a host finds its entry. They are docker's, with three differences: the file is read each time,
so that a login during a build counts; an entry that is malformed harms no other; and a fault is an error, where docker
prints a warning and goes on without credentials.

Source: docker/cli:cli/config/configfile/file.go, cli/config/credentials/file_store.go, native_store.go.
"""

from __future__ import annotations

import binascii
import json
import os
import shutil
import sys
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio import to_thread

from buildkit_session.docker_directory import docker_directory
from buildkit_session.errors import InputError
from buildkit_session.services.credentials import HUB, Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DockerConfig"]

HUB_KEY: Final = "https://index.docker.io/v1/"
"""What docker writes for Docker Hub. Entries under its other names are never used, by docker neither."""

REMEMBERED: Final = 290.0
"""Seconds that a helper's answer is kept, as docker buildx does: some hand out tokens that live for five minutes.

Source: docker/buildx via moby/buildkit:session/auth/authprovider/authconfig.go.
"""

_Table: TypeAlias = "dict[str, Any]"


class DockerConfig:
    """A :class:`~buildkit_session.services.credentials.CredentialSource` that knows what the docker CLI knows.

    Args:
        environ: names docker's directory (``DOCKER_CONFIG`` or ``HOME``), may hold credentials
            (``DOCKER_AUTH_CONFIG``), and is passed on to helpers.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._answers: dict[tuple[str, str], tuple[float, Credentials | None]] = {}  # of helpers, with their end
        self._asking = anyio.Lock()  # keychains have been seen to hang when asked twice at once

    def __repr__(self) -> str:
        return f"<DockerConfig {self._file}>"

    @property
    def _file(self) -> Path:
        return docker_directory(self._environ) / "config.json"

    async def find(self, host: str, /) -> Credentials | None:
        """Return the credentials for ``host``, ``None`` if there are none.

        Raises:
            InputError: a setting that matters for this host cannot be used, or its helper failed. What is in the file
                is shown in no error.
        """
        key = HUB_KEY if host == HUB else host
        if (found := self._from_variable(key)) is not None:
            return found
        config = await to_thread.run_sync(_read, self._file)
        helper = await to_thread.run_sync(self._helper, config, key)
        # What a helper does not have is not looked for in the file: it may have been logged out of.
        return await self._ask(helper, key) if helper else _from_file(config, key, str(self._file))

    def _from_variable(self, key: str) -> Credentials | None:
        text = self._environ.get("DOCKER_AUTH_CONFIG")
        if not text:
            return None
        entry = _table(_parse(text, "DOCKER_AUTH_CONFIG"), "auths", "DOCKER_AUTH_CONFIG").get(key)
        return None if entry is None else _credentials(entry, f"{key} in DOCKER_AUTH_CONFIG")

    def _helper(self, config: _Table, key: str) -> str:
        """The suffix of the helper that keeps the credentials of ``key``; empty for the file itself."""
        helpers = _table(config, "credHelpers", str(self._file))
        if key in helpers:
            return _text(helpers, key, str(self._file))
        if store := _text(config, "credsStore", str(self._file)):
            return store
        return "" if helpers or _table(config, "auths", str(self._file)) else self._usual_helper()

    def _usual_helper(self) -> str:
        """The one that docker would choose on this machine, if it is installed."""
        if sys.platform == "darwin":
            usual = "osxkeychain"
        else:
            usual = "pass" if shutil.which("pass", path=self._environ.get("PATH", os.defpath)) else "secretservice"
        from buildkit_session.services.credential_helper import find_helper  # noqa: PLC0415 - few registries are asked

        return usual if find_helper(usual, self._environ) else ""

    async def _ask(self, helper: str, key: str) -> Credentials | None:
        from buildkit_session.services.credential_helper import ask_helper  # noqa: PLC0415 - as above

        async with self._asking:
            end, found = self._answers.get((helper, key), (0.0, None))
            if end <= time.monotonic():
                found = await ask_helper(helper, key, self._environ)
                self._answers[helper, key] = time.monotonic() + REMEMBERED, found
            return found


def _read(file: Path) -> _Table:
    try:
        return _parse(file.read_bytes(), str(file))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _parse(text: str | bytes, source: str) -> _Table:
    try:
        value = json.loads(text)
    except ValueError:
        raise InputError(f"{source} is not JSON") from None  # the decoder's own error holds all of it
    except RecursionError:
        raise InputError(f"{source} is nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"{source} does not hold a JSON object")
    return value


def _from_file(config: _Table, key: str, source: str) -> Credentials | None:
    """Find the entry under ``key``, or under a URL of that host."""
    auths = _table(config, "auths", source)
    found = key if key in auths else next((name for name in auths if _host(name) == key), None)
    return None if found is None else _credentials(auths[found], f"{found} in {source}")


def _host(url: str) -> str:
    return url.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _credentials(entry: object, source: str) -> Credentials | None:
    if not isinstance(entry, dict):
        raise InputError(f"the entry of {source} is no object: run 'docker login' again")
    username, password = _text(entry, "username", source), _text(entry, "password", source)
    if auth := _text(entry, "auth", source):
        username, password = _decoded(auth, source)
    found = Credentials(
        username, password, _text(entry, "identitytoken", source), _text(entry, "registrytoken", source)
    )
    return found if found != Credentials(username) else None


def _decoded(auth: str, source: str) -> tuple[str, str]:
    """Username and password of an entry's ``auth``."""
    try:
        username, colon, password = (
            b64decode(auth.translate({10: None, 13: None}), validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        username = colon = password = ""
    if not username or not colon:
        raise InputError(f"the 'auth' of {source} is malformed: run 'docker login' again")
    return username, password.strip("\0")


def _get(table: _Table, name: str) -> Any:
    """The value of a key, which matches in any case, as in Go's decoder."""
    if name in table:
        return table[name]
    return next((value for key, value in table.items() if key.lower() == name.lower()), None)


def _text(table: _Table, name: str, source: str) -> str:
    value = _get(table, name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name!r} of {source} is no text")
    return value or ""


def _table(table: _Table, name: str, source: str) -> _Table:
    value = _get(table, name)
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{name!r} of {source} is no object")
    return value or {}
