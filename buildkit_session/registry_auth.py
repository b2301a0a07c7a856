"""What answers for registries, made of the credentials that the caller has given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from buildkit_session.services.auth import Auth
    from buildkit_session.services.called_credentials import CredentialFunction
    from buildkit_session.services.credentials import Credentials, CredentialSource
    from buildkit_session.services.docker_config import DockerConfig
    from buildkit_session.services.tokens import Tokens

    CredentialsLike: TypeAlias = (
        Mapping[str, tuple[str, str] | Credentials | CredentialFunction] | CredentialFunction | CredentialSource
    )

__all__ = ["CredentialsLike", "make_auth"]

_WANTED: Final = "credentials must be a mapping such as {'ghcr.io': ('user', 'token')}"


def make_auth(credentials: CredentialsLike | None) -> Auth | None:
    """Make what answers for registries.

    Each has secrets of its own by which daemons know it again, so tokens are shared by the builds that share it, and by
    no others: one is made for a client, and one for each build with credentials of its own.

    Args:
        credentials: by registry, or something that looks for them; ``None`` for nothing that answers, so that a daemon
            does without credentials.

    Raises:
        InputError: they are neither.
    """
    if credentials is None:
        return None
    # Here, not above: few programs have any.
    from buildkit_session.services.auth import Auth  # noqa: PLC0415
    from buildkit_session.services.credentials import HostCredentials  # noqa: PLC0415
    from buildkit_session.services.docker_config import DockerConfig  # noqa: PLC0415

    if isinstance(credentials, DockerConfig):
        return Auth(credentials, tokens=partial(_docker_tokens, credentials))
    if not isinstance(credentials, Mapping):
        return Auth(_source(credentials), tokens=_own_tokens)
    sources = {_host(host): _source_for(host, given) for host, given in credentials.items()}
    return Auth(HostCredentials(sources), tokens=_own_tokens)


def _source(given: Any) -> CredentialSource:
    if isinstance(given, type):
        raise InputError(f"credentials must be an object, not the class {given.__name__}; write {given.__name__}()")
    if not isinstance(given, str | bytes):  # which have a method of that name
        if callable(getattr(given, "find", None)):
            source: CredentialSource = given
            return source
        if callable(given):
            return _called(given)
    raise InputError(f"{_WANTED}, a function that takes a host, or have a method find(), not be {a_type(given)}")


def _host(name: object) -> str:
    from buildkit_session.services.credentials import registry_host  # noqa: PLC0415 - as above

    if not isinstance(name, str) or not registry_host(name):
        raise InputError(f"credentials are by registry, such as ghcr.io or reg.example:5000, not by {name!r}")
    return name


def _source_for(host: str, given: Any) -> CredentialSource:
    """The source for one registry."""
    from buildkit_session.services.credentials import Credentials, StaticCredentials  # noqa: PLC0415 - as above

    match given:
        case Credentials():
            return StaticCredentials({host: given})
        case (str(username), str(password)):
            return StaticCredentials({host: Credentials(username, password)})
        case _ if callable(given) and not isinstance(given, type):
            return _called(given)
    raise InputError(
        f"credentials: what is given for {host!r} is {_shape(given)}; use a pair of texts such as ('user', 'token'), "
        "bk.Credentials(...) or a function that takes the host"
    )


def _shape(given: object) -> str:
    """The types of a value, and nothing of it: it may be a password."""
    if not isinstance(given, tuple) or not given:
        return a_type(given)
    return f"({', '.join(type(one).__name__ for one in given)})"


def _called(function: CredentialFunction) -> CredentialSource:
    from buildkit_session.services.called_credentials import CalledCredentials  # noqa: PLC0415 - as above

    return CalledCredentials(function)


def _docker_tokens(config: DockerConfig) -> Tokens | None:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens  # noqa: PLC0415

    return Tokens.of_environment(config.environ, AiohttpWeb())


def _own_tokens() -> Tokens | None:
    from buildkit_session.engine.web import AiohttpWeb  # noqa: PLC0415 - as above
    from buildkit_session.services.tokens import Tokens, are_disabled  # noqa: PLC0415

    return None if are_disabled(os.environ) else Tokens.of_one_client(AiohttpWeb())
