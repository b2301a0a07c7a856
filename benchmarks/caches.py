"""The build cache of a daemon, through the Engine's API and the standard library: no client under test is involved."""

from __future__ import annotations

import json
import socket
import time
from http.client import HTTPConnection
from typing import Any, Final

__all__ = ["CacheNotEmptyError", "empty_cache"]

PATIENCE: Final = 60.0
"""Seconds for everything; the daemon lets go of a cancelled build's cache after a while."""


class CacheNotEmptyError(Exception):
    """Something is kept, so that a build might not send all."""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def empty_cache(address: str) -> None:
    """Remove all that builds have left, so that the next one must send and do everything. Images stay.

    Args:
        address: ``unix:///path``.

    Raises:
        CacheNotEmptyError: the daemon keeps something.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        _call(address, "POST", "/build/prune?all=true")
        if not _call(address, "GET", "/system/df?type=build-cache").get("BuildCache"):
            return
        if time.monotonic() > deadline:
            raise CacheNotEmptyError("the daemon does not let go of its build cache")
        time.sleep(0.5)


def _call(address: str, method: str, path: str) -> dict[str, Any]:
    connection = _UnixConnection(address.removeprefix("unix://"))
    try:
        connection.request(method, path)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()
