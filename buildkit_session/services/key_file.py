"""What a file with a private ssh key looks like, and whether it can be used, without opening the key itself.

Source: openssh/openssh-portable:PROTOCOL.key, PROTOCOL.certkeys, PROTOCOL.u2f; RFC 7468.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from importlib.util import find_spec
from typing import Final

from buildkit_session.errors import InputError, RemoteProtocolError
from buildkit_session.services.ssh_wire import WireReader

__all__ = ["MAX_KEY", "can_open_keys", "is_encrypted", "look_at", "read_key"]

MAX_KEY: Final = 100 * 1024
"""Bytes of a key file, as upstream reads at most."""

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----\s*(.*?)-----END", re.DOTALL)
_MAGIC: Final = b"openssh-key-v1\0"
_NO_CIPHER: Final = b"none"
_CERTIFICATE: Final = re.compile(rb"\s*[a-z0-9-]+-cert-v01@openssh\.com ")
_PUBLIC: Final = re.compile(rb"\s*(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ ")
_HARDWARE: Final = b"sk-"


def can_open_keys() -> bool:
    """Whether the library that opens keys in this process is installed; it is not loaded."""
    return all(find_spec(name) is not None for name in ("bcrypt", "cryptography"))


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Read a file with a key. Blocks, but never waits: it may be a pipe.

    Raises:
        InputError: it cannot be read, or is no regular file.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"ssh key {name} is not a regular file")
            with open(descriptor, "rb", closefd=False) as opened:
                return opened.read(MAX_KEY)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"ssh key {name} cannot be read: {error.strerror}") from error


def look_at(content: bytes, name: str) -> None:
    """Raise InputError if this is no private key of a kind that can be used.

    Args:
        content: of the file.
        name: of the key in errors.
    """
    if _CERTIFICATE.match(content):
        raise InputError(
            f"failed to parse {name}: it is a certificate, not a private key; add both to an agent and forward that"
        )
    if (found := _PEM.search(content)) is None:
        public = "; it is the public half, give the file without .pub" if _PUBLIC.match(content) else ""
        raise InputError(f"failed to parse {name}: it holds no private key in PEM or OpenSSH format{public}")
    kind = _openssh_type(found[2])
    if kind is not None and kind.startswith(_HARDWARE):
        raise InputError(f"{name} is kept on a security key, which has to be touched; add it to an agent instead")


def is_encrypted(content: bytes) -> bool:
    """Whether a key has a passphrase."""
    if (found := _PEM.search(content)) is None:
        return False
    label, body = found[1], found[2]
    if b"ENCRYPTED" in label or body.startswith(b"Proc-Type: 4,ENCRYPTED"):
        return True
    header = _openssh(body)
    try:
        return header is not None and header.string() != _NO_CIPHER
    except RemoteProtocolError:
        return False


def _openssh_type(body: bytes) -> bytes | None:
    """The type of a key in OpenSSH's format, whose public half is not encrypted; ``None`` if it is in another one."""
    if (reader := _openssh(body)) is None:
        return None
    try:
        for _ in ("cipher", "derivation", "its options"):
            reader.string()
        reader.number()  # of keys: one
        return WireReader(reader.string()).string()
    except RemoteProtocolError:
        return None


def _openssh(body: bytes) -> WireReader | None:
    try:
        raw = base64.b64decode(body)
    except binascii.Error:
        return None
    return WireReader(raw[len(_MAGIC) :]) if raw.startswith(_MAGIC) else None
