"""Private keys opened and used by the library ``cryptography``, which is an extra of this one: load this when needed.

Source: RFC 8332 (RSA with SHA-2), RFC 5656 (ECDSA), RFC 8709 (Ed25519); draft-ietf-sshm-ssh-agent, section 4.6.1.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from buildkit_session.errors import InputError
from buildkit_session.services.agent_messages import SHA2_256, SHA2_512, Identity
from buildkit_session.services.ssh_wire import mpint, string

if TYPE_CHECKING:
    from collections.abc import Callable

    Supported: TypeAlias = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey

__all__ = ["PrivateKey", "open_key"]

_CURVES: Final = {
    "secp256r1": ("nistp256", SHA256),
    "secp384r1": ("nistp384", SHA384),
    "secp521r1": ("nistp521", SHA512),
}
_OPENSSH: Final = b"BEGIN OPENSSH PRIVATE KEY"


class PrivateKey:
    """A :class:`~buildkit_session.services.key_ring.SigningKey`.

    Args:
        key: ready for use.
        comment: to list it with.
    """

    def __init__(self, key: Supported, comment: str) -> None:
        self._key = key
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.identity = Identity(base64.b64decode(line.split()[1]), comment.encode("utf-8", "replace"))

    def __repr__(self) -> str:
        return f"<PrivateKey {self.identity.type}>"

    def sign(self, data: bytes, flags: int) -> bytes | None:
        """See :class:`~buildkit_session.services.key_ring.SigningKey`.

        RSA without flags is SHA-1, as with OpenSSH's own agent: ``ssh-add -T`` and old libraries ask for it, and
        whether it still counts is for servers to say.
        """
        if flags & ~(SHA2_256 | SHA2_512):
            return None
        if isinstance(self._key, RSAPrivateKey):
            algorithm, signature = _sign_rsa(self._key, data, flags)
        elif isinstance(self._key, EllipticCurvePrivateKey):
            algorithm, signature = _sign_ecdsa(self._key, data)
        else:
            algorithm, signature = "ssh-ed25519", self._key.sign(data)
        return string(algorithm.encode()) + string(signature)


def open_key(content: bytes, passphrase: bytes | None, *, name: str, comment: str) -> PrivateKey:
    """Open a private key in PEM or OpenSSH's format. Blocks, for seconds where a passphrase is stretched much.

    Args:
        content: of the file.
        passphrase: ``None`` for a key without one.
        name: of the key in errors.
        comment: to list it with.

    Raises:
        InputError: the passphrase is wrong, or it is no key of a kind that can be used.
    """
    load: Callable[..., object] = load_ssh_private_key if _OPENSSH in content else load_pem_private_key
    try:
        key = load(content, passphrase)
    except UnsupportedAlgorithm as error:
        raise InputError(f"{name} cannot be opened here: {error}; add it to an agent instead") from None
    except Exception:  # noqa: BLE001 - several kinds, which differ from version to version
        # Without the cause, which was made by code that has seen the passphrase.
        wrong = "the passphrase does not open it, or it is damaged" if passphrase else "it is damaged"
        raise InputError(f"failed to parse {name}: {wrong}") from None
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name not in _CURVES:
        raise InputError(f"{name} is on a curve that ssh does not know: {key.curve.name}; make one with ssh-keygen")
    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey):
        raise InputError(f"{name} is of a kind that is not supported; use Ed25519, RSA or ECDSA, or an agent")
    return PrivateKey(key, comment)


def _sign_rsa(key: RSAPrivateKey, data: bytes, flags: int) -> tuple[str, bytes]:
    if flags & SHA2_256:  # OpenSSH's agent prefers it where both are asked for
        return "rsa-sha2-256", key.sign(data, PKCS1v15(), SHA256())
    if flags & SHA2_512:
        return "rsa-sha2-512", key.sign(data, PKCS1v15(), SHA512())
    return "ssh-rsa", key.sign(data, PKCS1v15(), SHA1())  # noqa: S303 - what was asked for


def _sign_ecdsa(key: EllipticCurvePrivateKey, data: bytes) -> tuple[str, bytes]:
    curve, digest = _CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(data, ECDSA(digest())))
    return f"ecdsa-sha2-{curve}", mpint(r) + mpint(s)
