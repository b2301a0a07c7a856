"""Start a private Docker daemon, wait until it answers, and end it."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from buildkit_session.errors import InputError
from buildkit_session.testing.dockerd import Dockerd, Wanted, find_dockerd, search_path
from buildkit_session.testing.errors import DaemonUnavailable
from buildkit_session.testing.isolated import check_machine, free_port, isolated, state_folder
from buildkit_session.testing.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Daemon", "Store", "daemon_at", "start_daemon"]

#: Where a daemon keeps its images: in its graph driver's own store, or in that of containerd.
Store: TypeAlias = Literal["classic", "containerd"]

# Bytes: containerd refuses a longer path for a socket, and this is its longest. dockerd then waits 15 s for it,
# and does not say why.
_LONGEST_SOCKET_PATH = 104
_LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A Docker daemon that answers.

    Attributes:
        address: ``unix:///path``, or what :func:`daemon_at` was given.
        version: of the Engine, such as ``28.5.2+dfsg4``.
        api_version: the newest API version it speaks, such as ``1.51``.
        origin: where it comes from, for people: ``installed``, ``Debian sid``, ``DOCKER_HOST``.
        passed_over: why each better one was not taken, for people.
        tcp_address: ``tcp://127.0.0.1:port`` where it was started with ``tcp=True``.
        pid: the process id of a private daemon's dockerd.
        log: the file a private daemon logs to.
        store: where a private daemon keeps its images.
    """

    address: str
    version: str
    api_version: str
    origin: str
    passed_over: tuple[str, ...] = ()
    tcp_address: str | None = None
    pid: int | None = None
    log: Path | None = None
    store: Store | None = None


def daemon_at(address: str, *, origin: str) -> Daemon:
    """Describe a daemon that runs already.

    Args:
        address: ``unix:///path`` or ``tcp://host:port`` (without TLS).
        origin: who named the address, for people.

    Raises:
        DaemonUnavailable: nobody answers there.
    """
    answer = probe(address)
    return Daemon(address=address, version=answer.version, api_version=answer.api_version, origin=origin)


@contextmanager
def start_daemon(
    wanted: Wanted | Path = "installed",
    *,
    store: Store = "classic",
    tcp: bool = False,
    extra_args: Sequence[str] = (),
    directory: Path | None = None,
) -> Iterator[Daemon]:
    """Start a private daemon, wait until it answers, and end it with the block.

    It has no network of its own and touches none: build with network ``none``. The block may end it early by its
    ``pid``. A signal that ends this process without ending the block, as SIGTERM does, ends the daemon as well, but
    leaves the folder with its state behind: ``bks-*`` in ``directory``.

    Args:
        wanted: which daemon (see the package), or the path of a ``dockerd``.
        store: where it keeps its images. With ``containerd`` it exports as ``oci``, several outputs at once, cache and
            attestations; Docker 20.10 has no such store.
        tcp: listen on a free port of 127.0.0.1 too, without TLS: until the end, every user of this machine can become
            root by it.
        extra_args: more arguments for ``dockerd``.
        directory: where its state is kept while it runs, in a folder of its own; the default is the system's temporary
            folder.

    Raises:
        InputError: there is no such daemon or store.
        DaemonUnavailable: no such daemon can be had here, or none of them started.
    """
    _check(wanted, store)
    check_machine(("containerd", "runc"))
    candidates = [Dockerd(wanted, "", str(wanted))] if isinstance(wanted, Path) else find_dockerd(wanted)
    tcp_address = f"tcp://127.0.0.1:{free_port()}" if tcp else None
    # Without --tls=false, Docker 20.10 warns and waits a second for every TCP address.
    listen = ["-H", tcp_address, "--tls=false"] if tcp_address else []
    start = partial(
        _running, store=store, tcp_address=tcp_address, extra_args=[*listen, *extra_args], directory=directory
    )
    with ExitStack() as stack:
        yield _first_that_starts(candidates, start, stack)


def _check(wanted: object, store: object) -> None:
    if not isinstance(wanted, Path) and wanted not in get_args(Wanted):
        raise InputError(f"there is no daemon {wanted!r} to start; name {', '.join(get_args(Wanted))}, or a Path")
    if store not in get_args(Store):
        raise InputError(f"there is no image store {store!r}; name {' or '.join(get_args(Store))}")
    if (wanted, store) == ("20.10", "containerd"):
        raise InputError("Docker 20.10 has no containerd image store; use store='classic', or 'newest'")


def _first_that_starts(
    candidates: Iterable[Dockerd], start: Callable[[Dockerd], AbstractContextManager[Daemon]], stack: ExitStack
) -> Daemon:
    failures: list[DaemonUnavailable] = []
    for dockerd in candidates:
        try:
            daemon = stack.enter_context(start(dockerd))
        except DaemonUnavailable as failure:
            failures.append(failure)
        else:
            return replace(daemon, passed_over=(*dockerd.passed_over, *map(str, failures)))
    raise DaemonUnavailable("\n".join(map(str, failures))) from failures[-1]


@contextmanager
def _running(
    dockerd: Dockerd, *, store: Store, tcp_address: str | None, extra_args: Sequence[str], directory: Path | None
) -> Iterator[Daemon]:
    with state_folder(directory) as home:
        _check_length(home)
        address = f"unix://{home / 'docker.sock'}"
        command = [str(dockerd.path), *_arguments(home, address, store), *extra_args]
        name = f"{dockerd.path} ({dockerd.origin})"
        with isolated(name, command, home, environment=_environment(dockerd)) as process:
            answer = process.first_answer(lambda: probe(address))
            yield Daemon(
                address=address,
                version=answer.version,
                api_version=answer.api_version,
                origin=dockerd.origin,
                tcp_address=tcp_address,
                pid=process.pid,
                log=process.log,
                store=store,
            )


def _check_length(home: Path) -> None:
    path = home / _LONGEST_SOCKET
    if (length := len(os.fsencode(path))) > _LONGEST_SOCKET_PATH:
        raise DaemonUnavailable(
            f"the socket {path} would have a path of {length} bytes, {_LONGEST_SOCKET_PATH} are allowed: "
            "name a shorter directory"
        )


def _arguments(home: Path, address: str, store: Store) -> list[str]:
    # The machine's own /etc/docker/daemon.json is for the machine's own daemon.
    settings = home / "daemon.json"
    # Docker 20.10 reads the file without complaint, and refuses the flag: so it never stands in for the other store.
    classic = {"features": {"containerd-snapshotter": False}}
    settings.write_text(json.dumps(classic if store == "classic" else {}))
    return [
        *(["--feature=containerd-snapshotter=true"] if store == "containerd" else []),
        f"--config-file={settings}",
        *("-H", address),
        *("--data-root", str(home / "data")),
        *("--exec-root", str(home / "exec")),
        *("-p", str(home / "pid")),
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
    ]


def _environment(dockerd: Dockerd) -> dict[str, str]:
    # A daemon brings docker-proxy and docker-init of its own version along.
    own = (dockerd.path.parent, dockerd.path.parent.parent / "bin")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return inherited | {"PATH": os.pathsep.join([*map(str, own), search_path()])}
