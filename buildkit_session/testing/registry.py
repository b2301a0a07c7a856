"""Start a registry on loopback, to push to and pull from: Debian's docker-registry."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.archive import unpacked
from buildkit_session.testing.companion import companion
from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.isolated import free_port, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.testing.token_server import TokenServer

__all__ = ["Registry", "find_registry", "start_registry"]

_SUITE = "bookworm"
_PACKAGE = "docker-registry"

_USER = "alice"
_PASSWORD = "wonderland"  # noqa: S105 - of a registry that lives as long as one test
# bcrypt, cost 4: the registry takes nothing else, and Python cannot make it.
_HTPASSWD = f"{_USER}:$2b$04$abcdefghijklmnopqrstuujZkTwHUiJ9XdZPwKfcfDo7dMp5DjlTu\n"

_SETTINGS = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {home}/data}}
  delete: {{enabled: true}}
http: {{addr: "{host}"}}
"""
_BASIC = "auth: {{htpasswd: {{realm: test, path: {home}/htpasswd}}}}\n"
_TOKENS = "auth: {{token: {{realm: {realm}, service: {service}, issuer: {issuer}, rootcertbundle: {certificate}}}}}\n"


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that answers, over plain HTTP.

    Attributes:
        host: ``127.0.0.1:port``, the beginning of the names of its images.
        user: who may push and pull; empty where everybody may.
        password: of that user.
        log: the file that it logs to.
    """

    host: str
    user: str
    password: str
    log: Path


def find_registry() -> Path:
    """Find the program: this machine's own, or Debian's package unpacked in the cache folder.

    Raises:
        Unavailable: neither can be had.
    """
    if installed := shutil.which("docker-registry", path=search_path()):
        return Path(installed)
    # Not installed: that would start one for the whole machine.
    return _program(unpacked(_SUITE, [_PACKAGE], usable=lambda folder: _program(folder).exists(), name=_PACKAGE))


@contextmanager
def start_registry(*, authenticated: bool = False, tokens: TokenServer | None = None) -> Iterator[Registry]:
    """Start a registry, wait until it answers, and end it with the block; what was pushed goes with it.

    Args:
        authenticated: only one user, with a password, may push and pull.
        tokens: who may push and pull is this server's to say.

    Raises:
        Unavailable: there is none here, or it did not start.
    """
    program = find_registry()
    with state_folder() as home:
        port = free_port()
        host = f"127.0.0.1:{port}"
        log = home / "log"
        settings = home / "config.yml"
        access = _BASIC.format(home=home) if authenticated else _access(tokens) if tokens else ""
        settings.write_text(_SETTINGS.format(home=home, host=host) + access)
        (home / "htpasswd").write_text(_HTPASSWD)
        with companion([program, "serve", settings], port, log):
            yield Registry(host, _USER if authenticated else "", _PASSWORD if authenticated else "", log)


def _access(tokens: TokenServer) -> str:
    return _TOKENS.format(
        realm=tokens.realm, service=tokens.service, issuer=tokens.issuer, certificate=tokens.certificate
    )


def _program(folder: Path) -> Path:
    return folder / "usr/bin/docker-registry"
