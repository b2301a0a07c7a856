"""What a daemon's workers say about it.

Source: moby/buildkit:worker/label/label.go, moby/moby:builder/builder-next/worker/worker.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.messages.moby.buildkit.v1.types import WorkerRecord
    from buildkit_session.messages.pb import Platform

__all__ = ["Worker", "read_workers"]

_SNAPSHOTTER: Final = "org.mobyproject.buildkit.worker.snapshotter"
_HOST_GATEWAY: Final = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
_NO_VERSION: Final = "v0.0.0"


@dataclass(frozen=True, slots=True)
class Worker:
    """A part of a daemon that runs steps.

    Attributes:
        id: chosen by the daemon.
        labels: what it says about itself.
        platforms: what it can run, as ``os/arch[/variant]``.
        version: of its BuildKit; empty where it is not told.
    """

    id: str
    labels: Mapping[str, str]
    platforms: tuple[str, ...]
    version: str = ""

    @property
    def has_containerd_store(self) -> bool:
        """Whether it keeps its images in containerd's store; only those workers of an Engine have a snapshotter."""
        return _SNAPSHOTTER in self.labels

    @property
    def host_gateway(self) -> str | None:
        """The address under which steps reach the daemon's machine, if it is known.

        What is no address is none: it would become a part of the list of hosts that is sent.
        """
        said = self.labels.get(_HOST_GATEWAY, "")
        try:
            return str(ip_address(said))
        except ValueError:
            return None


def read_workers(records: Iterable[WorkerRecord]) -> tuple[Worker, ...]:
    """Take the daemon's own records."""
    return tuple(
        Worker(
            record.id,
            dict(record.labels),
            tuple(map(_platform, record.platforms)),
            _version(record.buildkit_version.version if record.buildkit_version else ""),
        )
        for record in records
    )


def _platform(platform: Platform) -> str:
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)


def _version(said: str) -> str:
    # What was not built by BuildKit's own release has this one.
    return "" if said.startswith(_NO_VERSION) else said
