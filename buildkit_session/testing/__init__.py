"""Real daemons for tests, demonstrations and benchmarks; no mocks.

.. code-block:: python

    from buildkit_session.testing import start_daemon

    with start_daemon("newest") as daemon:
        print(daemon.version, daemon.address)          # 28.5.2+dfsg4 unix:///tmp/bks-x1/docker.sock

A private daemon lives in mount and process namespaces of its own, with its state in one temporary directory. It ends
with the ``with`` block, or with the process that started it, however that one ends; nothing of it stays mounted or
running. It pulls nothing: images come from ``FROM scratch`` and a static :func:`busybox`, and build steps run with
network ``none``.

What it takes: Linux, root, containerd and runc; :func:`install_packages` fetches them on Debian and Ubuntu. Which
daemon:

========== ====================================================================================================
wanted     where it comes from, first that runs
========== ====================================================================================================
installed  the ``dockerd`` of this machine
20.10      the ``dockerd`` of this machine, if it is a 20.10; Debian bookworm's package
newest     Debian sid's package; Debian trixie's; the ``dockerd`` of this machine, if newer than 20.10
built      built from source by :func:`build_dockerd`, which speaks HTTP/2 on its own socket
========== ====================================================================================================

With ``store="containerd"`` the newest keeps its images in containerd's store. :func:`start_buildkitd` starts BuildKit
without Docker, built from source by :func:`build_buildkit` where there is a Go toolchain; :func:`forward` makes a
stand-in for it of any Docker daemon; :func:`start_builder_container` runs it in a container. What builds talk to:
:func:`start_registry`, which may take its tokens from :func:`start_token_server`, and :func:`start_sshd`.

Debian's packages come from the archive that the machine's own apt is set up for, checked against Debian's signing keys.
They are not installed: they are unpacked below ``$BUILDKIT_SESSION_CACHE`` (default
``$XDG_CACHE_HOME/buildkit_session`` or ``~/.cache/buildkit_session``) and stay there; remove that folder to fetch newer
ones.

Whatever cannot be had here raises :class:`Unavailable`, whose text is a good reason to skip a test.
"""

from __future__ import annotations

from buildkit_session.testing.api import Api, Refused
from buildkit_session.testing.builder_container import BuilderContainer, start_builder_container
from buildkit_session.testing.buildkitd import (
    Buildkitd,
    BuildkitPrograms,
    build_buildkit,
    find_buildkit,
    start_buildkitd,
)
from buildkit_session.testing.certificates import Certificates, make_certificates
from buildkit_session.testing.daemon import Daemon, Store, daemon_at, start_daemon
from buildkit_session.testing.dockerd import Dockerd, Wanted, build_dockerd, find_dockerd
from buildkit_session.testing.errors import DaemonUnavailable, Unavailable
from buildkit_session.testing.forwarder import forward
from buildkit_session.testing.machine import busybox, install_packages
from buildkit_session.testing.reference import ReferenceClient, reference_client
from buildkit_session.testing.registry import Registry, find_registry, start_registry
from buildkit_session.testing.sshd import Sshd, find_sshd, start_sshd
from buildkit_session.testing.token_server import TokenGrant, TokenServer, start_token_server

__all__ = [
    "Api",
    "BuilderContainer",
    "BuildkitPrograms",
    "Buildkitd",
    "Certificates",
    "Daemon",
    "DaemonUnavailable",
    "Dockerd",
    "ReferenceClient",
    "Refused",
    "Registry",
    "Sshd",
    "Store",
    "TokenGrant",
    "TokenServer",
    "Unavailable",
    "Wanted",
    "build_buildkit",
    "build_dockerd",
    "busybox",
    "daemon_at",
    "find_buildkit",
    "find_dockerd",
    "find_registry",
    "find_sshd",
    "forward",
    "install_packages",
    "make_certificates",
    "reference_client",
    "start_builder_container",
    "start_buildkitd",
    "start_daemon",
    "start_registry",
    "start_sshd",
    "start_token_server",
]
