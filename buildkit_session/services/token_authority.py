"""The keys by which a daemon tells whose token it may use.

A daemon keeps the tokens of its clients. Before it uses one for another session, it has that session sign something:
who has the same key may share the token. So the key is made of a secret value for each registry, and of the daemon's
own salt; who has no credentials shares a key with everybody else who has none.

Source: moby/buildkit:session/auth/authprovider/authprovider.go (getAuthorityKey), session/auth/auth.go.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RpcError
from buildkit_session.grpc.status import Status
from buildkit_session.services.ed25519 import public_key, sign

if TYPE_CHECKING:
    from buildkit_session.services.token_seeds import SeedSource

__all__ = ["TokenAuthority"]

MAX_SALT: Final = 1024

PAYLOAD: Final = 32
"""Bytes that a daemon has signed. Nothing else is: they are random, and mean nothing elsewhere."""


class TokenAuthority:
    """Has a key for each registry. Everything it does may block, and takes some milliseconds of computing.

    Args:
        seeds: what the keys are made of.
    """

    def __init__(self, seeds: SeedSource) -> None:
        self._seeds = seeds

    def public_key(self, host: str, salt: bytes, *, secret: bool, account: bytes = b"") -> bytes:
        """The public key for a registry.

        Args:
            host: of the registry.
            salt: of the daemon.
            secret: whether this client has credentials of any kind there.
            account: tells these credentials from others for the same registry; empty where all of them share a key.
        """
        return public_key(self._private_key(host, salt, secret=secret, account=account))

    def signed(self, host: str, salt: bytes, payload: bytes, *, secret: bool, account: bytes = b"") -> bytes:
        """The signature of ``payload``, and the payload behind it."""
        if len(payload) != PAYLOAD:
            raise RpcError(Status.INVALID_ARGUMENT, f"a payload has {PAYLOAD} bytes")
        return sign(self._private_key(host, salt, secret=secret, account=account), payload) + payload

    def _private_key(self, host: str, salt: bytes, *, secret: bool, account: bytes) -> bytes:
        if not 0 < len(salt) <= MAX_SALT:
            raise RpcError(Status.INVALID_ARGUMENT, f"a salt has 1 to {MAX_SALT} bytes")
        return hmac.digest(salt, self._seeds.get(host) + account if secret else b"", hashlib.sha256)
