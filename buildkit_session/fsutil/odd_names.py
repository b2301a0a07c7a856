"""Names that are not UTF-8, on their way to a daemon that may not take them.

File names are bytes; the protocol has text. Docker 20.10 takes any bytes, and so does a buildkitd with BuildKit's own
codec, while Docker 28.5 breaks the stream off at the first name, or target of a symbolic link, that is not UTF-8.
Nothing a daemon says beforehand tells which kind it is. So such names are sent, the first of each transfer is
remembered until the daemon has confirmed the transfer, and is named when the daemon complains.

Source: moby/buildkit:util/grpcutil/encoding/proto (BuildKit's codec); protocolbuffers/protobuf-go checks by default.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.validate import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["OddNames", "is_utf8"]

COMPLAINT: Final = "invalid UTF-8"
"""What every version of the daemon's protobuf libraries has in its error."""


def is_utf8(name: bytes) -> bool:
    """Tell whether ``name`` is text, as a protobuf string must be; surrogates are none."""
    if name.isascii():
        return True
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class OddNames:
    """The names that the transfers of a session have sent and no daemon has confirmed."""

    def __init__(self) -> None:
        self._running: set[_Transfer] = set()
        self._refused: Stat | None = None

    @contextmanager
    def transfer(self) -> Iterator[Callable[[Stat], None]]:
        """Watch one transfer; leaving the block without an error means that the daemon took everything.

        Returns:
            What is to be called with each entry before it is sent.
        """
        transfer = _Transfer()
        self._running.add(transfer)
        try:
            yield transfer.see
        except BaseException:
            self._refused = self._refused or transfer.odd
            raise
        finally:
            self._running.discard(transfer)

    def explain(self, complaint: str) -> TransferError | None:
        """Say which entry a daemon means that ended a build with ``complaint``; ``None`` if it means none.

        The daemon may say so before its end of the transfer has arrived.
        """
        if COMPLAINT not in complaint:
            return None
        entry = self._refused or next((transfer.odd for transfer in self._running if transfer.odd), None)
        return None if entry is None else _refusal(entry)


class _Transfer:
    def __init__(self) -> None:
        self.odd: Stat | None = None

    def see(self, entry: Stat) -> None:
        if self.odd is None and not (is_utf8(entry.path) and is_utf8(entry.linkname)):
            self.odd = entry


def _refusal(entry: Stat) -> TransferError:
    if is_utf8(entry.path):
        which, remedy = f"the symbolic link {shown(entry.path)} leads to {shown(entry.linkname)}", "change it"
    else:
        which, remedy = f"one is {shown(entry.path)}", "rename it"
    # An ignore file that is not UTF-8 itself would not help: daemons replace such bytes before they pass patterns on.
    return TransferError(
        f"this daemon does not take names that are not UTF-8, and {which}; {remedy}, or exclude it in .dockerignore "
        "with a ? for each odd byte (buildkit-session plan lists all such names)",
        path=entry.path,
    )
