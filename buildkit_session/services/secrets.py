"""``moby.buildkit.secrets.v1.Secrets``: hands out the secrets that the caller named, and nothing else.

The daemon asks once for each mount of each step that runs, and keeps nothing. It asks of its own accord too, for any
HTTP or git source: for ids like ``HTTP_AUTH_TOKEN_<host>`` and ``GIT_AUTH_TOKEN``. What it gets goes to that host, so
ids match exactly or not at all.

NOT_FOUND makes a step that does not require the secret run without it. So it is the answer for an id that nobody
named, and for a source that has nothing, but never for one that failed.

Source: moby/buildkit:session/secrets/secrets.proto, solver/llbsolver/mounts/mount.go, source/http/source.go,
source/git/source.go.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from buildkit_session.errors import CallbackError, InputError, RpcError, TransferError
from buildkit_session.grpc.codec import MessageCodec
from buildkit_session.grpc.router import Codecs, Route, of_request, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit.secrets.v1 import GetSecretRequest, GetSecretResponse
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.grpc.metadata import Metadata

__all__ = ["MAX_SECRET", "SecretSource", "Secrets"]

MAX_SECRET: Final = 500 * 1024
"""Bytes of a secret, as docker has it. A daemon would take more; a larger file is most likely the wrong file.

Source: moby/buildkit:session/secrets/secrets.go (MaxSecretSize).
"""

log = logging.getLogger("buildkit_session.services")


class SecretSource(Protocol):
    """Where a secret comes from."""

    async def read(self) -> bytes | None:
        """Return the secret as it is now, ``None`` if there is none. Empty is a secret too.

        It is called for every mount, several times at once too, and cancelled when the daemon asks no longer. What it
        raises fails the step; the text of that stays on this side.
        """
        ...


class Secrets:
    """Serves secrets by id.

    A step that two builds share runs once: the daemon may take a secret of this session for another client's build, if
    that has the same step.

    Args:
        sources: by id. They are read when a step needs them.
    """

    def __init__(self, sources: Mapping[str, SecretSource]) -> None:
        self._sources = dict(sources)

    def __repr__(self) -> str:
        return f"<Secrets {sorted(self._sources)}>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        subject = of_request(lambda request: request.id)
        return (
            Route("/moby.buildkit.secrets.v1.Secrets/GetSecret", unary(self._get_secret), _codecs, subject=subject),
        )

    async def _get_secret(self, request: GetSecretRequest) -> GetSecretResponse:
        source = self._sources.get(request.id)
        data = None if source is None else await _read(request.id, source)
        if data is None:
            raise RpcError(Status.NOT_FOUND, "not found")
        log.debug("> secret %r, %d bytes", request.id, len(data))
        return GetSecretResponse(data=data)


class _AnswerCodec(MessageCodec[GetSecretResponse]):
    """Writes an empty secret out: BuildKit 0.8 takes a field that is absent, as an empty one is, for no secret."""

    def encode(self, message: GetSecretResponse, /) -> bytes:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        return super().encode(message) or b"\x0a\x00"


_CODECS: Final = Codecs(MessageCodec(GetSecretRequest), _AnswerCodec(GetSecretResponse))


def _codecs(_metadata: Metadata) -> Codecs:
    return _CODECS


async def _read(name: str, source: SecretSource) -> bytes | None:
    """Read a secret.

    Raises:
        InputError, CallbackError, TransferError: it cannot be had or is too large. The daemon is told no more than
            that; the rest is for the caller.
    """
    failed = ""
    try:
        data = await source.read()
    except InputError as error:
        # Not from it: behind it is what a function of the caller has raised, whose text may repeat the value.
        raise InputError(f"secret {name!r}: {error}") from None
    except TransferError:
        raise
    except CallbackError as error:
        failed = str(error)
    except Exception as error:  # noqa: BLE001 - a caller's source may raise anything
        failed = f"its source raised {type(error).__name__}"
    if failed:  # here, without a cause: the text of that may hold the secret
        raise CallbackError(f"secret {name!r}: {failed}")
    if data is not None and not isinstance(data, bytes):
        raise InputError(f"secret {name!r}: its source must return bytes or None, not {a_type(data)}")
    if data is not None and len(data) > MAX_SECRET:
        raise TransferError(f"the secret {name!r} has {len(data)} bytes, more than the {MAX_SECRET} of a secret")
    return data
