"""Start BuildKit in a container of a private Engine, as buildx does for its ``docker-container`` driver.

The image is made from nothing: the static programs of BuildKit, runc with the libraries of this machine, and busybox.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session.testing.api import Api, Refused
from buildkit_session.testing.buildkitd import find_buildkit
from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.errors import DaemonUnavailable, Unavailable
from buildkit_session.testing.machine import busybox

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BuilderContainer", "start_builder_container"]

_IMAGE = "builder-from-scratch"
_START_TIMEOUT = 60.0  # seconds
_POLL_INTERVAL = 0.1
_TAR = {"Content-Type": "application/x-tar"}
_SOCKET = "unix:///run/buildkit/buildkitd.sock"
_LOG_TAIL = 3000


@dataclass(frozen=True, slots=True)
class BuilderContainer:
    """A container with a BuildKit daemon that answers.

    Attributes:
        name: of the container, ``buildx_buildkit_`` and the node's name.
        node: of the builder that buildx would have it for.
        address: of the Engine.
    """

    name: str
    node: str
    address: str


@contextmanager
def start_builder_container(address: str, *, node: str = "parts0") -> Iterator[BuilderContainer]:
    """Start a builder in a container without network, wait until it answers, and remove it with the block.

    Args:
        address: of the Engine that runs the container.
        node: the name of the builder's node.

    Raises:
        DaemonUnavailable: it did not start.
        Unavailable: one of its programs is missing here.
    """
    api = Api(address)
    name = f"buildx_buildkit_{node}"
    api.transfer("POST", f"/images/create?fromSrc=-&repo={_IMAGE}", _root_file_system(), headers=_TAR)
    api.call("POST", f"/containers/create?name={name}", _container(name))
    try:
        api.call("POST", f"/containers/{name}/start")
        _wait(api, name)
        yield BuilderContainer(name, node, address)
    finally:
        api.call("DELETE", f"/containers/{name}?force=true&v=true")
        api.call("DELETE", f"/volumes/{name}_state")
        api.call("DELETE", f"/images/{_IMAGE}?force=true")


def _container(name: str) -> object:
    # Below /var/lib/buildkit lies a volume: the overlay file system does not stack on itself.
    return {
        "Image": _IMAGE,
        "Entrypoint": ["/usr/bin/buildkitd", "--oci-worker-net=host", "--allow-insecure-entitlement=network.host"],
        "Env": ["PATH=/usr/bin:/bin"],
        "HostConfig": {"Privileged": True, "NetworkMode": "none", "Binds": [f"{name}_state:/var/lib/buildkit"]},
    }


def _wait(api: Api, name: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not _answers(api, name):
        if not api.call("GET", f"/containers/{name}/json")["State"]["Running"] or time.monotonic() > deadline:
            log = api.transfer("GET", f"/containers/{name}/logs?stdout=1&stderr=1")[-_LOG_TAIL:]
            raise DaemonUnavailable(f"the builder {name} does not answer; its log:\n{log.decode(errors='replace')}")
        time.sleep(_POLL_INTERVAL)


def _answers(api: Api, name: str) -> bool:
    command = ["/usr/bin/buildctl", "--addr", _SOCKET, "debug", "workers"]
    try:
        started = api.call("POST", f"/containers/{name}/exec", {"AttachStdout": True, "Cmd": command})
        api.transfer(
            "POST", f"/exec/{started['Id']}/start", b'{"Detach": false}', headers={"Content-Type": "application/json"}
        )
        return bool(api.call("GET", f"/exec/{started['Id']}/json")["ExitCode"] == 0)
    except Refused:
        return False  # the container has ended, or not begun


def _root_file_system() -> bytes:
    programs = find_buildkit()
    files = {"usr/bin/buildkitd": programs.buildkitd, "usr/bin/buildctl": programs.buildctl, "bin/busybox": busybox()}
    runc = shutil.which("runc", path=search_path())
    if runc is None:
        raise Unavailable("there is no runc (on Debian and Ubuntu: apt-get install docker.io)")
    files["usr/bin/runc"] = Path(runc)
    files |= {str(library).lstrip("/"): library for library in _libraries(Path(runc))}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, path in files.items():
            archive.add(path.resolve(), name)
        for link in ("bin/sh", "bin/cat"):
            target = tarfile.TarInfo(link)
            target.type, target.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(target)
        for folder in ("tmp", "run", "etc", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return raw.getvalue()


def _libraries(program: Path) -> list[Path]:
    """Name what a program loads, its loader included; nothing for a static one."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=30, check=False).stdout
    words = (word for line in listing.splitlines() for word in line.split() if word.startswith("/"))
    return [Path(word) for word in words]
