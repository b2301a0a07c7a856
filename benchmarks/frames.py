"""HTTP/2 frames of a client, encoded before anything is measured.

Source: RFC 9113, sections 4.1 and 6; grpc/grpc:doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from typing import Final

from hpack import Encoder

__all__ = [
    "ACK",
    "DATA",
    "DEFAULT_WINDOW",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "HEADER_SIZE",
    "INITIAL_WINDOW_SIZE",
    "MAX_PAYLOAD",
    "PING",
    "PREFACE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "frame",
    "message",
    "message_frames",
    "opening",
    "window_update",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
MAX_PAYLOAD: Final = 16384
"""Bytes in a frame: HTTP/2's default, which grpc-go, and so every daemon, never exceeds."""

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8

ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4

INITIAL_WINDOW_SIZE: Final = 4  # a setting
DEFAULT_WINDOW: Final = 65535


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Encode one frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def window_update(stream_id: int, size: int) -> bytes:
    """Let the other side send ``size`` more bytes."""
    return frame(WINDOW_UPDATE, 0, stream_id, size.to_bytes(4, "big"))


def message(body: bytes) -> bytes:
    """Put a body into a gRPC envelope."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def message_frames(stream_id: int, body: bytes) -> list[bytes]:
    """Cut one gRPC message into DATA frames as grpc-go does: no frame holds parts of two messages."""
    data = message(body)
    pieces = (data[start : start + MAX_PAYLOAD] for start in range(0, len(data), MAX_PAYLOAD))
    return [frame(DATA, 0, stream_id, piece) for piece in pieces]


def opening(path: str, *, window: int) -> bytes:
    """Begin a connection whose windows are all ``window`` bytes wide, and call a method on stream 1."""
    settings = frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big"))
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    headers = frame(HEADERS, END_HEADERS, 1, Encoder().encode(fields))
    return PREFACE + settings + window_update(0, window - DEFAULT_WINDOW) + headers
