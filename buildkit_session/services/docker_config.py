"""The credentials that ``docker login`` has left: in docker's config.json or with the helpers that it names.

Owns the rules by which a host finds its entry. They are docker's, with three differences: the file is read each time,
so that a login during a build counts; an entry that is malformed harms no other; and a fault is an error, where docker
prints a warning and goes on without credentials.

Source: docker/cli:cli/config/configfile/file.go, cli/config/credentials/file_store.go, native_store.go.
"""

from __future__ import annotations

import binascii
import os
import shutil
import sys
import time
from base64 import b64decode
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from buildkit_session.docker_directory import docker_directory
from buildkit_session.docker_settings import Settings
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


MAX_REMEMBERED: Final = 1000
"""Answers of helpers that are kept: a daemon may ask about any number of hosts."""


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
    def environ(self) -> Mapping[str, str]:
        """The environment that it looks at."""
        return self._environ

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
        config = await to_thread.run_sync(partial(Settings.read, self._file, missing_ok=True))
        helper = await to_thread.run_sync(self._helper, config, key)
        # What a helper does not have is not looked for in the file: it may have been logged out of.
        return await self._ask(helper, key) if helper else _from_file(config, key)

    def _from_variable(self, key: str) -> Credentials | None:
        text = self._environ.get("DOCKER_AUTH_CONFIG")
        if not text:
            return None
        auths = Settings.parse(text, "DOCKER_AUTH_CONFIG").table("auths")
        return None if auths.entries.get(key) is None else _credentials(auths, key)

    def _helper(self, config: Settings, key: str) -> str:
        """The suffix of the helper that keeps the credentials of ``key``; empty for the file itself."""
        helpers = config.table("credHelpers")
        if key in helpers.entries:
            return helpers.text(key)
        if store := config.text("credsStore"):
            return store
        return "" if helpers.entries or config.table("auths").entries else self._usual_helper()

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
                if len(self._answers) > MAX_REMEMBERED:
                    del self._answers[next(iter(self._answers))]
            return found


def _from_file(config: Settings, key: str) -> Credentials | None:
    """Find the entry under ``key``, or under a URL of that host."""
    auths = config.table("auths")
    found = key if key in auths.entries else next((name for name in auths.entries if _host(name) == key), None)
    return None if found is None else _credentials(auths, found)


def _host(url: str) -> str:
    return url.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _credentials(auths: Settings, key: str) -> Credentials | None:
    fields = auths.entries[key]
    source = f"{key} in {auths.source}"
    if not isinstance(fields, dict):
        raise InputError(f"the entry of {source} is no object: run 'docker login' again")
    entry = Settings(source, fields)
    username, password = entry.text("username"), entry.text("password")
    if auth := entry.text("auth"):
        username, password = _decoded(auth, source)
    try:
        found = Credentials(username, password, entry.text("identitytoken"), entry.text("registrytoken"))
    except InputError as error:
        raise InputError(f"the entry of {source} cannot be used: {error}") from None
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
