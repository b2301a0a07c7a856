"""Which keys of an ssh agent a build may use: by fingerprint, by public key, or by comment."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError, RemoteProtocolError
from buildkit_session.services.agent_messages import Identity, fingerprint
from buildkit_session.services.ssh_wire import WireReader

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ChosenKeys"]

_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}", re.ASCII)
_OTHER_FINGERPRINT: Final = re.compile(r"(MD5|SHA1|SHA256|SHA384|SHA512):", re.ASCII)
_KEY_LINE: Final = re.compile(r"([a-z0-9@.-]+) +(AAAA[A-Za-z0-9+/]+={0,2})(?: .*)?", re.ASCII)
_MAX_LINE: Final = 64 * 1024
"""Bytes of a file with a public key."""


@dataclass(frozen=True, slots=True)
class ChosenKeys:
    """Tells the keys that were chosen from others.

    Attributes:
        fingerprints: of keys.
        comments: of keys; all that have one of these are chosen.
    """

    fingerprints: frozenset[str] = frozenset()
    comments: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, only: Iterable[str | Path]) -> ChosenKeys:
        """Read how a caller names keys. Reads files: call it in a thread.

        Args:
            only: fingerprints (``SHA256:...``), lines with a public key, paths of files with such a line (a ``Path``,
                or a text that ends in ``.pub``), and else comments.

        Raises:
            InputError: a file cannot be read or has no public key, or a fingerprint is not one of these.
        """
        fingerprints, comments = set[str](), set[bytes]()
        for one in only:
            if found := _fingerprint(one):
                fingerprints.add(found)
            else:
                comments.add(str(one).encode("utf-8", "surrogateescape"))
        return cls(frozenset(fingerprints), frozenset(comments))

    def has(self, identity: Identity) -> bool:
        """Whether this key was chosen."""
        return identity.comment in self.comments or fingerprint(identity.blob) in self.fingerprints

    def missing(self, identities: Iterable[Identity]) -> str | None:
        """Name something that was chosen and is no key among these; ``None`` if all are there."""
        there = tuple(identities)
        absent = self.fingerprints - {fingerprint(one.blob) for one in there}
        unsaid = self.comments - {one.comment for one in there}
        return next(iter(sorted(absent) or [one.decode("utf-8", "backslashreplace") for one in sorted(unsaid)]), None)


def _fingerprint(one: str | Path) -> str | None:
    """The fingerprint of a key that is named by anything but a comment."""
    if isinstance(one, Path) or one.endswith(".pub"):
        return _of_file(Path(one))
    if _OTHER_FINGERPRINT.match(one):
        if not _FINGERPRINT.fullmatch(one.rstrip("=")):
            raise InputError(
                f"{one[:100]!r} is no fingerprint of a key; take one from ssh-add -l: SHA256: and 43 letters"
            )
        return one.rstrip("=")
    return _of_line(one)


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            line = opened.read(_MAX_LINE).decode("utf-8", "replace").strip()
    except OSError as error:
        raise InputError(f"public ssh key {path} cannot be read: {error.strerror}") from error
    if (found := _of_line(line)) is None:
        raise InputError(f"{path} has no public ssh key: it must hold one line such as ssh-ed25519 AAAA...")
    return found


def _of_line(line: str) -> str | None:
    if (match := _KEY_LINE.fullmatch(line)) is None:
        return None
    try:
        blob = base64.b64decode(match[2], validate=True)
        kind = WireReader(blob).string().decode("ascii", "replace")
    except (binascii.Error, RemoteProtocolError):
        kind = None
    if kind != match[1]:
        raise InputError(f"the public ssh key of type {match[1][:100]} is damaged; copy its whole line")
    return fingerprint(blob)
