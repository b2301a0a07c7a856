"""Lets content gather, as handing a batch to a thread costs the same whatever is in it.

A sender on the same machine delivers a piece every tenth of a millisecond. Whoever takes each as it comes spends more
on waking up, changing threads and writing little than on the content; after a moment there is much more, in a buffer
that the window of the stream bounds.
"""

from __future__ import annotations

from typing import Final

import anyio

__all__ = ["let_gather"]

MOMENT: Final = 0.002
"""Seconds; short beside what a batch takes to be asked for, sent and written."""

ENOUGH: Final = 512 * 1024
"""Bytes in a batch that make changing threads cheap."""


async def let_gather(size: int) -> None:
    """Wait a moment, if the batch before this one was little.

    Args:
        size: bytes of content in that batch.
    """
    if size < ENOUGH:
        await anyio.sleep(MOMENT)
