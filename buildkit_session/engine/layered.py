"""A transport on top of another one, which does the work: what wraps a connection builds on this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.http2.frames import Buffer

__all__ = ["LayeredTransport", "deliver"]


class LayeredTransport(asyncio.Transport):
    """Passes everything on to ``inner`` but protocols, which the layer stands in front of."""

    inner: asyncio.Transport

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See :class:`asyncio.BaseTransport`."""
        return self.inner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """See :class:`asyncio.BaseTransport`."""
        return self.inner.is_closing()

    def close(self) -> None:
        """See :class:`asyncio.BaseTransport`."""
        self.inner.close()

    def abort(self) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self.inner.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See :class:`asyncio.BaseTransport`."""
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See :class:`asyncio.BaseTransport`."""
        return self.protocol

    def is_reading(self) -> bool:
        """See :class:`asyncio.ReadTransport`."""
        return self.inner.is_reading()

    def pause_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`asyncio.ReadTransport`."""
        self.inner.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self.inner.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """See :class:`asyncio.WriteTransport`."""
        return self.inner.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See :class:`asyncio.WriteTransport`."""
        return self.inner.get_write_buffer_limits()

    def write(self, data: Buffer) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self.inner.write(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self.inner.writelines(list_of_data)

    def write_eof(self) -> None:
        """See :class:`asyncio.WriteTransport`."""
        self.inner.write_eof()

    def can_write_eof(self) -> bool:
        """See :class:`asyncio.WriteTransport`."""
        return self.inner.can_write_eof()


def deliver(protocol: asyncio.BaseProtocol, data: memoryview) -> None:
    """Hand received bytes to a protocol of either kind, as a transport does."""
    if isinstance(protocol, asyncio.Protocol):
        protocol.data_received(bytes(data))
        return
    assert isinstance(protocol, asyncio.BufferedProtocol)  # noqa: S101 - the two kinds of stream protocols
    while data:
        room = memoryview(protocol.get_buffer(len(data)))
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
