"""``.token_seed`` in docker's directory: what the keys of token authorities are made of.

The file is shared with docker's own programs. A directory that cannot be written to, as in many containers, costs no
more than that a daemon does not know this client again.

Everything here may block.

Source: moby/buildkit:session/auth/authprovider/tokenseed.go.
"""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FreshSeeds", "SeedSource", "TokenSeeds"]

SIZE: Final = 16

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of the file; an entry has about a hundred."""

PATIENCE: Final = 10.0
"""Seconds to wait for another program that has the file."""

_UNWRITABLE: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_UNREADABLE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM))


class SeedSource(Protocol):
    """Something that has a secret value for each registry."""

    def get(self, host: str, /) -> bytes:
        """The value for a registry, of ``SIZE`` bytes."""
        ...


class FreshSeeds:
    """A random value for each registry, kept in memory alone: whoever has others shares no token with this one.

    All are made of one: a daemon may ask about any number of registries.
    """

    def __init__(self) -> None:
        self._first = secrets.token_bytes(32)

    def __repr__(self) -> str:
        return "<FreshSeeds>"

    def get(self, host: str, /) -> bytes:
        """See :class:`SeedSource`."""
        return hmac.digest(self._first, host.encode(), hashlib.sha256)[:SIZE]


class TokenSeeds:
    """A random value for each registry, the same every time.

    Args:
        directory: docker's; made where it is missing.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._file = Path(directory) / ".token_seed"
        self._known: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<TokenSeeds {self._file}>"

    def get(self, host: str, /) -> bytes:
        """The value for a registry, made when it is first asked for.

        Raises:
            InputError: the file cannot be used, for another reason than permissions.
        """
        with self._lock:
            if host not in self._known:
                try:
                    self._known[host] = self._shared(host)
                except OSError as error:
                    raise InputError(f"{self._file} cannot be used: {error.strerror}") from error
            return self._known[host]

    def _shared(self, host: str) -> bytes:
        with self._locked():
            entries = self._read()
            if (seed := _seed(entries.get(host))) is None:
                seed = secrets.token_bytes(SIZE)
                self._write({**entries, host: {"Seed": base64.b64encode(seed).decode()}})
            return seed

    def _read(self) -> dict[str, Any]:
        try:
            with self._file.open("rb") as opened:
                entries = json.loads(opened.read(MAX_FILE))
        except OSError as error:
            if error.errno in _UNREADABLE:
                return {}
            raise
        except (ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def _write(self, entries: dict[str, Any]) -> None:
        aside = self._file.with_name(f".tmp.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as opened:
                json.dump(entries, opened, indent=2)
            aside.replace(self._file)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
        finally:
            with suppress(OSError):
                aside.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = self._open_lock()
        try:
            if descriptor is not None:
                _lock(descriptor, self._file)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open_lock(self) -> int | None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._file.with_name(".token_seed.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _UNWRITABLE:
                return None
            raise


def _lock(descriptor: int, file: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise InputError(f"{file} is locked by another program") from None
            time.sleep(0.02)
        else:
            return


def _seed(entry: object) -> bytes | None:
    text = entry.get("Seed") if isinstance(entry, dict) else None
    try:
        seed = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    return seed or None
