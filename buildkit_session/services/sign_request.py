"""What somebody is asked who may refuse a signature: with which key, for whom, of what.

What is signed is known by its form alone. One form cannot be taken for another: a login begins with the length of a
session id, which is at most 64, and a signed file with letters.

Source: RFC 4252, section 7; openssh/openssh-portable:PROTOCOL (publickey-hostbound-v00@openssh.com), PROTOCOL.sshsig.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.printable import printable
from buildkit_session.services.agent_messages import Identity, Signing, fingerprint
from buildkit_session.services.ssh_wire import WireReader

__all__ = ["SignRequest", "sign_request"]

Kind: TypeAlias = Literal["login", "sshsig", "data"]

_USERAUTH_REQUEST: Final = b"\x32"
_SIGNED: Final = b"\x01"
_METHODS: Final = (b"publickey", b"publickey-hostbound-v00@openssh.com")
_MAX_SESSION: Final = 64
_SSHSIG: Final = b"SSHSIG"
_MAX_TEXT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """A signature that a build step wants.

    Its texts are safe to print: control characters are escaped, and one of more than 1000 bytes ends in ``…``.

    Attributes:
        id: under which the keys are forwarded, ``default`` for the one of mounts that name none.
        comment: of the key.
        fingerprint: of the key, ``SHA256:...``.
        key_type: such as ``ssh-ed25519``.
        kind: ``login`` for a login by ssh, ``sshsig`` for what ``ssh-keygen -Y sign`` and signed git commits are,
            ``data`` for anything else.
        user: who logs in at the server; only of a login, as are the next three.
        service: what the login is for, ``ssh-connection``.
        session: the session id in hexadecimal digits.
        host_key: the fingerprint of the server's key, ``None`` where the client did not bind the login to it. A
            signature counts at that server alone.
        namespace: what a signed file is for, such as ``git`` or ``file``; only of ``sshsig``.
        data: all of what is signed.
    """

    id: str
    comment: str
    fingerprint: str
    key_type: str
    kind: Kind = "data"
    user: str | None = None
    service: str | None = None
    session: str | None = None
    host_key: str | None = None
    namespace: str | None = None
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Meaning:
    kind: Kind
    user: str | None = None
    service: str | None = None
    session: str | None = None
    host_key: str | None = None
    namespace: str | None = None


def sign_request(name: str, identity: Identity, signing: Signing) -> SignRequest:
    """Say what is to be signed.

    Args:
        name: under which the agent is forwarded.
        identity: the key that shall sign.
        signing: the request.
    """
    meaning = _meaning(signing)
    return SignRequest(
        id=name,
        comment=_text(identity.comment),
        fingerprint=fingerprint(identity.blob),
        key_type=printable(identity.type),
        kind=meaning.kind,
        user=meaning.user,
        service=meaning.service,
        session=meaning.session,
        host_key=meaning.host_key,
        namespace=meaning.namespace,
        data=signing.data,
    )


def _meaning(signing: Signing) -> _Meaning:
    for read in (_login, _sshsig):
        try:
            return read(signing)
        except RemoteProtocolError:
            pass
    return _Meaning("data")


def _login(signing: Signing) -> _Meaning:
    """Read the request to log in that a client signs, after the id of its session."""
    reader = WireReader(signing.data)
    session = reader.string()
    _require(0 < len(session) <= _MAX_SESSION)
    _require(reader.take(1) == _USERAUTH_REQUEST)
    user, service, method = reader.string(), reader.string(), reader.string()
    _require(method in _METHODS)
    _require(reader.take(1) == _SIGNED)
    reader.string()  # the algorithm, which the flags say too
    _require(reader.string() == signing.blob)
    host_key = None if method == _METHODS[0] else fingerprint(reader.string())
    reader.end()
    return _Meaning("login", _text(user), _text(service), session.hex(), host_key)


def _sshsig(signing: Signing) -> _Meaning:
    reader = WireReader(signing.data)
    _require(reader.take(len(_SSHSIG)) == _SSHSIG)
    namespace = reader.string()
    for _ in ("reserved", "hash algorithm", "hash of the file"):
        reader.string()
    reader.end()
    return _Meaning("sshsig", namespace=_text(namespace))


def _require(fact: bool) -> None:
    if not fact:
        raise RemoteProtocolError("something else is signed")


def _text(data: bytes) -> str:
    # A step can name a quarter of a megabyte, which nobody reads; a text that is cut is that of no user.
    shown = printable(data[:_MAX_TEXT].decode("utf-8", "backslashreplace"))
    return shown if len(data) <= _MAX_TEXT else shown + "…"
