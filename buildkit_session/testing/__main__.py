"""Make this machine ready for tests against daemons: install what is missing, fetch what they start, say what there is.

``python -m buildkit_session.testing``. What cannot be had is no failure here: the tests that need it will say so.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from buildkit_session.testing.buildkitd import build_buildkit
from buildkit_session.testing.dockerd import Wanted, build_dockerd, find_dockerd
from buildkit_session.testing.errors import Unavailable
from buildkit_session.testing.machine import busybox, install_packages
from buildkit_session.testing.reference import reference_client
from buildkit_session.testing.registry import find_registry
from buildkit_session.testing.sshd import find_sshd

if TYPE_CHECKING:
    from collections.abc import Callable

_DAEMONS: tuple[Wanted, ...] = ("20.10", "newest")


def main() -> None:
    """Prepare the machine and print one line for each thing that tests need."""
    if address := os.environ.get("DOCKER_HOST"):
        _say(f"Docker: $DOCKER_HOST, {address}")
    else:
        _try("packages", _install)
        for wanted in _DAEMONS:
            _try(f"Docker {wanted}", partial(_describe, wanted))
    _try("docker buildx, to compare with", lambda: reference_client().version)
    _try("busybox", lambda: str(busybox()))
    _try("registry", lambda: str(find_registry()))
    _try("sshd", lambda: str(find_sshd()))
    _try("buildkitd", _build_buildkit)
    _try("Docker built from source", _build_dockerd)


def _try(what: str, find: Callable[[], str]) -> None:
    try:
        _say(f"{what}: {find()}")
    except Unavailable as reason:
        _say(f"{what}: none: {reason}")


def _install() -> str:
    install_packages(say=_say)
    return "all there"


def _build_buildkit() -> str:
    return f"{build_buildkit().version}, built from source"


def _build_dockerd() -> str:
    return build_dockerd().version


def _describe(wanted: Wanted) -> str:
    dockerd = next(find_dockerd(wanted))
    return "; ".join([f"{dockerd.version} ({dockerd.origin})", *dockerd.passed_over])


def _say(text: str) -> None:
    print(text, flush=True)


main()
