"""Start a private BuildKit daemon, as it runs without Docker.

It is built from source, as nobody packages it: see :mod:`buildkit_session.testing.go_program`. Its steps run with runc,
and without a network namespace unless a build asks for network ``none``.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_session.testing.certificates import Certificates, make_certificates
from buildkit_session.testing.dockerd import search_path
from buildkit_session.testing.errors import DaemonUnavailable
from buildkit_session.testing.go_program import GoModule
from buildkit_session.testing.isolated import check_machine, free_port, isolated, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["BuildkitPrograms", "Buildkitd", "build_buildkit", "find_buildkit", "start_buildkitd"]

# The version that the Engine of Debian sid has inside; needs Go 1.24.
_VERSION = "v0.25.2"
_MODULE = GoModule(
    "github.com/moby/buildkit",
    _VERSION,
    ("cmd/buildkitd", "cmd/buildctl"),
    tags=("no_containerd_worker",),
    version_variable="github.com/moby/buildkit/version.Version",
)
# On a disk that is nearly full, the daemon would throw away what a test expects to find in its cache.
_SETTINGS = "[worker.oci]\n  gc = false\n"
_ANSWER_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class BuildkitPrograms:
    """The static programs of one version of BuildKit."""

    buildkitd: Path
    buildctl: Path
    version: str


@dataclass(frozen=True, slots=True)
class Buildkitd:
    """A BuildKit daemon that answers.

    Attributes:
        address: ``unix:///path``.
        version: such as ``v0.25.2``.
        programs: its own, and the client of the same version.
        tcp_address: ``tcp://127.0.0.1:port`` where it was started with ``tcp=True``.
        certificates: what a client needs there.
        pid: the process id of the daemon.
        log: the file that it logs to.
    """

    address: str
    version: str
    programs: BuildkitPrograms
    tcp_address: str | None = None
    certificates: Certificates | None = None
    pid: int | None = None
    log: Path | None = None


def find_buildkit() -> BuildkitPrograms:
    """Find the programs of BuildKit in the cache folder.

    Raises:
        Unavailable: they have not been built; the text says how.
    """
    return _programs(_MODULE.found())


def build_buildkit() -> BuildkitPrograms:
    """Find the programs of BuildKit in the cache folder, or build them: two and a half minutes on two cores.

    Raises:
        Unavailable: there is no Go toolchain, or the build failed.
    """
    return _programs(_MODULE.built())


def _programs(folder: Path) -> BuildkitPrograms:
    return BuildkitPrograms(folder / "buildkitd", folder / "buildctl", _VERSION)


@contextmanager
def start_buildkitd(
    *, tcp: bool = False, extra_args: Sequence[str] = (), directory: Path | None = None
) -> Iterator[Buildkitd]:
    """Start a private BuildKit daemon, wait until it answers, and end it with the block.

    Args:
        tcp: listen on a free port of 127.0.0.1 too, with mutual TLS and certificates of its own.
        extra_args: more arguments for ``buildkitd``.
        directory: where its state is kept while it runs, in a folder of its own; the default is the system's temporary
            folder.

    Raises:
        DaemonUnavailable: it did not start; or this machine does not let it run.
        Unavailable: its programs have not been built, or certificates cannot be made here.
    """
    check_machine(("runc",))
    programs = find_buildkit()
    with state_folder(directory) as home:
        address = f"unix://{home / 'buildkitd.sock'}"
        certificates = make_certificates(home) if tcp else None
        tcp_address = f"tcp://127.0.0.1:{free_port()}" if tcp else None
        arguments = [*_arguments(home, address), *_listening(tcp_address, certificates), *extra_args]
        command = [str(programs.buildkitd), *arguments]
        with isolated("buildkitd", command, home, environment=_environment()) as process:
            process.first_answer(lambda: _ask(programs.buildctl, address))
            yield Buildkitd(
                address=address,
                version=programs.version,
                programs=programs,
                tcp_address=tcp_address,
                certificates=certificates,
                pid=process.pid,
                log=process.log,
            )


def _arguments(home: Path, address: str) -> list[str]:
    # The machine's own /etc/buildkit/buildkitd.toml is for the machine's own daemon.
    settings = home / "buildkitd.toml"
    settings.write_text(_SETTINGS)
    return [
        f"--config={settings}",
        f"--root={home / 'data'}",
        f"--addr={address}",
        "--oci-worker-net=host",
        "--allow-insecure-entitlement=network.host",
        "--allow-insecure-entitlement=security.insecure",
    ]


def _listening(tcp_address: str | None, certificates: Certificates | None) -> list[str]:
    if tcp_address is None or certificates is None:
        return []
    return [
        f"--addr={tcp_address}",
        f"--tlscacert={certificates.ca}",
        f"--tlscert={certificates.server_cert}",
        f"--tlskey={certificates.server_key}",
    ]


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUILDKIT")}
    return inherited | {"PATH": search_path()}


def _ask(buildctl: Path, address: str) -> None:
    command = ["--addr", address, "debug", "workers"]
    try:
        subprocess.run([buildctl, *command], capture_output=True, timeout=_ANSWER_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DaemonUnavailable(f"no BuildKit daemon answers at {address}: {error}") from error
