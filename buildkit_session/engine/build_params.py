"""The parameters of ``POST /build`` and their encoding in its query string.

Source: moby/moby:api/server/router/build/build_routes.go (newImageBuildOptions).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CLIENT_SESSION", "BuildParams", "Ulimit"]

CLIENT_SESSION = "client-session"

# The name under which an Engine knows its own store whichever that is; "image" exists only with the containerd store.
_ENGINE_NAMES: Final = {"image": "moby"}


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit of RUN steps, such as ``nofile``; ``soft`` and ``hard`` are in the unit of the resource."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildParams:
    """One build, in the Engine's terms. Empty values are left out of the request.

    Attributes:
        build_id: chosen by the client; the handle to cancel the build with.
        session: id of the session that serves the build.
        remote: where the context comes from: ``client-session``, a git or HTTP URL, or empty for the request's body.
        dockerfile: path inside the context, or base name inside the session's directory ``dockerfile``.
        tags: names for the image.
        build_args: a value of ``None`` is dropped by the Engine.
        pull: ask the registry for newer base images.
        network: of RUN steps: ``default``, ``host`` or ``none``.
        platform: one ``os/arch[/variant]``.
        outputs: exporter type and attributes. The Engine takes at most one; none means its own image store.
        extra_hosts: ``host:ip``, with a colon; an IPv6 address without brackets.
        shm_size: bytes.
        cache_from: image references.
    """

    build_id: str
    session: str = ""
    remote: str = CLIENT_SESSION
    dockerfile: str = ""
    tags: Sequence[str] = ()
    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict, repr=False)  # people put secrets there
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False
    network: str = ""
    platform: str = ""
    outputs: Sequence[tuple[str, Mapping[str, str]]] = ()
    extra_hosts: Sequence[str] = ()
    shm_size: int = 0
    ulimits: Sequence[Ulimit] = ()
    cache_from: Sequence[str] = ()

    def query(self) -> str:
        """Encode as a query string, without the question mark."""
        pairs = [("version", "2"), ("buildid", self.build_id)]
        pairs += [("t", tag) for tag in self.tags]
        pairs += [("extrahosts", host) for host in self.extra_hosts]
        pairs += [(name, value) for name, value in self._texts().items() if value]
        pairs += [(name, json.dumps(value)) for name, value in self._objects().items() if value]
        # Text that came from the environment or a file name need not be UTF-8: send the bytes it was made of.
        return urlencode(pairs, quote_via=quote, errors="surrogateescape")

    def _texts(self) -> dict[str, str]:
        return {
            "session": self.session,
            "remote": self.remote,
            "dockerfile": self.dockerfile,
            "target": self.target,
            "nocache": "1" if self.no_cache else "",
            "pull": "1" if self.pull else "",
            "networkmode": self.network,
            "platform": self.platform,
            "shmsize": str(self.shm_size) if self.shm_size else "",
        }

    def _objects(self) -> dict[str, object]:
        return {
            "outputs": [{"Type": _ENGINE_NAMES.get(kind, kind), "Attrs": dict(attrs)} for kind, attrs in self.outputs],
            "buildargs": dict(self.build_args),
            "labels": dict(self.labels),
            "cachefrom": list(self.cache_from),
            "ulimits": [{"Name": item.name, "Soft": item.soft, "Hard": item.hard} for item in self.ulimits],
        }
