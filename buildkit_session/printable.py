"""Text of a peer, made safe to print: control characters could drive a terminal or forge lines of a log."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Escape what is not printable, line breaks included; ``ü`` and the like stay."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
