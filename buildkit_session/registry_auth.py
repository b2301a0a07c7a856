"""What answers for registries, made of the credentials that the caller has given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from buildkit_session.services.auth import Auth
    from buildkit_session.services.credentials import Credentials, CredentialSource
    from buildkit_session.services.tokens import Tokens

    CredentialsLike: TypeAlias = Mapping[str, tuple[str, str] | Credentials] | CredentialSource

__all__ = ["CredentialsLike", "make_auth"]

_WANTED: Final = "credentials must be a mapping such as {'ghcr.io': ('user', 'token')}"


def make_auth(credentials: CredentialsLike | None) -> Auth | None:
    """Make what answers for registries: once for a client, as it keeps the secrets by which daemons know it again.

    Args:
        credentials: by registry, or something that looks for them.

    Raises:
        InputError: they are neither.
    """
    if credentials is None:
        return None
    # Here, not above: few programs have any.
    from buildkit_session.services.auth import Auth  # noqa: PLC0415
    from buildkit_session.services.credentials import StaticCredentials  # noqa: PLC0415
    from buildkit_session.services.docker_config import DockerConfig  # noqa: PLC0415

    if isinstance(credentials, DockerConfig):
        return Auth(credentials, tokens=_docker_tokens)
    if not isinstance(credentials, Mapping):
        return Auth(_source(credentials), tokens=_own_tokens)
    known = {_host(host): _credentials(given) for host, given in credentials.items()}
    return Auth(StaticCredentials(known), tokens=_own_tokens)


def _source(given: Any) -> CredentialSource:
    if isinstance(given, type):
        raise InputError(f"credentials must be an object, not the class {given.__name__}; write {given.__name__}()")
    if isinstance(given, str | bytes) or not callable(getattr(given, "find", None)):  # texts have one of their own
        raise InputError(f"{_WANTED}, or have a method find(), not be {a_type(given)}")
    source: CredentialSource = given
    return source


def _host(name: object) -> str:
    from buildkit_session.services.credentials import registry_host  # noqa: PLC0415 - as above

    if not isinstance(name, str) or not registry_host(name):
        raise InputError(f"credentials are by registry, such as ghcr.io or reg.example:5000, not by {name!r}")
    return name


def _credentials(given: object) -> Credentials:
    from buildkit_session.services.credentials import Credentials  # noqa: PLC0415 - as above

    match given:
        case Credentials():
            return given
        case (str(username), str(password)):
            return Credentials(username, password)
    raise InputError(_WANTED)


def _docker_tokens() -> Tokens | None:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens  # noqa: PLC0415

    return Tokens.of_environment(os.environ, AiohttpWeb())


def _own_tokens() -> Tokens:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens  # noqa: PLC0415

    return Tokens.of_one_client(AiohttpWeb())
