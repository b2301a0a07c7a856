"""The rings, from the innermost to the outermost: each measures what the one before it is a part of.

A ring is a module with ``run(bench)``, which fills ``bench.results``; a contestant that is missing is no error but a
result: "not run", and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.rings import builds, codec, crowd, http2, loop, session, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.workbench import Workbench

__all__ = ["RINGS"]

RINGS: Final[Mapping[str, Callable[[Workbench], None]]] = {
    "codec": codec.run,
    "http2": http2.run,
    "session": session.run,
    "startup": startup.run,
    "crowd": crowd.run,
    "loop": loop.run,
    "builds": builds.run,
}
"""By name, in the order they are run: the longest last."""
