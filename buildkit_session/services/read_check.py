"""Checks blobs against their digests while they are read, part by part, at the cost of the hash alone.

A daemon reads a blob in windows, one after the other. As long as each begins where the one before has ended, the digest
is known at the last one, before that is handed out; so nobody gets the whole of a blob that is not what its name says.
Who has got all but the end of it does not get that by asking again, unless from the start. Windows in any other order
are not checked: the daemon does so too with whatever it keeps, only in words that do not say where the fault is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from buildkit_session.services.digests import Digest

__all__ = ["ReadCheck"]

MAX_BLOBS: Final = 64
"""Blobs that are followed at once."""


@dataclass(slots=True)
class _Progress:
    offset: int
    computed: Any


class ReadCheck:
    """Follows the blobs of one layout. Threads may share it."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, _Progress] = {}
        self._damaged: set[Digest] = set()

    def is_sound(self, digest: Digest, offset: int, data: bytes, size: int) -> bool:
        """Note a part of a blob; ``False`` if it is the last one, or a later one, and the whole is something else.

        Args:
            digest: names the blob.
            offset: where in it the part begins.
            data: the part.
            size: of the blob.
        """
        # Taken out, so that of two who read the same part only one goes on.
        progress = self._blobs.pop(digest, None)
        if offset == 0:
            progress = _Progress(0, hashlib.new(digest.algorithm))
            self._damaged.discard(digest)  # it may be another file by now
        if progress is None or progress.offset != offset:
            return digest not in self._damaged
        progress.computed.update(data)
        progress.offset += len(data)
        if progress.offset >= size:
            return self._is_right(digest, progress)
        if len(self._blobs) < MAX_BLOBS:
            self._blobs[digest] = progress
        return True

    def _is_right(self, digest: Digest, progress: _Progress) -> bool:
        if progress.computed.hexdigest() == digest.hex:
            return True
        if len(self._damaged) < MAX_BLOBS:
            self._damaged.add(digest)
        return False
